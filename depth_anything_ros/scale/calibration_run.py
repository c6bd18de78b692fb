"""One calibration: the evidence of some frames, and the scale that fits all of it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused
from depth_anything_ros.scale.fit import ScaleFit, fit_scale
from depth_anything_ros.scale.lasting_factor import fit_lasting, middle, middle_of_lasting
from depth_anything_ros.scale.range_samples import Pairs
from depth_anything_ros.scale.sample_pool import thinned
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
        self._pairs: list[Pairs] = []
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
        return 0 < sum(pairs.predicted.size for pairs in list(self._pairs)) < FitSettings.min_samples

    def is_of_another(self, model: object, kind: Kind = "metric") -> bool:
        """Return whether the frames so far came from another model than this one, which makes depth of a kind."""
        self._model, self._kind = self._model or model, kind
        return self._model != model

    def add_pairs(self, pairs: Pairs) -> None:
        """Add the readings of a frame."""
        self._frames += 1
        self._pairs.append(Pairs(*thinned(np.asarray(pairs))))

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
        """Fit all evidence. Where each picture may have a factor of its own, one for all is refused if they differ."""
        fits, pairs = list(self._fits), list(self._pairs)
        if self._kind != "metric":
            return middle_of_lasting(fits) if fits else fit_lasting(pairs)
        return middle(fits) if fits else fit_scale(*np.concatenate(pairs, axis=1))
