"""Depth metrics: closed forms, the usual crops, and what happens to pixels without a value."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.metrics import CROPS, DepthMetrics, crop_region, evaluate_depth, mean_metrics

ERRORS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
ACCURACIES = ("delta1", "delta2", "delta3")


def scene(height: int = 30, width: int = 40, seed: int = 0) -> NDArray[np.float64]:
    """Depths from 1 to 10 m, (H, W)."""
    return np.random.default_rng(seed).uniform(1, 10, (height, width))


def full(value: float) -> NDArray[np.float64]:
    return np.full((480, 640), value)


def test_a_perfect_prediction_has_no_error() -> None:
    scores = evaluate_depth(scene(), scene())
    assert [getattr(scores, name) for name in ERRORS] == [0.0] * 6
    assert [getattr(scores, name) for name in ACCURACIES] == [1.0] * 3
    assert (scores.pixels, scores.scale, scores.coverage) == (1200, 1.0, 1.0)


@pytest.mark.parametrize("factor", [0.4, 0.9, 1.2, 1.3, 1.9, 3.0])
def test_a_constant_factor_gives_the_closed_forms(factor: float) -> None:
    truth = scene()
    scores = evaluate_depth(truth * factor, truth)
    off = abs(factor - 1)
    assert scores.abs_rel == pytest.approx(off)
    assert scores.sq_rel == pytest.approx(off**2 * truth.mean())
    assert scores.rmse == pytest.approx(off * math.sqrt((truth**2).mean()))
    assert scores.rmse_log == pytest.approx(abs(math.log(factor)))
    assert scores.log10 == pytest.approx(abs(math.log10(factor)))
    assert scores.silog == pytest.approx(0, abs=1e-10)
    ratio = max(factor, 1 / factor)
    assert [getattr(scores, name) for name in ACCURACIES] == [float(ratio < 1.25**power) for power in (1, 2, 3)]


def test_two_pixels_by_hand() -> None:
    scores = evaluate_depth(np.array([[2.0, 3.0]]), np.array([[1.0, 4.0]]))
    d = (math.log(2), math.log(3 / 4))
    assert scores.abs_rel == pytest.approx((1 + 1 / 4) / 2)
    assert scores.sq_rel == pytest.approx((1 + 1 / 4) / 2)
    assert scores.rmse == pytest.approx(1.0)
    assert scores.rmse_log == pytest.approx(math.sqrt((d[0] ** 2 + d[1] ** 2) / 2))
    assert scores.log10 == pytest.approx((math.log10(2) - math.log10(3 / 4)) / 2)
    mean_of_squares, mean = (d[0] ** 2 + d[1] ** 2) / 2, (d[0] + d[1]) / 2
    assert scores.silog == pytest.approx(100 * math.sqrt(mean_of_squares - mean**2))
    assert (scores.delta1, scores.delta2, scores.delta3) == (0.0, 0.5, 0.5)


def test_a_ratio_of_exactly_one_and_a_quarter_is_not_below_it() -> None:
    assert evaluate_depth(np.array([[1.25]]), np.array([[1.0]])).delta1 == 0.0
    assert evaluate_depth(np.array([[1.0]]), np.array([[1.25]])).delta1 == 0.0


# ---- which pixels count


def test_truth_that_is_not_finite_or_out_of_range_does_not_count() -> None:
    truth = np.array([[math.nan, math.inf, -math.inf, 0.0, -1.0, 0.5, 81.0, 1.0, 80.0, 5.0]])
    scores = evaluate_depth(np.full_like(truth, 5.0), truth, min_depth_m=1.0)
    assert scores.pixels == 3
    assert scores.coverage == 1.0
    assert evaluate_depth(np.full_like(truth, 5.0), truth, min_depth_m=1.0, max_depth_m=None).pixels == 4


def test_predictions_are_clamped_into_the_range() -> None:
    truth = np.array([[1.0, 2.0, 3.0, 4.0]])
    wild = np.array([[-7.0, 0.0, math.inf, 1000.0]])
    expected = evaluate_depth(np.array([[0.5, 0.5, 8.0, 8.0]]), truth, min_depth_m=0.5, max_depth_m=8.0)
    assert evaluate_depth(wild, truth, min_depth_m=0.5, max_depth_m=8.0) == expected
    assert evaluate_depth(-wild, truth, min_depth_m=0.5, max_depth_m=8.0).coverage == 1.0  # with -inf


def test_a_missing_prediction_lowers_the_coverage() -> None:
    truth = scene()
    predicted = truth * 1.1
    predicted[:10] = math.nan
    truth[20:] = 0.0
    scores = evaluate_depth(predicted, truth)
    assert scores.pixels == 400
    assert scores.coverage == 0.5
    assert scores.abs_rel == pytest.approx(0.1)


def test_without_an_end_to_clamp_to_an_infinite_prediction_is_missing() -> None:
    truth = scene()
    predicted = truth.copy()
    predicted[0] = math.inf
    scores = evaluate_depth(predicted, truth, max_depth_m=None)
    assert scores.coverage == pytest.approx(29 / 30)
    assert scores.rmse == 0.0


def test_integers_and_single_precision_are_taken_and_left_as_they_were() -> None:
    truth = np.array([[1, 2], [3, 4]], np.uint16)
    predicted = np.array([[-1, 2], [3, 4]], np.float32)
    kept = predicted.copy()
    assert evaluate_depth(predicted, truth, min_depth_m=1).rmse == 0.0
    np.testing.assert_array_equal(predicted, kept)


# ---- crops


@pytest.mark.parametrize(
    ("crop", "shape", "rows", "columns"),
    [
        ("none", (480, 640), (0, 480), (0, 640)),
        ("eigen_nyu", (480, 640), (45, 471), (41, 601)),
        ("garg_kitti", (375, 1242), (153, 371), (44, 1197)),
        ("eigen_kitti", (375, 1242), (124, 342), (44, 1197)),
        ("garg_kitti", (352, 1216), (143, 349), (43, 1172)),
    ],
)
def test_crops_have_the_usual_corners(
    crop: str, shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    assert crop_region(crop, shape) == (slice(*rows), slice(*columns))
    truth = np.ones(shape)
    pixels = (rows[1] - rows[0]) * (columns[1] - columns[0])
    assert evaluate_depth(truth, truth, crop=crop).pixels == pixels
    outside = np.full(shape, 9.0)
    outside[slice(*rows), slice(*columns)] = 1.0
    assert evaluate_depth(outside, truth, crop=crop).rmse == 0.0


def test_the_nyu_crop_is_refused_for_other_sizes() -> None:
    with pytest.raises(InputError, match=r"eigen_nyu .* 480 x 640 pixels only, got 30 x 40"):
        evaluate_depth(scene(), scene(), crop="eigen_nyu")


# ---- median scaling


def test_median_scaling_finds_the_factor() -> None:
    truth = scene()
    scores = evaluate_depth(truth * 0.25, truth, median_scaling=True)
    assert scores.scale == pytest.approx(4.0)
    assert scores.abs_rel == pytest.approx(0, abs=1e-12)
    assert evaluate_depth(truth * 0.25, truth).scale == 1.0


def test_the_median_is_of_the_pixels_that_are_scored() -> None:
    truth = scene()
    predicted = truth / 2
    truth[:14], predicted[:14] = 0.0, 1e6
    assert evaluate_depth(predicted, truth, median_scaling=True).scale == pytest.approx(2.0)


@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_with_median_scaling_the_scale_of_predictions_changes_nothing(factor: float, seed: int) -> None:
    truth = scene(seed=seed)
    predicted = truth * np.random.default_rng(seed + 1).uniform(0.5, 2, truth.shape)
    one = evaluate_depth(predicted, truth, median_scaling=True)
    other = evaluate_depth(predicted * factor, truth, median_scaling=True)
    assert other.scale * factor == pytest.approx(one.scale)
    for name in (*ERRORS, *ACCURACIES):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)


@pytest.mark.parametrize("median", [0.0, -1.0, math.inf])
def test_a_median_that_cannot_be_scaled_by_is_refused(median: float) -> None:
    with pytest.raises(InputError, match="median"):
        evaluate_depth(full(median), full(3.0), median_scaling=True)


# ---- errors


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(InputError, match=r"\(30, 40\) and \(40, 30\)"):
        evaluate_depth(scene(), scene(40, 30))
    with pytest.raises(InputError, match=r"\(1, 30, 40\)"):
        evaluate_depth(scene()[None], scene()[None])


@pytest.mark.parametrize(("predicted", "truth"), [(1.0, 0.0), (math.nan, 1.0), (1.0, 90.0), (1.0, math.nan)])
def test_without_a_pixel_to_score_there_is_no_score(predicted: float, truth: float) -> None:
    with pytest.raises(InputError, match="nothing to score"):
        evaluate_depth(full(predicted), full(truth))


def test_an_unknown_crop_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=f"'nyu'; known: {', '.join(CROPS)}"):
        evaluate_depth(scene(), scene(), crop="nyu")


@pytest.mark.parametrize("limits", [(0.0, 80.0), (-1.0, 80.0), (5.0, 5.0), (math.nan, 80.0), (1.0, math.nan)])
def test_a_range_without_width_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(SettingsError, match="range"):
        evaluate_depth(scene(), scene(), min_depth_m=limits[0], max_depth_m=limits[1])


# ---- means


def test_the_mean_counts_every_image_the_same_and_adds_pixels() -> None:
    one = evaluate_depth(scene() * 1.1, scene())
    other = evaluate_depth(scene(3, 4) * 1.5, scene(3, 4))
    mean = mean_metrics([one, other])
    assert mean.pixels == 1212
    assert mean.abs_rel == pytest.approx(0.3)
    assert mean.delta1 == 0.5
    for name, value in asdict(mean).items():
        if name != "pixels":
            assert value == pytest.approx((getattr(one, name) + getattr(other, name)) / 2)


def test_the_mean_of_one_is_that_one_and_of_none_an_error() -> None:
    one: DepthMetrics = replace(evaluate_depth(scene() * 1.1, scene()), coverage=0.5)
    assert mean_metrics([one]) == one
    nothing: list[Any] = []
    with pytest.raises(InputError):
        mean_metrics(nothing)
