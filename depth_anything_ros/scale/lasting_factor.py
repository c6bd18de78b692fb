"""One factor for several pictures whose depth is known up to a factor in each.

Nothing says that their factors are the same. So the factor of each is found first, and one for all is refused where
they differ: a middle of them would be right for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.fit import ScaleFit, fit_factor

# Said of every such factor.
LASTING_FACTOR = "depth is known up to a factor in each picture, and one factor is right while the view stays the same"
MAX_OFF = 0.05  # of the middle one: so far the factor of a picture may be off
AGREEING_SHARE = 0.9  # of the pictures; what moves through the view may spoil a few


def fit_lasting(pictures: Sequence[tuple[ArrayLike, ArrayLike]]) -> ScaleFit:
    """Fit one factor to what was predicted and measured in several pictures.

    Args:
        pictures: of each one, depth without a unit and depth in metres, as `fit_factor` takes them.

    Raises:
        FitRefused: as `fit_factor`, or the pictures' factors differ.
    """
    pairs = [np.asarray(picture, np.float64) for picture in pictures]
    check_lasting([factor for predicted, measured in pairs for factor in _factor(predicted, measured)])
    return replace(fit_factor(*np.concatenate(pairs, axis=1)), remark=LASTING_FACTOR)


def _factor(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> list[float]:
    """The factor of one picture, which outliers of less than half of its pairs leave as it is; none without pairs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = measured / predicted
    ratios = ratios[np.isfinite(ratios)]
    return [float(np.median(ratios))] if ratios.size else []


def middle_of_lasting(fits: Sequence[ScaleFit]) -> ScaleFit:
    """Return the middle one of the fits of several pictures. Raises FitRefused: their factors differ."""
    check_lasting([fit.scale for fit in fits])
    return replace(middle(fits), remark=LASTING_FACTOR)


def middle(fits: Sequence[ScaleFit]) -> ScaleFit:
    """Return the fit with the median scale, with residual, inlier share and samples of all fits."""
    median = sorted(fits, key=lambda fit: fit.scale)[len(fits) // 2]
    residual_m, share = (
        float(np.median([getattr(fit, name) for fit in fits])) for name in ("residual_m", "inlier_share")
    )
    return ScaleFit(median.scale, 0.0, residual_m, share, sum(fit.samples for fit in fits), median.remark)


def check_lasting(factors: Sequence[float]) -> None:
    """Raise FitRefused where the factors of several pictures are not one and the same, within `MAX_OFF`."""
    if not factors:
        return
    off = np.abs(np.asarray(factors) / np.median(factors) - 1)
    furthest = float(np.quantile(off, AGREEING_SHARE, method="higher"))
    if not furthest <= MAX_OFF:
        low, high = min(factors), max(factors)
        raise FitRefused(
            f"the factors of {len(factors)} pictures differ, from {low:.4g} to {high:.4g}, by {furthest:.0%} of the "
            f"middle one; {MAX_OFF:.0%} are allowed: one factor is right only while the view stays the same"
        )
