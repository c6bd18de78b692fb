"""One calibration: the evidence of some frames, and the scale that fits all of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.fit import LASTING_FACTOR, ScaleFit, fit_factor, fit_scale
from depth_anything_ros.scale.range_samples import Pairs
from depth_anything_ros.scale.sample_pool import SamplePool
from depth_anything_ros.settings import FitSettings

FRAMES = 30
LONGEST_S = 15.0
# A single beam gives one reading a frame, and a slow network few frames: then it takes longer to have enough.
LONGEST_FOR_FEW_S = 60.0


class CalibrationRun:
    """Collects the evidence of some frames, then fits one scale to it.

    Args:
        done: called once, by any thread, with the fit or the reason why there is none.
        clock: seconds that never go back.
    """

    def __init__(
        self, done: Callable[[ScaleFit | FitRefused], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._done = done
        self._clock = clock
        self._began_s = clock()
        self._frames = 0
        self._pairs = 0
        self._pool = SamplePool(math.inf)
        self._fits: list[ScaleFit] = []
        self._problem = "no frame came"
        self._model: object = None
        self._kind: Kind = "metric"

    @property
    def has_enough(self) -> bool:
        """Whether enough frames have come."""
        return self._frames >= FRAMES and not self._has_few_pairs

    @property
    def is_overdue(self) -> bool:
        """Whether its time is over."""
        longest_s = LONGEST_FOR_FEW_S if self._has_few_pairs else LONGEST_S
        return self._clock() - self._began_s >= longest_s

    @property
    def _has_few_pairs(self) -> bool:
        """Whether pairs have come, but fewer than a fit needs."""
        return 0 < self._pairs < FitSettings.min_samples

    def is_of_another(self, model: object, kind: Kind = "metric") -> bool:
        """Return whether the frames so far came from another model than this one, which makes depth of a kind."""
        self._model, self._kind = self._model or model, kind
        return self._model != model

    def add_pairs(self, stamp_s: float, pairs: Pairs) -> None:
        """Add the readings of a frame."""
        self._frames += 1
        self._pairs += pairs.predicted.size
        self._pool.add(stamp_s, *pairs)

    def add_fit(self, fit: ScaleFit) -> None:
        """Add the fit of a frame."""
        self._frames += 1
        self._fits.append(fit)

    def add_problem(self, text: str) -> None:
        """Note why a frame has no evidence."""
        self._problem = text

    def finish(self) -> None:
        """End with a fit to what has come."""
        self._done(self._result())

    def give_up(self, why: str) -> None:
        """End without a fit."""
        self._done(FitRefused(why))

    def _result(self) -> ScaleFit | FitRefused:
        if self._frames == 0:
            return FitRefused(f"no evidence: {self._problem}")
        try:
            return self._fit()
        except FitRefused as refused:
            return refused
        except Exception as error:  # else the caller would wait for the result for ever
            return FitRefused(f"the fit failed: {error}")

    def _fit(self) -> ScaleFit:
        """Fit all evidence. Where each picture has another factor, too few samples of all of them agree: refused."""
        if self._kind == "metric":
            return middle(self._fits) if self._fits else fit_scale(*self._pool.pairs())
        fit = middle(self._fits) if self._fits else fit_factor(*self._pool.pairs())
        return replace(fit, remark=LASTING_FACTOR)


def middle(fits: list[ScaleFit]) -> ScaleFit:
    """Return the fit with the median scale, with residual, inlier share and samples of all fits."""
    median = sorted(fits, key=lambda fit: fit.scale)[len(fits) // 2]
    residual_m, share = (
        float(np.median([getattr(fit, name) for fit in fits])) for name in ("residual_m", "inlier_share")
    )
    return ScaleFit(median.scale, 0.0, residual_m, share, sum(fit.samples for fit in fits), median.remark)
