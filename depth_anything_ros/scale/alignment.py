"""Continuous alignment: per-frame fits, smoothed, and what applies while there are none.

::

    waiting ──fit──> aligned ──refused──> holding ──after hold_s──> fallback
                        ^──────fit───────────┘──────────fit────────────┘

`waiting` and `fallback` apply the camera's configured scale and shift, or nothing: then there are no metres.

A metric model's scale changes slowly, so fits are smoothed and held. Depth of other kinds has a scale of its own in
every picture: a fit counts for its picture alone, and without one the state is `fallback` at once.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError, NoReading, readable
from depth_anything_ros.scale.fit import DepthScale, Fit, InverseScale
from depth_anything_ros.settings import AlignmentSettings

StateName = Literal["waiting", "aligned", "holding", "fallback"]
Scale = DepthScale | InverseScale

AS_PREDICTED = DepthScale(1.0, 0.0)
NO_EVIDENCE = "no evidence yet"


@dataclass(frozen=True)
class AlignmentState:
    """What is applied and why, for diagnostics.

    Attributes:
        name: `waiting`, `aligned`, `holding` or `fallback`.
        applied: scale and shift; None while there are no metres.
        residual_m, inlier_share, samples: those of the last fit; None before the first.
        age_s: seconds since the last fit, by the images' stamps; None before the first.
        reason: why the state is not `aligned`, or the remark of the fit.
    """

    name: StateName
    applied: Scale | None
    residual_m: float | None = None
    inlier_share: float | None = None
    samples: int | None = None
    age_s: float | None = None
    reason: str = NO_EVIDENCE

    def describe(self) -> dict[str, str]:
        """Return names and texts for diagnostic_msgs/KeyValue, without what is unknown."""
        numbers = {} if self.applied is None else asdict(self.applied)
        numbers.update({name: getattr(self, name) for name in ("residual_m", "inlier_share", "samples", "age_s")})
        known = {name: readable(number, 4) for name, number in numbers.items() if number is not None}
        return {"state": self.name, **known, "reason": self.reason}


class Alignment:
    """The alignment of one camera. Call `update` from one thread; `state` may be read by any.

    Args:
        kind: the model's: `relative` takes the fits of `fit_inverse`, others those of `fit_scale` or `fit_factor`.
        configured: scale and shift without evidence. None: a metric model's depth as predicted, no metres of others.
        settings: smoothing and holding, of a metric model.

    Raises:
        InputError: times that are not finite, or negative.
    """

    def __init__(
        self, kind: Kind, configured: DepthScale | None = None, settings: AlignmentSettings | None = None
    ) -> None:
        self._settings = settings or AlignmentSettings()
        times = (self._settings.time_constant_s, self._settings.hold_s)
        if not all(0 <= time < math.inf for time in times):
            raise InputError(f"time_constant_s and hold_s must be finite and not negative, got {times}")
        self._kind = kind
        self._configured = AS_PREDICTED if kind == "metric" and configured is None else configured
        self.reset()

    def reset(self) -> None:
        """Forget all fits."""
        self._stamp_s = -math.inf
        self._fit_stamp_s = -math.inf
        self._state = AlignmentState("waiting", self._configured)

    @property
    def state(self) -> AlignmentState:
        """The state after the last update."""
        return self._state

    def update(self, fit: Fit | FitRefused | None, stamp_s: float) -> Scale | None:
        """Take a frame's fit and return what to apply.

        Args:
            fit: the fit; why it was refused, or nothing measured; or None where the last reading still is the latest.
            stamp_s: the image's stamp. One before the last, as when a bag starts over, forgets all fits.

        Raises:
            InputError: a fit of the other kind of model, or a stamp that is not finite.
        """
        if not math.isfinite(stamp_s):
            raise InputError(f"the stamp of an image must be finite, got {stamp_s}")
        if stamp_s < self._stamp_s:
            self.reset()
        self._stamp_s = stamp_s
        if fit is None or isinstance(fit, FitRefused):
            self._state = self._without_fit(fit)
        else:
            self._state = self._with_fit(fit)
        return self._state.applied

    def _with_fit(self, fit: Fit) -> AlignmentState:
        if isinstance(fit, DepthScale) == (self._kind == "relative"):
            raise InputError(f"{type(fit).__name__} is not a fit for a {self._kind} model")
        scale, shift = self._smoothed(fit) if self._kind == "metric" else fit.numbers
        applied = InverseScale(scale, shift) if self._kind == "relative" else DepthScale(scale, shift)
        self._fit_stamp_s = self._stamp_s
        remark = getattr(fit, "remark", "")
        return AlignmentState("aligned", applied, fit.residual_m, fit.inlier_share, fit.samples, 0.0, remark)

    def _smoothed(self, fit: Fit) -> tuple[float, float]:
        """Return the low pass (first order) of the scale's logarithm and of the shift; the first fit unchanged."""
        scale, shift = fit.numbers
        before = self._state.applied
        if self._state.name in ("aligned", "holding") and before is not None:
            weight = self._weight(self._stamp_s - self._fit_stamp_s)
            old_scale, old_shift = before.numbers
            scale = old_scale * (scale / old_scale) ** weight
            shift = old_shift + weight * (shift - old_shift)
        return scale, shift

    def _weight(self, elapsed_s: float) -> float:
        """Return the share of a new fit; all of it where no time passes between images, for it would never count."""
        tau_s = self._settings.time_constant_s
        return 1.0 if 0 in (tau_s, elapsed_s) else -math.expm1(-elapsed_s / tau_s)

    def _without_fit(self, refused: FitRefused | None) -> AlignmentState:
        state, age_s = self._state, self._stamp_s - self._fit_stamp_s
        if state.name == "waiting":
            return replace(state, reason=str(refused or state.reason))
        if self._kind != "metric":  # what was fitted to another picture says nothing of this one
            return AlignmentState("fallback", self._configured, age_s=age_s, reason=str(refused or NO_EVIDENCE))
        if age_s > self._settings.hold_s:
            return replace(
                state, name="fallback", applied=self._configured, age_s=age_s, reason=_why_none(refused, age_s)
            )
        if refused is None or isinstance(refused, NoReading):  # between two readings
            return replace(state, age_s=age_s)
        return replace(state, name="holding", age_s=age_s, reason=str(refused))


def _why_none(refused: FitRefused | None, age_s: float) -> str:
    """Why the last fit is given up."""
    if refused is not None and not isinstance(refused, NoReading):
        return str(refused)
    return f"no reading for {age_s:.1f} s" + (f": {refused}" if refused else "")
