"""A calibration says what the evidence of some frames comes to, in time, whatever came."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.calibration_run import FRAMES, LONGEST_FOR_FEW_S, LONGEST_S, CalibrationRun
from depth_anything_ros.scale.fit import ScaleFit
from depth_anything_ros.scale.lasting_factor import LASTING_FACTOR
from depth_anything_ros.scale.range_samples import NO_PAIRS, Pairs

RANDOM = np.random.default_rng(3)


class Run:
    """A run with its results and a clock that passes when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.results: list[ScaleFit | FitRefused] = []
        self.run = CalibrationRun(self.results.append, lambda: self.now_s)

    def result(self) -> ScaleFit | FitRefused:
        """End it."""
        self.run.finish()
        (result,) = self.results
        return result


def readings(scale: float, shift_m: float, count: int = 40) -> Pairs:
    """Pairs between 1 and 8 m, 40 % of them wrong."""
    predicted = RANDOM.uniform(1.0, 8.0, count)
    measured = scale * predicted + shift_m
    wrong = RANDOM.permutation(count) < 0.4 * count
    return Pairs(predicted, np.where(wrong, measured * RANDOM.uniform(0.2, 3.0, count), measured))


def test_frames_of_another_model_are_told_from_those_of_the_first() -> None:
    run = Run().run
    assert [run.is_of_another(model) for model in ("a", "a", "b", "a")] == [False, False, True, False]


def test_whatever_fails_there_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr("depth_anything_ros.scale.calibration_run.fit_scale", fail)
    run = Run()
    run.run.add_pairs(readings(1.0, 0.0))
    assert "the fit failed: singular" in str(run.result())


def test_readings_of_all_frames_are_fitted_together_among_outliers() -> None:
    run = Run()
    for _ in range(FRAMES):
        assert not run.run.has_enough
        run.run.add_pairs(readings(1.3, -0.2))
    assert run.run.has_enough
    fit = run.result()
    assert isinstance(fit, ScaleFit)
    assert (fit.scale, fit.shift_m) == pytest.approx((1.3, -0.2), abs=0.02)
    assert fit.samples == FRAMES * 40
    assert 0.55 < fit.inlier_share < 0.75


def test_of_fits_of_single_frames_the_median_counts() -> None:
    run = Run()
    for scale in (1.21, 1.19, 1.20, 4.0, 0.3):
        run.run.add_fit(ScaleFit(scale, 0.0, 0.01, 0.9, 500, "the ground"))
    assert run.result() == ScaleFit(1.20, 0.0, 0.01, 0.9, 2500, "the ground")


def test_without_a_frame_it_says_so_and_without_evidence_why() -> None:
    assert str(Run().result()) == "no evidence: no frame came"
    run = Run()
    run.run.add_problem("no message on /range near the image's stamp")
    assert str(run.result()) == "no evidence: no message on /range near the image's stamp"


def test_evidence_that_tells_nothing_is_refused() -> None:
    run = Run()
    run.run.add_pairs(NO_PAIRS)
    assert str(run.result()) == "only 0 samples; 20 are needed"
    run = Run()
    run.run.add_pairs(Pairs(RANDOM.uniform(1, 8, 400), RANDOM.uniform(1, 8, 400)))
    assert isinstance(run.result(), FitRefused)


def test_it_is_overdue_after_its_time() -> None:
    run = Run()
    run.now_s = LONGEST_S - 0.01
    assert not run.run.is_overdue
    run.now_s = LONGEST_S
    assert run.run.is_overdue


def test_a_single_beam_is_given_the_time_that_a_fit_needs() -> None:
    run = Run()
    for _ in range(19):
        run.run.add_pairs(Pairs(np.array([2.0]), np.array([2.6])))
    run.now_s = LONGEST_FOR_FEW_S - 0.01
    overdue = [run.run.is_overdue]
    run.run.add_pairs(Pairs(np.array([2.0]), np.array([2.6])))
    overdue.append(run.run.is_overdue)
    assert overdue == [False, True]
    fit = run.result()
    assert isinstance(fit, ScaleFit)
    assert fit.scale == pytest.approx(1.3)


def test_frames_in_which_a_beam_saw_nothing_do_not_end_it() -> None:
    run = Run()
    for number in range(FRAMES):
        run.run.add_pairs(Pairs(np.array([2.0]), np.array([2.6])) if number % 2 else NO_PAIRS)
    assert not run.run.has_enough
    run.now_s = LONGEST_FOR_FEW_S
    assert run.run.is_overdue


def test_one_that_is_given_up_says_why() -> None:
    run = Run()
    run.run.add_pairs(readings(1.3, 0.0))
    run.run.give_up("another calibration was begun")
    assert [str(result) for result in run.results] == ["another calibration was begun"]


def test_a_factor_is_fitted_alone_and_says_when_it_is_right() -> None:
    found: list[ScaleFit | FitRefused] = []
    run = CalibrationRun(found.append)
    predicted = np.linspace(100.0, 800.0, 30)
    for _ in range(3):
        assert not run.is_of_another("da3", "scale_invariant")
        run.add_pairs(Pairs(predicted, 0.01 * predicted))
    run.finish()
    [fit] = found
    assert isinstance(fit, ScaleFit)
    assert fit.scale == pytest.approx(0.01)
    assert fit.shift_m == 0
    assert fit.remark == LASTING_FACTOR


def test_a_factor_that_differs_from_picture_to_picture_is_refused() -> None:
    found: list[ScaleFit | FitRefused] = []
    run = CalibrationRun(found.append)
    predicted = np.linspace(100.0, 800.0, 30)
    for stamp_s in range(5):
        run.is_of_another("da3", "scale_invariant")
        run.add_pairs(Pairs(predicted, 0.01 * 1.5**stamp_s * predicted))
    run.finish()
    [refused] = found
    assert isinstance(refused, FitRefused)
    assert "the factors of 5 pictures differ, from 0.01 to 0.05063" in str(refused)


def evidence_of(factors: list[float], source: str) -> ScaleFit | FitRefused:
    """A run of pictures that have these factors, by a range sensor or by the ground."""
    run = Run()
    for factor in factors:
        run.run.is_of_another("da3", "scale_invariant")
        if source == "ground":
            run.run.add_fit(ScaleFit(factor, 0.0, 0.01, 0.9, 500, "the ground"))
        else:
            predicted = RANDOM.uniform(1.0, 8.0, 40)
            run.run.add_pairs(Pairs(predicted, factor * predicted))
    run.run.finish()
    [result] = run.results
    return result


@pytest.mark.parametrize("source", ["range", "ground"])
def test_one_factor_for_pictures_whose_factors_differ_is_refused_though_most_samples_agree(source: str) -> None:
    """A tenth to either side: within the tolerance of samples, and right for no picture."""
    refused = evidence_of([0.9, 1.0, 1.1] * 10, source)
    assert isinstance(refused, FitRefused)
    assert "from 0.9 to 1.1, by 10% of the middle one; 5% are allowed" in str(refused)


@pytest.mark.parametrize("source", ["range", "ground"])
def test_a_few_pictures_of_something_else_do_not_spoil_a_lasting_factor(source: str) -> None:
    fit = evidence_of([2.0, 2.01, 1.99] * 9 + [2.6, 2.6], source)
    assert isinstance(fit, ScaleFit)
    assert fit.scale == pytest.approx(2.0, rel=0.01)
    assert fit.remark == LASTING_FACTOR
