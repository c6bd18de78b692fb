"""Scale and shift of depth, fitted to samples of which many may be wrong.

A metric model's depth is off by a scale and a shift: `measured = scale * predicted + shift_m`. A relative
model's values are inverse depth but for the same two: `1 / measured = scale_per_m * relative + shift_per_m`
(Ranftl et al. 2020). Both are lines. RANSAC finds the one that most samples agree on, scored as in MSAC (Torr
and Zisserman 2000); least squares with Tukey's biweight make it precise. docs/scale.md has the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depth_anything_ros.errors import FitRefused
from depth_anything_ros.settings import FitSettings

Array = NDArray[np.float64]
Depth = TypeVar("Depth")  # a NumPy array or a torch tensor

MAX_DEPTH_M = 1000.0  # inverse depth of less is no depth
SCORED_SAMPLES = 1000  # enough to tell lines apart; the winner is fitted to all
STEPS = 8
TUKEY = 4.685  # standard deviations at which the biweight reaches zero: 95 % efficient for normal errors
MAD_TO_SIGMA = 1.4826
MIN_WIDTH = 0.05  # of the tolerance: what is closer counts as exact


@dataclass(frozen=True)
class DepthScale:
    """What makes a metric model's depth right: `scale * depth + shift_m`."""

    scale: float
    shift_m: float

    @property
    def numbers(self) -> tuple[float, float]:
        """Scale and shift."""
        return self.scale, self.shift_m

    def apply(self, depth: Depth) -> Depth:
        """Scale depth in metres, a float array or torch tensor of any shape.

        Returns:
            A new one of the same kind and dtype, NaN where the result would not be positive; `depth`
            itself where scale and shift change nothing.
        """
        if self.numbers == (1.0, 0.0):
            return depth
        scaled: Any = depth * self.scale + self.shift_m  # type: ignore[operator]
        scaled[scaled <= 0] = math.nan
        return scaled  # type: ignore[no-any-return]


@dataclass(frozen=True)
class InverseScale:
    """What makes metres of relative depth: `1 / (scale_per_m * relative + shift_per_m)`."""

    scale_per_m: float
    shift_per_m: float

    @property
    def numbers(self) -> tuple[float, float]:
        """Scale and shift."""
        return self.scale_per_m, self.shift_per_m

    def apply(self, relative: Depth) -> Depth:
        """Turn relative depth, a float array or torch tensor of any shape, into metres.

        Returns:
            A new one of the same kind and dtype; NaN where it would be at infinity, behind it, or beyond `MAX_DEPTH_M`.
        """
        inverse: Any = relative * self.scale_per_m + self.shift_per_m  # type: ignore[operator]
        inverse[inverse < 1 / MAX_DEPTH_M] = math.nan
        return 1 / inverse  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ScaleFit(DepthScale):
    """Fitted scale and shift of a metric model.

    Attributes:
        residual_m: root mean square of what the agreeing samples are off by, in metres.
        inlier_share: agreeing samples of all usable ones, in [0, 1].
        samples: how many were usable.
        remark: why the shift was not fitted; empty where it was.
    """

    residual_m: float
    inlier_share: float
    samples: int
    remark: str = ""


@dataclass(frozen=True)
class InverseFit(InverseScale):
    """Fitted scale and shift of a relative model; attributes as in `ScaleFit`."""

    residual_m: float
    inlier_share: float
    samples: int


Fit = ScaleFit | InverseFit


def fit_scale(
    predicted: ArrayLike, measured: ArrayLike, settings: FitSettings | None = None, *, shift_m: float = 0.0
) -> ScaleFit:
    """Fit `measured = scale * predicted + shift_m`.

    Args:
        predicted, measured: depth in metres, of the same shape; pairs with a value that is not a positive finite
            number are left out.
        shift_m: taken where the samples do not tell the shift, or it is not asked for.

    Raises:
        FitRefused: too few samples, too few that agree, they are off too far, or a scale out of range.
    """
    settings = settings or FitSettings()
    x, y = _usable(predicted, measured, settings)
    samples = _Samples(x, y, np.maximum(settings.tolerance * y, settings.min_tolerance_m))
    line = _fit_line(samples, settings)
    remark = _why_no_shift(line, y, settings)
    if remark:
        line = _fit_slope(samples, settings, shift_m)
    off_m = (line.scale * x + line.shift - y)[line.inliers]
    residual_m, residual = _root_mean_squares(off_m, y[line.inliers])
    check_fit(line.scale, line.inlier_share, residual, x.size, settings)
    return ScaleFit(line.scale, line.shift, residual_m, line.inlier_share, x.size, remark)


def fit_inverse(relative: ArrayLike, measured: ArrayLike, settings: FitSettings | None = None) -> InverseFit:
    """Fit `1 / measured = scale_per_m * relative + shift_per_m`.

    Args:
        relative: affine-invariant inverse depth, larger is nearer. measured: depth in metres, of the same shape.
            Pairs with a value that is not a positive finite number are left out.

    Raises:
        FitRefused: as `fit_scale`, or the samples do not tell the shift: without it there is no depth.
    """
    settings = settings or FitSettings()
    x, z = _usable(relative, measured, settings)
    y = 1 / z
    # An error of dz is one of dz / z^2 in inverse depth, to first order; half of it keeps depth finite.
    samples = _Samples(x, y, np.minimum(np.maximum(settings.tolerance * z, settings.min_tolerance_m) * y**2, y / 2))
    line = _fit_line(samples, settings)
    reason = _too_flat(line, y, settings)
    if reason:
        raise FitRefused(f"{reason}; relative depth becomes metres with both only")
    z = z[line.inliers]
    off_m = 1 / (line.scale * x + line.shift)[line.inliers] - z
    residual_m, residual = _root_mean_squares(off_m, z)
    any_scale = (0.0, math.inf)  # relative depth has no unit
    check_fit(line.scale, line.inlier_share, residual, x.size, settings, any_scale)
    return InverseFit(line.scale, line.shift, residual_m, line.inlier_share, x.size)


def check_fit(
    scale: float,
    inlier_share: float,
    residual: float,
    samples: int,
    settings: FitSettings,
    scale_range: tuple[float, float] | None = None,
) -> None:
    """Refuse a bad fit; `residual` is a share of depth.

    Raises:
        FitRefused: says which number is out of its bounds, and these.
    """
    low, high = scale_range or (settings.min_scale, settings.max_scale)
    if inlier_share < settings.min_inlier_share:
        raise FitRefused(
            f"only {inlier_share:.0%} of {samples} samples agree; needed are {settings.min_inlier_share:.0%}"
        )
    if not low < scale < high:
        raise FitRefused(f"the scale would be {scale:.4g}; allowed is more than {low:g} and less than {high:g}")
    if not residual <= settings.max_residual:
        raise FitRefused(
            f"agreeing samples are off by {residual:.1%} of depth; allowed are {settings.max_residual:.1%}"
        )


# ---- the line that most samples agree on


@dataclass(frozen=True)
class _Samples:
    x: Array
    y: Array
    tolerance: Array  # of y

    def off(self, scale: float, shift: float) -> Array:
        """How far each is off a line, in tolerances."""
        return (scale * self.x + shift - self.y) / self.tolerance


@dataclass(frozen=True)
class _Line:
    scale: float
    shift: float
    shift_error: float
    inliers: NDArray[np.bool_]

    @property
    def inlier_share(self) -> float:
        return float(self.inliers.mean())


def _usable(predicted: ArrayLike, measured: ArrayLike, settings: FitSettings) -> tuple[Array, Array]:
    x, y = (np.asarray(values, np.float64).ravel() for values in (predicted, measured))
    if x.shape != y.shape:
        raise FitRefused(f"{x.size} predicted values cannot be compared with {y.size} measured ones")
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    x, y = x[good], y[good]
    if x.size < max(2, settings.min_samples):
        raise FitRefused(f"only {x.size} samples; needed are {max(2, settings.min_samples)}")
    return x, y


def _fit_line(samples: _Samples, settings: FitSettings) -> _Line:
    """Through pairs of samples, one from the lower half and one from the upper: close ones tell no slope."""
    rng = np.random.default_rng(settings.seed)
    order, half = np.argsort(samples.x, kind="stable"), samples.x.size // 2
    low, high = order[rng.integers(half, size=settings.trials)], order[-1 - rng.integers(half, size=settings.trials)]
    rise, run = samples.y[high] - samples.y[low], samples.x[high] - samples.x[low]
    scales = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0)
    return _refined(samples, *_best(samples, scales, samples.y[low] - scales * samples.x[low]), free_shift=True)


def _fit_slope(samples: _Samples, settings: FitSettings, shift: float) -> _Line:
    """Through single samples and a known shift."""
    chosen = np.random.default_rng(settings.seed).integers(samples.x.size, size=settings.trials)
    scales = (samples.y[chosen] - shift) / samples.x[chosen]
    return _refined(samples, *_best(samples, scales, np.full_like(scales, shift)), free_shift=False)


def _best(samples: _Samples, scales: Array, shifts: Array) -> tuple[float, float]:
    """Of (T,) lines, the one with the least truncated square error."""
    every = slice(None, None, math.ceil(samples.x.size / SCORED_SAMPLES))
    x, y, tolerance = samples.x[every], samples.y[every], samples.tolerance[every]
    off = (scales[:, None] * x + shifts[:, None] - y) / tolerance
    best = int(np.minimum(off * off, 1.0).sum(axis=1).argmin())
    return float(scales[best]), float(shifts[best])


def _refined(samples: _Samples, scale: float, shift: float, *, free_shift: bool) -> _Line:
    """Least squares, reweighted: the closer the samples lie, the narrower what counts."""
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
    return _Line(scale, shift, error, np.abs(samples.off(scale, shift)) <= 1)


def biweight(off: Array) -> Array:
    """Tukey's weights for residuals in tolerances: zero at 1, or nearer where most are much closer."""
    size = np.abs(off)
    near = size[size <= 1]
    sigma = MAD_TO_SIGMA * float(np.median(near)) if near.size else 1.0
    return np.clip(1 - (size / min(1.0, max(MIN_WIDTH, TUKEY * sigma))) ** 2, 0, None) ** 2


def _weighted_line(samples: _Samples, weights: Array, total: float) -> tuple[float, float, float]:
    """Scale, shift and the shift's standard error."""
    x, y = samples.x, samples.y
    middle_x, middle_y = float(weights @ x / total), float(weights @ y / total)
    spread = float(weights @ (x - middle_x) ** 2)
    if spread <= 1e-12 * total * middle_x**2:  # all at one depth: only the scale can be told
        return middle_y / middle_x, 0.0, math.inf
    scale = float(weights @ ((x - middle_x) * (y - middle_y)) / spread)
    shift = middle_y - scale * middle_x
    variance = float(weights @ (scale * x + shift - y) ** 2) / max(1, np.count_nonzero(weights) - 2)
    return scale, shift, math.sqrt(variance * (1 / total + middle_x**2 / spread))


# ---- what the samples can tell


def _why_no_shift(line: _Line, y: Array, settings: FitSettings) -> str:
    if not settings.fit_shift:
        return "only the scale was asked for"
    limit = settings.max_shift * float(np.median(y))
    if abs(line.shift) > limit:
        return f"a shift of {line.shift:.3g} m is not believed, {limit:.3g} m is the limit: scale alone"
    reason = _too_flat(line, y, settings)
    return f"{reason}: scale alone" if reason else ""


def _too_flat(line: _Line, y: Array, settings: FitSettings) -> str:
    """Why agreeing samples at these depths (or inverse depths) do not tell the shift; empty if they do."""
    near, far = np.percentile(y[line.inliers], (10, 90)) if line.inliers.any() else (1.0, 1.0)
    if far < settings.min_spread * near:
        return f"depths spread by a factor of {far / near:.2f}, and {settings.min_spread:g} is needed to tell the shift"
    error = line.shift_error / float(np.median(y))
    if error > settings.max_shift_error:
        return f"the shift is uncertain by {error:.0%} of depth, and {settings.max_shift_error:.0%} is allowed"
    return ""


def _root_mean_squares(off_m: Array, depth_m: Array) -> tuple[float, float]:
    """Of errors in metres, and of errors as a share of depth; infinite for none."""
    if not off_m.size:
        return math.inf, math.inf
    return math.sqrt(np.mean(off_m**2)), math.sqrt(np.mean((off_m / depth_m) ** 2))
