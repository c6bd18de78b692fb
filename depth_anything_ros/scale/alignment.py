"""Continuous alignment: what per-frame fits say, smoothed, and what holds while they say nothing.

::

    waiting ──fit──> aligned ──refused──> holding ──after hold_s──> fallback
                        ^──────fit───────────┘──────────fit────────────┘

`waiting` and `fallback` apply the camera's configured scale and shift; a relative model has none, so nothing
metric can be published then.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError, readable
from depth_anything_ros.scale.fit import DepthScale, Fit, InverseScale
from depth_anything_ros.settings import AlignmentSettings

StateName = Literal["waiting", "aligned", "holding", "fallback"]
Scale = DepthScale | InverseScale

AS_PREDICTED = DepthScale(1.0, 0.0)
NO_EVIDENCE = "no evidence yet"


@dataclass(frozen=True)
class AlignmentState:
    """What is applied, and why; for diagnostics.

    Attributes:
        name: `waiting`, `aligned`, `holding` or `fallback`.
        applied: scale and shift; None where there is nothing metric.
        residual_m, inlier_share, samples: of the last fit; None before the first.
        age_s: since the last fit, by the images' stamps; None before the first.
        reason: why it is not `aligned`, or what the fit remarked.
    """

    name: StateName
    applied: Scale | None
    residual_m: float | None = None
    inlier_share: float | None = None
    samples: int | None = None
    age_s: float | None = None
    reason: str = NO_EVIDENCE

    def describe(self) -> dict[str, str]:
        """Return it as names and texts, for diagnostic_msgs/KeyValue; what is unknown is left out."""
        numbers = {} if self.applied is None else asdict(self.applied)
        numbers.update({name: getattr(self, name) for name in ("residual_m", "inlier_share", "samples", "age_s")})
        known = {name: readable(number, 4) for name, number in numbers.items() if number is not None}
        return {"state": self.name, **known, "reason": self.reason}


class Alignment:
    """One camera's. `update` belongs to the thread that handles frames; `state` may be read from any.

    Args:
        kind: of the model; `fit_scale`'s results for `metric`, `fit_inverse`'s for `relative`.
        configured: scale and shift of a metric model without evidence.
        settings: smoothing and holding.

    Raises:
        InputError: times that are not finite, or negative.
    """

    def __init__(
        self, kind: Kind, configured: DepthScale = AS_PREDICTED, settings: AlignmentSettings | None = None
    ) -> None:
        self._settings = settings or AlignmentSettings()
        times = (self._settings.time_constant_s, self._settings.hold_s)
        if not all(0 <= time < math.inf for time in times):
            raise InputError(f"time_constant_s and hold_s must be finite and not negative, got {times}")
        self._kind = kind
        self._configured = configured if kind == "metric" else None
        self.reset()

    def reset(self) -> None:
        """Forget all fits."""
        self._stamp_s = -math.inf
        self._fit_stamp_s = -math.inf
        self._state = AlignmentState("waiting", self._configured)

    @property
    def state(self) -> AlignmentState:
        """The state after the last update; frozen."""
        return self._state

    def update(self, fit: Fit | FitRefused | None, stamp_s: float) -> Scale | None:
        """Take a frame's fit, why there is none, or None where no new reading was due; return what to apply.

        Args:
            stamp_s: the image's. One that goes back, as when a bag starts over, forgets all fits.

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
        if isinstance(fit, DepthScale) != (self._kind == "metric"):
            raise InputError(f"{type(fit).__name__} is no fit for a {self._kind} model")
        applied = self._smoothed(fit)
        self._fit_stamp_s = self._stamp_s
        remark = getattr(fit, "remark", "")
        return AlignmentState("aligned", applied, fit.residual_m, fit.inlier_share, fit.samples, 0.0, remark)

    def _smoothed(self, fit: Fit) -> Scale:
        """First-order low pass of the scale's logarithm and of the shift; a first fit is taken as it is."""
        scale, shift = fit.numbers
        before = self._state.applied
        if self._state.name in ("aligned", "holding") and before is not None:
            weight = self._weight(self._stamp_s - self._fit_stamp_s)
            old_scale, old_shift = before.numbers
            scale = old_scale * (scale / old_scale) ** weight
            shift = old_shift + weight * (shift - old_shift)
        return DepthScale(scale, shift) if self._kind == "metric" else InverseScale(scale, shift)

    def _weight(self, elapsed_s: float) -> float:
        tau_s = self._settings.time_constant_s
        return 1.0 if tau_s == 0 else -math.expm1(-elapsed_s / tau_s)

    def _without_fit(self, refused: FitRefused | None) -> AlignmentState:
        state = self._state
        reason = state.reason if refused is None else str(refused)
        if state.name == "waiting":
            return replace(state, reason=reason)
        age_s = self._stamp_s - self._fit_stamp_s
        if age_s > self._settings.hold_s:
            if state.name != "fallback" and refused is None:
                reason = f"no reading for {age_s:.1f} s"
            return replace(state, name="fallback", applied=self._configured, age_s=age_s, reason=reason)
        name = state.name if refused is None else "holding"
        return replace(state, name=name, age_s=age_s, reason=reason)
