"""Find the line that most samples agree on, among outliers: RANSAC, then reweighted least squares.

Candidates are scored as in MSAC (Torr and Zisserman 2000): by the sum of squared residuals, each cut off at its
sample's tolerance. The best candidate is refined with Tukey's biweight, whose width follows the median residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.settings import FitSettings

Array = NDArray[np.float64]

SCORED_SAMPLES = 1000  # enough to tell candidates apart; the best one is fitted to all samples
STEPS = 8
TUKEY = 4.685  # standard deviations at which the biweight reaches zero: 95 % efficient for normal errors
MAD_TO_SIGMA = 1.4826
MIN_WIDTH = 0.05  # share of the tolerance: residuals below it count as exact


@dataclass(frozen=True)
class LineSamples:
    """Points on a line with noise and outliers: float64 (N,) each, N >= 2. `tolerance` is that of y, positive."""

    x: Array
    y: Array
    tolerance: Array

    def off(self, scale: float, shift: float) -> Array:
        """Return how far each sample is off a line, in tolerances."""
        return (scale * self.x + shift - self.y) / self.tolerance


@dataclass(frozen=True)
class Line:
    """`y = scale * x + shift`.

    Attributes:
        shift_error: standard error of the shift; infinite where it was not fitted.
        inliers: bool (N,), true for samples within their tolerance.
    """

    scale: float
    shift: float
    shift_error: float
    inliers: NDArray[np.bool_]

    @property
    def inlier_share(self) -> float:
        """Share of samples that agree, in [0, 1]."""
        return float(self.inliers.mean())


def fit_line(samples: LineSamples, settings: FitSettings) -> Line:
    """Fit scale and shift: candidates go through one sample of the lower half and one of the upper half.

    Two close samples would say little about the slope.
    """
    rng = np.random.default_rng(settings.seed)
    order, half = np.argsort(samples.x, kind="stable"), samples.x.size // 2
    low, high = order[rng.integers(half, size=settings.trials)], order[-1 - rng.integers(half, size=settings.trials)]
    rise, run = samples.y[high] - samples.y[low], samples.x[high] - samples.x[low]
    scales = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
    return _refined(samples, *_best(samples, scales, samples.y[low] - scales * samples.x[low]), free_shift=True)


def fit_slope(samples: LineSamples, settings: FitSettings, shift: float) -> Line:
    """Fit the scale alone, with a known shift: candidates go through single samples."""
    chosen = np.random.default_rng(settings.seed).integers(samples.x.size, size=settings.trials)
    scales = (samples.y[chosen] - shift) / samples.x[chosen]
    return _refined(samples, *_best(samples, scales, np.full_like(scales, shift)), free_shift=False)


def _best(samples: LineSamples, scales: Array, shifts: Array) -> tuple[float, float]:
    """Return the scale and shift of the line, of (T,), that has the least truncated square error."""
    every = slice(None, None, math.ceil(samples.x.size / SCORED_SAMPLES))
    x, y, tolerance = samples.x[every], samples.y[every], samples.tolerance[every]
    off = (scales[:, None] * x + shifts[:, None] - y) / tolerance
    best = int(np.minimum(off * off, 1.0).sum(axis=1).argmin())
    return float(scales[best]), float(shifts[best])


def _refined(samples: LineSamples, scale: float, shift: float, *, free_shift: bool) -> Line:
    """Refine a line by reweighted least squares: the closer the samples lie to it, the narrower the weights."""
    error = math.inf
    for _ in range(STEPS):
        weights = biweight(samples.off(scale, shift)) / samples.tolerance**2
        total = weights.sum()
        if total <= 0:
            break
        if free_shift:
            scale, shift, error = _weighted_line(samples, weights, total)
        else:
            scale = float((weights * samples.x) @ (samples.y - shift) / (weights * samples.x @ samples.x))
    return Line(scale, shift, error, np.abs(samples.off(scale, shift)) <= 1)


def biweight(off: Array) -> Array:
    """Return Tukey's weights for residuals in tolerances: zero at 1, or below where most residuals are much smaller."""
    size = np.abs(off)
    near = size[size <= 1]
    sigma = MAD_TO_SIGMA * float(np.median(near)) if near.size else 1.0
    return np.clip(1 - (size / min(1.0, max(MIN_WIDTH, TUKEY * sigma))) ** 2, 0, None) ** 2


def _weighted_line(samples: LineSamples, weights: Array, total: float) -> tuple[float, float, float]:
    """Return scale, shift and the shift's standard error."""
    x, y = samples.x, samples.y
    middle_x, middle_y = float(weights @ x / total), float(weights @ y / total)
    spread = float(weights @ (x - middle_x) ** 2)
    if spread <= 1e-12 * total * middle_x**2:  # all at one depth: they tell the scale alone
        return middle_y / middle_x, 0.0, math.inf
    scale = float(weights @ ((x - middle_x) * (y - middle_y)) / spread)
    shift = middle_y - scale * middle_x
    variance = float(weights @ (scale * x + shift - y) ** 2) / max(1, np.count_nonzero(weights) - 2)
    return scale, shift, math.sqrt(variance * (1 / total + middle_x**2 / spread))
