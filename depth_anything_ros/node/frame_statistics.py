"""What happened to the frames of the last seconds: rates, latencies, and how long each stage took."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

WINDOW_S = 10.0
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Published:
    """One frame that was published.

    Attributes:
        at_s: when, on the clock of the statistics.
        latency_s: from the image's stamp to the last message; NaN where the stamp is of another clock.
        stage_s: seconds of each stage; NaN as there.
    """

    at_s: float
    latency_s: float
    stage_s: Mapping[str, float]


class FrameStatistics:
    """Counts in the executor's thread, measures in the worker's.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._start_s = clock()
        self._received_s: deque[float] = deque()
        self._published: deque[Published] = deque()
        self._lost: deque[tuple[float, int]] = deque()  # when it was noticed, and how many
        self.last_received_s: float | None = None

    def received(self) -> None:
        """Count an image that came."""
        with self._lock:
            self.last_received_s = self._clock()
            self._received_s.append(self.last_received_s)
            self._forget_old()

    def lost(self, count: int) -> None:
        """Count images that did not arrive."""
        with self._lock:
            self._lost.append((self._clock(), count))
            self._forget_old()

    def recent_losses(self) -> tuple[int, int]:
        """Images of the last `WINDOW_S` seconds that did not arrive, and all that were sent."""
        with self._lock:
            self._forget_old()
            lost = sum(count for _, count in self._lost)
            return lost, lost + len(self._received_s)

    def published(self, latency_s: float, stage_s: Mapping[str, float]) -> None:
        """Note what a frame took that was published."""
        with self._lock:
            self._published.append(Published(self._clock(), latency_s, dict(stage_s)))
            self._forget_old()

    def age_s(self) -> float | None:
        """Seconds since the last image came; None before the first."""
        return None if self.last_received_s is None else self._clock() - self.last_received_s

    def summary(self) -> dict[str, float]:
        """Rates in Hz and times in ms over the last `WINDOW_S` seconds; what was not measured is left out.

        `rate_in_hz`, `rate_out_hz`, `latency_p50_ms` (p95, p99) from stamp to publish, and the median of
        each stage, `network_ms` and so on.
        """
        with self._lock:
            self._forget_old()
            received, published = len(self._received_s), list(self._published)
        span_s = max(min(WINDOW_S, self._clock() - self._start_s), 1e-3)
        found = {"rate_in_hz": received / span_s, "rate_out_hz": len(published) / span_s}
        latencies_s = [frame.latency_s for frame in published if np.isfinite(frame.latency_s)]
        if latencies_s:
            values_s = np.percentile(latencies_s, PERCENTILES)
            found |= {f"latency_p{p}_ms": 1e3 * float(s) for p, s in zip(PERCENTILES, values_s, strict=True)}
        for stage in dict.fromkeys(stage for frame in published for stage in frame.stage_s):
            taken_s = [frame.stage_s.get(stage, np.nan) for frame in published]
            if known_s := [seconds for seconds in taken_s if np.isfinite(seconds)]:
                found[f"{stage}_ms"] = 1e3 * float(np.median(known_s))
        return found

    def _forget_old(self) -> None:
        oldest_s = self._clock() - WINDOW_S
        while self._received_s and self._received_s[0] < oldest_s:
            self._received_s.popleft()
        while self._lost and self._lost[0][0] < oldest_s:
            self._lost.popleft()
        while self._published and self._published[0].at_s < oldest_s:
            self._published.popleft()
