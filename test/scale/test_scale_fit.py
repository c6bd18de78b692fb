"""Scale and shift are found among outliers, and refused where the samples do not tell them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.fit import DepthScale, InverseScale, fit_factor, fit_inverse, fit_scale
from depth_anything_ros.settings import FitSettings

Array = NDArray[np.float64]
SAMPLES = 1000
OUTLIERS = 0.4
NOISE = 0.02  # of depth

scales, shifts_m, seeds = st.floats(0.3, 3.0), st.floats(-0.3, 0.3), st.integers(0, 2**32 - 1)
# What stands in front or behind: anything, always too near, always too far, or one wall.
outliers = st.sampled_from(["anything", "nearer", "further", "wall"])


def spoiled(true_m: Array, kind: str, rng: np.random.Generator) -> Array:
    """Give samples noise, and make exactly 40 % of them wrong."""
    measured = true_m * (1 + NOISE * rng.standard_normal(true_m.size))
    wrong = rng.permutation(true_m.size)[: int(OUTLIERS * true_m.size)]
    factor = {"nearer": rng.uniform(0.1, 0.7, wrong.size), "further": rng.uniform(1.5, 4.0, wrong.size)}
    absolute = {"anything": rng.uniform(0.3, 15.0, wrong.size), "wall": np.full(wrong.size, 2.0)}
    measured[wrong] = absolute[kind] if kind in absolute else true_m[wrong] * factor[kind]
    return measured


@given(scale=scales, shift_m=shifts_m, kind=outliers, seed=seeds)
def test_scale_and_shift_are_recovered_among_40_percent_outliers(
    scale: float, shift_m: float, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    true_m = rng.uniform(1.0, 8.0, SAMPLES)
    fit = fit_scale((true_m - shift_m) / scale, spoiled(true_m, kind, rng))
    assert fit.remark == ""
    assert fit.scale == pytest.approx(scale, rel=0.015)
    assert fit.shift_m == pytest.approx(shift_m, abs=0.04)
    assert 0.58 < fit.inlier_share < 0.72
    assert fit.residual_m < 0.3
    assert fit.samples == SAMPLES


@given(scale=st.floats(0.01, 5.0), far_m=st.floats(10.0, 1000.0), kind=outliers, seed=seeds)
def test_relative_values_become_metres_among_40_percent_outliers(
    scale: float, far_m: float, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    true_m = rng.uniform(1.0, 8.0, SAMPLES)
    relative = (1 / true_m - 1 / far_m) / scale
    fit = fit_inverse(relative, spoiled(true_m, kind, rng))
    assert fit.scale_per_m == pytest.approx(scale, rel=0.025)
    np.testing.assert_allclose(fit.apply(relative), true_m, rtol=0.03)
    assert fit.inlier_share > 0.58


def test_a_few_exact_samples_give_the_exact_line() -> None:
    true_m = np.linspace(1, 6, 25)
    fit = fit_scale((true_m - 0.2) / 1.3, true_m)
    assert fit.numbers == pytest.approx((1.3, 0.2), abs=1e-9)
    assert fit.inlier_share == 1.0
    assert fit.residual_m < 1e-9


def test_the_same_samples_give_the_same_fit() -> None:
    rng = np.random.default_rng(5)
    true_m = rng.uniform(1, 8, 300)
    measured = spoiled(true_m, "anything", rng)
    assert fit_scale(true_m, measured) == fit_scale(true_m, measured)


@given(seed=seeds, scale=scales)
def test_one_depth_tells_the_scale_and_no_shift(seed: int, scale: float) -> None:
    """A wall, with noise that would make any line of it, and 40 % of the readings on something else."""
    rng = np.random.default_rng(seed)
    true_m = rng.uniform(2.9, 3.1, SAMPLES)
    fit = fit_scale(true_m / scale, spoiled(true_m, "anything", rng))
    assert fit.shift_m == 0.0
    assert "scale alone" in fit.remark
    assert fit.scale == pytest.approx(scale, rel=0.015)


def test_exactly_one_predicted_depth_is_no_obstacle() -> None:
    assert fit_scale(np.full(30, 2.0), np.full(30, 3.0)).scale == pytest.approx(1.5)


def test_a_known_shift_is_kept_where_the_samples_do_not_tell_it() -> None:
    true_m = np.linspace(2.9, 3.1, 50)
    fit = fit_scale((true_m - 0.25) / 1.2, true_m, shift_m=0.25)
    assert fit.numbers == pytest.approx((1.2, 0.25))
    assert fit.shift_m == 0.25


def test_few_noisy_samples_tell_no_shift_either() -> None:
    rng = np.random.default_rng(3)
    true_m = rng.uniform(2.0, 3.5, 24)
    fit = fit_scale(true_m, true_m * (1 + 0.07 * rng.standard_normal(24)))
    assert "uncertain" in fit.remark
    assert fit.shift_m == 0.0


def test_an_absurd_shift_is_not_believed() -> None:
    """Samples on a line, but one that no model's error makes: the scale that is left does not fit them either."""
    true_m = np.linspace(2.0, 8.0, 200)
    with pytest.raises(FitRefused, match="agree"):
        fit_scale((true_m + 12.0) / 2.0, true_m)


def test_the_scale_alone_is_fitted_where_that_is_asked() -> None:
    true_m = np.linspace(1.0, 8.0, 200)
    fit = fit_scale(true_m / 1.1, true_m, FitSettings(fit_shift=False))
    assert fit.numbers == pytest.approx((1.1, 0.0))
    assert fit.remark == "only the scale was asked for"


# ---- refusals


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(FitRefused, match="only 19 samples; 20 are needed"):
        fit_scale(np.ones(19), np.ones(19))
    with pytest.raises(FitRefused, match="only 0 samples"):
        fit_scale([], [])


def test_values_that_are_none_do_not_count() -> None:
    none = [np.nan, np.inf, -np.inf, 0.0, -1.0]
    true_m = np.linspace(1, 6, 40)
    fit = fit_scale(np.r_[true_m, none, np.ones(5)], np.r_[true_m * 2, np.ones(5), none])
    assert fit.samples == 40
    assert fit.scale == pytest.approx(2)
    with pytest.raises(FitRefused, match="only 0 samples"):
        fit_scale(none * 10, np.ones(50))


@given(seed=seeds)
def test_samples_that_have_nothing_to_do_with_each_other_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.raises(FitRefused, match=r"agree; 50% are needed|the scale would be"):
        fit_scale(rng.uniform(1, 8, 200), rng.uniform(0.5, 12, 200))


def test_a_scale_beyond_reason_or_upside_down_is_refused() -> None:
    true_m = np.linspace(1, 8, 100)
    with pytest.raises(FitRefused, match=r"scale would be 20; it must be between 0\.1 and 10"):
        fit_scale(true_m / 20, true_m)
    with pytest.raises(FitRefused, match="scale would be -"):
        fit_scale(4.2 - 0.5 * true_m, true_m, FitSettings(max_shift=10))
    with pytest.raises(FitRefused, match="scale would be -"):
        fit_inverse(true_m, true_m)  # depth where inverse depth is expected


def test_agreement_that_is_too_loose_is_refused() -> None:
    rng = np.random.default_rng(2)
    true_m = rng.uniform(1, 8, 500)
    with pytest.raises(FitRefused, match=r"off by .* of depth; 3\.0% are allowed"):
        fit_scale(true_m, true_m * rng.uniform(0.9, 1.1, 500), FitSettings(max_residual=0.03))


def test_relative_depth_of_one_wall_is_refused() -> None:
    true_m = np.linspace(2.9, 3.1, 100)
    with pytest.raises(FitRefused, match=r"spread by a factor of .* needs scale and shift"):
        fit_inverse(1 / true_m, true_m)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(FitRefused, match="30 predicted values cannot be compared with 31"):
        fit_scale(np.ones(30), np.ones(31))


any_values = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=20, max_size=60)


@given(predicted=any_values, measured=any_values)
def test_whatever_the_values_are_a_fit_is_sane_or_refused(predicted: list[float], measured: list[float]) -> None:
    count = min(len(predicted), len(measured))
    for fitted in (fit_scale, fit_inverse):
        try:
            fit = fitted(predicted[:count], measured[:count])
        except FitRefused:
            continue
        assert np.isfinite(fit.numbers).all()
        assert fit.numbers[0] > 0
        assert 0.5 <= fit.inlier_share <= 1


# ---- applying


def as_array(values: list[float]) -> Any:
    return np.array(values, np.float32)


def as_tensor(values: list[float]) -> Any:
    return torch.tensor(values, dtype=torch.float32)


@pytest.mark.parametrize("make", [as_array, as_tensor])
def test_scale_is_applied_to_arrays_and_tensors_alike(make: Any) -> None:
    depth = make([1.0, 2.0, 0.1, float("nan"), float("inf")])
    scaled = DepthScale(2.0, -0.5).apply(depth)
    assert type(scaled) is type(depth)
    assert scaled.dtype == depth.dtype
    np.testing.assert_allclose(np.asarray(scaled), [1.5, 3.5, np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(np.asarray(depth), as_array([1.0, 2.0, 0.1, float("nan"), float("inf")]))
    assert DepthScale(1.0, 0.0).apply(depth) is depth


@pytest.mark.parametrize("make", [as_array, as_tensor])
def test_relative_values_at_or_behind_infinity_have_no_depth(make: Any) -> None:
    relative = make([2.0, 1.0, 0.5, 0.25, float("nan")])
    metres = InverseScale(0.5, -0.25).apply(relative)
    assert metres.dtype == relative.dtype
    np.testing.assert_allclose(np.asarray(metres), [4 / 3, 4.0, np.nan, np.nan, np.nan])


# ---- depth up to a factor


@pytest.mark.parametrize("factor", [1e-4, 0.03, 1.0, 250.0])
def test_depth_up_to_a_factor_of_any_size_is_fitted_by_its_scale_alone(factor: float) -> None:
    rng = np.random.default_rng(0)
    true_m = rng.uniform(1, 8, 1000)
    measured = true_m * rng.normal(1, 0.02, 1000)
    measured[:300] = rng.uniform(0.5, 12, 300)
    fit = fit_factor(true_m / factor, measured)
    assert fit.scale == pytest.approx(factor, rel=0.015)
    assert fit.shift_m == 0.0
    np.testing.assert_allclose(fit.apply(np.array([2.0 / factor])), [2.0], rtol=0.015)
