"""How far predicted depth is from the truth, in the measures the field publishes.

Eigen et al. 2014, "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network": AbsRel,
SqRel, RMSE, RMSE(log) and the three delta accuracies. SILog is the KITTI depth benchmark's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import InputError, SettingsError

Region = tuple[slice, slice]
DELTA = 1.25


@dataclass(frozen=True)
class DepthMetrics:
    """Scores of one depth map, or their averages over several.

    With p the prediction and t the truth, in metres, over the pixels that are scored:

    Attributes:
        abs_rel, sq_rel: mean of |p - t| / t and of (p - t)^2 / t, the latter in metres.
        rmse: root of the mean of (p - t)^2, in metres.
        rmse_log: the same of ln p - ln t.
        log10: mean of |log10 p - log10 t|.
        silog: 100 sqrt(mean(d^2) - mean(d)^2) with d = ln p - ln t; a common factor changes nothing.
        delta1, delta2, delta3: share of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3.
        pixels: how many were scored; of several maps, their sum.
        scale: what predictions were multiplied by; 1 without median scaling.
        coverage: share of the pixels with a truth that had a prediction. Below 1, the scores say
            nothing about the rest.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    silog: float
    delta1: float
    delta2: float
    delta3: float
    pixels: int
    scale: float
    coverage: float


def evaluate_depth(
    predicted: NDArray[Any],
    truth: NDArray[Any],
    *,
    min_depth_m: float = 1e-3,
    max_depth_m: float | None = 80.0,
    crop: str = "none",
    median_scaling: bool = False,
) -> DepthMetrics:
    """Score a depth map against the truth.

    A pixel has a truth where that is finite and within [min_depth_m, max_depth_m]. Predictions are
    clamped into the same range, as published evaluation code does, so an infinite one stands for its
    end. NaN is a missing prediction (so is an infinite one where there is no end to clamp it to): it
    is left out of every score and counted in `coverage`.

    Args:
        predicted, truth: metres, (H, W), any real dtype.
        min_depth_m, max_depth_m: the range that counts; None has no upper end.
        crop: a name in `CROPS`; only pixels inside it count.
        median_scaling: multiply predictions by median(truth) / median(predicted) before they are
            clamped (Zhou et al. 2017), for networks that do not know the scale.

    Raises:
        InputError: arrays that are not (H, W) or differ in size, a size the crop is not defined for,
            no pixel to score, or a median that cannot be scaled by.
        SettingsError: a range without positive width, or an unknown crop.
    """
    _check(predicted, truth, min_depth_m, max_depth_m)
    region = crop_region(crop, truth.shape)
    p, t = (np.asarray(array[region], np.float64) for array in (predicted, truth))
    upper = math.inf if max_depth_m is None else max_depth_m
    has_truth = np.isfinite(t) & (t >= min_depth_m) & (t <= upper)
    has_both = has_truth & (np.isfinite(p) if max_depth_m is None else ~np.isnan(p))
    if not has_both.any():
        raise InputError(
            f"nothing to score: of {t.size} pixels, {int(has_truth.sum())} have a truth between "
            f"{min_depth_m:g} and {upper:g} m, and none of those has a prediction"
        )
    p, t = p[has_both], t[has_both]
    scale = _median_scale(p, t) if median_scaling else 1.0
    return _scores(np.clip(p * scale, min_depth_m, upper), t, scale, t.size / int(has_truth.sum()))


def mean_metrics(scores: Sequence[DepthMetrics]) -> DepthMetrics:
    """Average over images, each counting the same; `pixels` is the sum. Raises InputError for none."""
    if not scores:
        raise InputError("no scores to average")
    names = [field.name for field in fields(DepthMetrics) if field.name != "pixels"]
    means = {name: math.fsum(getattr(score, name) for score in scores) / len(scores) for name in names}
    return DepthMetrics(pixels=sum(score.pixels for score in scores), **means)


def _check(predicted: NDArray[Any], truth: NDArray[Any], min_depth_m: float, max_depth_m: float | None) -> None:
    if predicted.ndim != 2 or predicted.shape != truth.shape:
        raise InputError(
            f"prediction and truth must be two depth maps (H, W) of one size, got {predicted.shape} and {truth.shape}"
        )
    upper = math.inf if max_depth_m is None else max_depth_m
    if not 0 < min_depth_m < upper:  # NaN fails too; logarithms and ratios need more than 0
        raise SettingsError(f"the depth range must be 0 < minimum < maximum, got {min_depth_m} to {max_depth_m}")


def _median_scale(p: NDArray[np.float64], t: NDArray[np.float64]) -> float:
    median = float(np.median(p))
    if not 0 < median < math.inf:
        raise InputError(f"predictions with a median of {median:g} m cannot be scaled to the truth")
    return float(np.median(t)) / median


def _scores(p: NDArray[np.float64], t: NDArray[np.float64], scale: float, coverage: float) -> DepthMetrics:
    error, log_error = p - t, np.log(p) - np.log(t)
    ratio = np.maximum(p / t, t / p)
    return DepthMetrics(
        abs_rel=float(np.mean(np.abs(error) / t)),
        sq_rel=float(np.mean(error**2 / t)),
        rmse=math.sqrt(np.mean(error**2)),
        rmse_log=math.sqrt(np.mean(log_error**2)),
        log10=float(np.mean(np.abs(log_error))) / math.log(10),
        silog=100 * float(np.std(log_error)),  # the same number, but never the root of a negative rounding error
        delta1=float(np.mean(ratio < DELTA)),
        delta2=float(np.mean(ratio < DELTA**2)),
        delta3=float(np.mean(ratio < DELTA**3)),
        pixels=t.size,
        scale=scale,
        coverage=coverage,
    )


# ---- crops


def crop_region(crop: str, shape: tuple[int, ...]) -> Region:
    """Return the rows and columns of a crop in a depth map of `shape` (H, W).

    Raises:
        SettingsError: unknown crop. InputError: it is not defined for this size.
    """
    if crop not in CROPS:
        raise SettingsError(f"unknown crop {crop!r}; known: {', '.join(CROPS)}")
    height, width = shape
    return CROPS[crop](height, width)


def _whole(height: int, width: int) -> Region:
    return slice(0, height), slice(0, width)


def _eigen_nyu(height: int, width: int) -> Region:
    if (height, width) != (480, 640):
        raise InputError(f"crop eigen_nyu is defined for 480 x 640 pixels only, got {height} x {width}")
    return slice(45, 471), slice(41, 601)


def _fractions(top: float, bottom: float, left: float, right: float) -> Callable[[int, int], Region]:
    def region(height: int, width: int) -> Region:
        # Cut off, not rounded, as the code does that published figures come from.
        return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))

    return region


# The numbers of Eigen et al. 2014 and Garg et al. 2016, as evaluation code has passed them on since Monodepth
# (Godard et al. 2017).
CROPS: dict[str, Callable[[int, int], Region]] = {
    "none": _whole,
    "eigen_nyu": _eigen_nyu,
    "eigen_kitti": _fractions(0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "garg_kitti": _fractions(0.40810811, 0.99189189, 0.03594771, 0.96405229),
}
