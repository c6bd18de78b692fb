"""Alignment smooths, holds, falls back and recovers, and says which."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError, NoReading
from depth_anything_ros.scale.alignment import NO_EVIDENCE, Alignment
from depth_anything_ros.scale.fit import DepthScale, Fit, InverseFit, InverseScale, ScaleFit
from depth_anything_ros.scale.sample_pool import SamplePool
from depth_anything_ros.settings import AlignmentSettings

CONFIGURED = DepthScale(1.1, 0.05)
REFUSED = FitRefused("only 3 samples; 20 are needed")
QUICK = AlignmentSettings(time_constant_s=0.0, hold_s=2.0)


def fit(scale: float, shift_m: float = 0.0, remark: str = "") -> ScaleFit:
    return ScaleFit(scale, shift_m, residual_m=0.05, inlier_share=0.9, samples=300, remark=remark)


def inverse(scale: float, shift: float) -> InverseFit:
    return InverseFit(scale, shift, residual_m=0.05, inlier_share=0.9, samples=300)


def test_before_any_evidence_the_configured_scale_applies() -> None:
    alignment = Alignment("metric", CONFIGURED)
    assert (alignment.state.name, alignment.state.applied) == ("waiting", CONFIGURED)
    assert alignment.update(REFUSED, 1.0) == CONFIGURED
    assert alignment.state.reason == str(REFUSED)
    assert alignment.update(None, 100.0) == CONFIGURED
    assert alignment.state.name == "waiting"
    assert Alignment("metric").update(None, 0.0) == DepthScale(1.0, 0.0)


def test_the_first_fit_is_taken_as_it_is() -> None:
    alignment = Alignment("metric", CONFIGURED)
    assert alignment.update(fit(1.5, 0.2, "depths spread little"), 1.0) == DepthScale(1.5, 0.2)
    state = alignment.state
    assert (state.name, state.age_s, state.residual_m, state.inlier_share, state.samples) == (
        "aligned",
        0.0,
        0.05,
        0.9,
        300,
    )
    assert state.reason == "depths spread little"


def test_evidence_lost_is_held_then_given_up_and_taken_up_again() -> None:
    alignment = Alignment("metric", CONFIGURED, QUICK)
    names, applied = [], []
    results: list[ScaleFit | FitRefused | None] = [fit(2.0), REFUSED, REFUSED, REFUSED, None, fit(3.0)]
    for stamp_s, result in zip([0.0, 1.0, 2.0, 2.1, 9.0, 10.0], results, strict=True):
        applied.append(alignment.update(result, stamp_s))
        names.append(alignment.state.name)
    assert names == ["aligned", "holding", "holding", "fallback", "fallback", "aligned"]
    held, again = DepthScale(2.0, 0.0), DepthScale(3.0, 0.0)
    assert applied == [held, held, held, CONFIGURED, CONFIGURED, again]


def test_after_a_fallback_the_old_scale_is_not_smoothed_with() -> None:
    alignment = Alignment("metric", CONFIGURED, AlignmentSettings(time_constant_s=1e6, hold_s=1.0))
    alignment.update(fit(2.0), 0.0)
    alignment.update(REFUSED, 5.0)
    assert alignment.update(fit(3.0), 5.1) == DepthScale(3.0, 0.0)


def test_frames_between_two_readings_change_nothing_until_readings_stay_away() -> None:
    alignment = Alignment("metric", CONFIGURED, QUICK)
    alignment.update(fit(2.0), 0.0)
    assert alignment.update(None, 1.0) == DepthScale(2.0, 0.0)
    assert (alignment.state.name, alignment.state.age_s) == ("aligned", 1.0)
    assert alignment.update(None, 2.5) == CONFIGURED
    assert (alignment.state.name, alignment.state.reason) == ("fallback", "no reading for 2.5 s")


def test_a_step_is_followed_with_the_time_constant_in_log_scale() -> None:
    alignment = Alignment("metric", CONFIGURED, AlignmentSettings(time_constant_s=2.0))
    alignment.update(fit(1.0, 0.0), 0.0)
    for step in range(1, 21):
        applied = alignment.update(fit(4.0, 1.0), step * 0.1)
    done = 1 - math.exp(-1)  # after one time constant
    assert isinstance(applied, DepthScale)
    assert applied.scale == pytest.approx(4.0**done)
    assert applied.shift_m == pytest.approx(done)


@given(fits=st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(-0.3, 0.3), st.floats(0.0, 3.0)), min_size=1))
def test_what_is_applied_stays_between_what_was_fitted(fits: list[tuple[float, float, float]]) -> None:
    alignment, stamp_s = Alignment("metric", CONFIGURED, AlignmentSettings(hold_s=100)), 0.0
    for scale, shift_m, elapsed_s in fits:
        stamp_s += elapsed_s
        applied = alignment.update(fit(scale, shift_m), stamp_s)
    scales, shifts = [f[0] for f in fits], [f[1] for f in fits]
    assert isinstance(applied, DepthScale)
    assert min(scales) - 1e-9 <= applied.scale <= max(scales) + 1e-9
    assert min(shifts) - 1e-9 <= applied.shift_m <= max(shifts) + 1e-9


def test_stamps_that_go_back_start_anew() -> None:
    alignment = Alignment("metric", CONFIGURED, AlignmentSettings(time_constant_s=100.0))
    alignment.update(fit(2.0), 50.0)
    assert alignment.update(REFUSED, 10.0) == CONFIGURED
    assert alignment.state.name == "waiting"
    assert alignment.update(fit(1.5), 10.1) == DepthScale(1.5, 0.0)


def test_a_relative_model_has_nothing_metric_without_evidence() -> None:
    alignment = Alignment("relative", settings=QUICK)
    assert alignment.state.applied is None
    assert alignment.update(REFUSED, 0.0) is None
    assert alignment.update(inverse(0.3, 0.1), 1.0) == InverseScale(0.3, 0.1)
    assert alignment.update(REFUSED, 2.0) is None
    assert alignment.state.name == "fallback"
    assert alignment.update(inverse(0.4, 0.1), 5.0) == InverseScale(0.4, 0.1)


@pytest.mark.parametrize(("kind", "of"), [("relative", inverse), ("scale_invariant", fit)])
@pytest.mark.parametrize("missing", [None, REFUSED, NoReading("no message on /range near the image's stamp")])
def test_a_scale_that_each_picture_has_of_its_own_is_neither_held_nor_smoothed(
    kind: Kind, of: Callable[[float, float], Fit], missing: FitRefused | None
) -> None:
    alignment = Alignment(kind, settings=AlignmentSettings(time_constant_s=1e6, hold_s=1e6))
    names: list[str] = []
    for i, scale in enumerate((2.0, 2.54)):
        applied = alignment.update(of(scale, 0.0), i)
        assert applied is not None
        assert applied.numbers == (scale, 0.0), "the fit of this picture, and nothing of the last one"
        names.append(alignment.state.name)
        assert alignment.update(missing, i + 0.033) is None, "a picture that nothing was measured in has no metres"
        names.append(alignment.state.name)
        assert alignment.state.residual_m is None
        assert alignment.state.reason == str(missing or NO_EVIDENCE)
    assert names == ["aligned", "fallback"] * 2


def test_a_factor_that_was_configured_applies_to_pictures_without_a_reading() -> None:
    alignment = Alignment("scale_invariant", DepthScale(3.0, 0.0))
    alignment.update(fit(2.0), 0.0)
    assert alignment.update(NoReading("no message on /range yet"), 0.1) == DepthScale(3.0, 0.0)
    assert alignment.state.name == "fallback"


def test_what_was_not_measured_is_said_while_nothing_is_aligned_and_does_not_end_what_is() -> None:
    missing = NoReading("no message on /range yet")
    alignment = Alignment("metric", CONFIGURED, QUICK)
    assert alignment.update(missing, 0.0) == CONFIGURED
    assert alignment.state.reason == "no message on /range yet"
    alignment.update(fit(2.0), 1.0)
    assert alignment.update(missing, 2.0) == DepthScale(2.0, 0.0)
    assert alignment.state.name == "aligned"
    assert alignment.update(missing, 4.0) == CONFIGURED
    assert alignment.state.reason == "no reading for 3.0 s: no message on /range yet"


def test_where_no_time_passes_between_images_each_fit_counts() -> None:
    """As from a driver whose stamps stand still: smoothed over no time, the first fit would count for ever."""
    alignment = Alignment("metric", CONFIGURED, AlignmentSettings(time_constant_s=1.0))
    for scale in (2.0, 3.0, 1.5):
        assert alignment.update(fit(scale), 7.0) == DepthScale(scale, 0.0)


def test_the_state_describes_itself_for_diagnostics() -> None:
    alignment = Alignment("relative", settings=QUICK)
    assert alignment.state.describe() == {"state": "waiting", "reason": "no evidence yet"}
    alignment.update(inverse(0.3, 0.1), 1.0)
    described = alignment.state.describe()
    assert (described["state"], described["scale_per_m"], described["shift_per_m"]) == ("aligned", "0.3", "0.1")
    alignment.update(REFUSED, 2.5)
    assert alignment.state.describe() == {"state": "fallback", "age_s": "1.5", "reason": str(REFUSED)}
    metric = Alignment("metric", CONFIGURED, QUICK)
    metric.update(fit(2.0, 0.1), 1.0)
    metric.update(REFUSED, 2.5)
    assert metric.state.describe() == {
        "state": "holding",
        "scale": "2",
        "shift_m": "0.1",
        "residual_m": "0.05",
        "inlier_share": "0.9",
        "samples": "300",
        "age_s": "1.5",
        "reason": str(REFUSED),
    }


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="InverseFit is not a fit for a metric model"):
        Alignment("metric").update(inverse(1.0, 0.0), 0.0)
    with pytest.raises(InputError, match="ScaleFit is not a fit for a relative model"):
        Alignment("relative").update(fit(1.0), 0.0)
    with pytest.raises(InputError, match="must be finite"):
        Alignment("metric").update(None, math.nan)
    with pytest.raises(InputError, match="hold_s must be finite and not negative"):
        Alignment("metric", settings=AlignmentSettings(hold_s=-1.0))


# ---- pairs of some seconds


def test_a_pool_keeps_the_pairs_of_its_window() -> None:
    pool = SamplePool(window_s=1.0)
    assert [values.size for values in pool.pairs()] == [0, 0]
    for step in range(5):
        pool.add(step * 0.5, [step], [10 + step])
    predicted, measured = pool.pairs()
    assert predicted.tolist() == [2, 3, 4]
    assert measured.tolist() == [12, 13, 14]
    pool.add(0.0, [9], [9])  # a bag starts over
    assert pool.pairs()[0].tolist() == [9]
    pool.add(0.0, [8], [8])  # stamps stand still: the pool would grow for ever
    assert pool.pairs()[0].tolist() == [8]
    pool.clear()
    assert pool.pairs()[0].size == 0


def test_a_pool_keeps_older_pairs_while_there_are_too_few() -> None:
    pool = SamplePool(window_s=2.0, min_pairs=4, longest_s=10.0)
    for second in range(8):
        pool.add(second, [second], [second])
    assert pool.pairs()[0].tolist() == [4, 5, 6, 7]
    pool.add(8.0, [8] * 6, [8] * 6)
    assert pool.pairs()[0].tolist() == [6, 7, *[8] * 6], "its window is enough now"
    pool.add(30.0, [30], [30])
    assert pool.pairs()[0].tolist() == [30], "what is too old says nothing, however few are left"


def test_a_pool_keeps_an_even_choice_of_many_pairs() -> None:
    pool = SamplePool(window_s=1.0, max_samples=10)
    pool.add(0.0, np.arange(95), np.arange(95))
    predicted, measured = pool.pairs()
    assert 9 <= predicted.size <= 10
    assert predicted.max() > 80
    np.testing.assert_array_equal(predicted, measured)


def test_a_pool_may_be_filled_and_read_by_two_threads() -> None:
    pool = SamplePool(window_s=500)
    done = threading.Event()

    def fill() -> None:
        for step in range(2000):
            pool.add(step, [step, step], [step, step])
        done.set()

    thread = threading.Thread(target=fill)
    thread.start()
    while not done.is_set():
        predicted, measured = pool.pairs()
        np.testing.assert_array_equal(predicted, measured)
    thread.join()
    assert pool.pairs()[0].size == 2 * 501
