"""Fit scale and shift of depth to samples of which many may be wrong.

A metric model's depth is off by a scale and a shift: `measured = scale * predicted + shift_m`. A relative model gives
inverse depth up to a scale and a shift: `1 / measured = scale_per_m * relative + shift_per_m` (Ranftl et al. 2020).
Both are lines, which `robust_line` finds. docs/scale.md has the formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.robust_line import Line, LineSamples, fit_line, fit_slope
from depth_anything_ros.settings import FitSettings

Array = NDArray[np.float64]
Depth = TypeVar("Depth")  # a NumPy array or a torch tensor

MAX_DEPTH_M = 1000.0  # relative depth beyond it becomes NaN
MIN_VALUE, MAX_VALUE = 1e-6, 1e6  # of samples that are used, in metres or without a unit


@dataclass(frozen=True)
class DepthScale:
    """The correction of a metric model's depth: `scale * depth + shift_m`."""

    scale: float
    shift_m: float

    @property
    def numbers(self) -> tuple[float, float]:
        """Scale and shift."""
        return self.scale, self.shift_m

    def apply(self, depth: Depth) -> Depth:
        """Scale depth in metres, a float array or torch tensor of any shape.

        Returns:
            A new array or tensor of the same dtype, NaN where the result would not be positive. `depth` itself where
            scale and shift change nothing.
        """
        if self.numbers == (1.0, 0.0):
            return depth
        scaled: Any = depth * self.scale + self.shift_m  # type: ignore[operator]
        scaled[scaled <= 0] = math.nan
        return scaled  # type: ignore[no-any-return]


@dataclass(frozen=True)
class InverseScale:
    """What turns relative depth into metres: `1 / (scale_per_m * relative + shift_per_m)`."""

    scale_per_m: float
    shift_per_m: float

    @property
    def numbers(self) -> tuple[float, float]:
        """Scale and shift."""
        return self.scale_per_m, self.shift_per_m

    def apply(self, relative: Depth) -> Depth:
        """Turn relative depth, a float array or torch tensor of any shape, into metres.

        Returns:
            A new array or tensor of the same dtype, NaN where the result would be negative or beyond `MAX_DEPTH_M`.
        """
        inverse: Any = relative * self.scale_per_m + self.shift_per_m  # type: ignore[operator]
        inverse[inverse < 1 / MAX_DEPTH_M] = math.nan
        return 1 / inverse  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ScaleFit(DepthScale):
    """Fitted scale and shift of a metric model.

    Attributes:
        residual_m: root mean square error of the agreeing samples, in metres.
        inlier_share: share of usable samples that agree, in [0, 1].
        samples: number of usable samples.
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
        predicted, measured: depth in metres, of the same shape. Pairs with a value outside `MIN_VALUE` to `MAX_VALUE`
            are left out.
        shift_m: used where the samples do not determine the shift, or `settings` do not ask for it.

    Raises:
        FitRefused: too few samples, too few that agree, too large an error, or a scale out of range.
    """
    settings = settings or FitSettings()
    x, y = _usable(predicted, measured, settings)
    samples = LineSamples(x, y, np.maximum(settings.tolerance * y, settings.min_tolerance_m))
    line = fit_line(samples, settings)
    remark = _why_no_shift(line, y, settings)
    if remark:
        line = fit_slope(samples, settings, shift_m)
    off_m = (line.scale * x + line.shift - y)[line.inliers]
    residual_m, residual = _root_mean_squares(off_m, y[line.inliers])
    check_fit(line.scale, line.inlier_share, residual, x.size, settings)
    return ScaleFit(line.scale, line.shift, residual_m, line.inlier_share, x.size, remark)


def fit_factor(predicted: ArrayLike, measured: ArrayLike, settings: FitSettings | None = None) -> ScaleFit:
    """Fit `measured = scale * predicted` for depth that is known up to a factor, which may be of any size.

    Args:
        predicted: depth without a unit, larger is farther. measured: depth in metres, of the same shape.

    Raises:
        FitRefused: as `fit_scale`, except that no scale is out of range.
    """
    settings = settings or FitSettings()
    return fit_scale(predicted, measured, replace(settings, fit_shift=False, min_scale=0.0, max_scale=math.inf))


def fit_inverse(relative: ArrayLike, measured: ArrayLike, settings: FitSettings | None = None) -> InverseFit:
    """Fit `1 / measured = scale_per_m * relative + shift_per_m`.

    Args:
        relative: affine-invariant inverse depth, larger is nearer. measured: depth in metres, of the same shape.
            Pairs with a value outside `MIN_VALUE` to `MAX_VALUE` are left out.

    Raises:
        FitRefused: as `fit_scale`, or the samples do not determine the shift, without which there is no depth.
    """
    settings = settings or FitSettings()
    x, z = _usable(relative, measured, settings)
    y = 1 / z
    # To first order, an error dz of depth is dz / z^2 of inverse depth. Half of the inverse depth keeps depth finite.
    samples = LineSamples(x, y, np.minimum(np.maximum(settings.tolerance * z, settings.min_tolerance_m) * y**2, y / 2))
    line = fit_line(samples, settings)
    reason = _too_flat(line, y, settings)
    if reason:
        raise FitRefused(f"{reason}; relative depth needs scale and shift to become metres")
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
        FitRefused: names the number that is out of bounds, and the bounds.
    """
    low, high = scale_range or (settings.min_scale, settings.max_scale)
    if inlier_share < settings.min_inlier_share:
        raise FitRefused(
            f"only {inlier_share:.0%} of {samples} samples agree; {settings.min_inlier_share:.0%} are needed"
        )
    if not low < scale < high:
        raise FitRefused(f"the scale would be {scale:.4g}; it must be between {low:g} and {high:g}")
    if not residual <= settings.max_residual:
        raise FitRefused(
            f"the agreeing samples are off by {residual:.1%} of depth; {settings.max_residual:.1%} are allowed"
        )


def _usable(predicted: ArrayLike, measured: ArrayLike, settings: FitSettings) -> tuple[Array, Array]:
    x, y = (np.asarray(values, np.float64).ravel() for values in (predicted, measured))
    if x.shape != y.shape:
        raise FitRefused(f"{x.size} predicted values cannot be compared with {y.size} measured ones")
    good = np.logical_and.reduce([(values > MIN_VALUE) & (values < MAX_VALUE) for values in (x, y)])  # NaN is not
    x, y = x[good], y[good]
    if x.size < max(2, settings.min_samples):
        raise FitRefused(f"only {x.size} samples; {max(2, settings.min_samples)} are needed")
    return x, y


# ---- what the samples determine


def _why_no_shift(line: Line, y: Array, settings: FitSettings) -> str:
    if not settings.fit_shift:
        return "only the scale was asked for"
    reason = _too_flat(line, y, settings)
    if reason:
        return f"{reason}: scale alone"
    limit = settings.max_shift * float(np.median(y))
    if abs(line.shift) > limit:
        return f"a shift of {line.shift:.3g} m is more than the allowed {limit:.3g} m: only the scale is fitted"
    return ""


def _too_flat(line: Line, y: Array, settings: FitSettings) -> str:
    """Return why agreeing samples at these depths (or inverse depths) do not determine the shift; empty if they do."""
    near, far = np.percentile(y[line.inliers], (10, 90)) if line.inliers.any() else (1.0, 1.0)
    if far < settings.min_spread * near:
        return f"depths spread by a factor of {far / near:.2f}; {settings.min_spread:g} is needed to find the shift"
    error = line.shift_error / float(np.median(y))
    if error > settings.max_shift_error:
        return f"the shift is uncertain by {error:.0%} of depth; {settings.max_shift_error:.0%} is allowed"
    return ""


def _root_mean_squares(off_m: Array, depth_m: Array) -> tuple[float, float]:
    """Return the root mean square of errors in metres, and as a share of depth; infinite without any."""
    if not off_m.size:
        return math.inf, math.inf
    return math.sqrt(np.mean(off_m**2)), math.sqrt(np.mean((off_m / depth_m) ** 2))
