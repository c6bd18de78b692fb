"""Pairs of predicted and measured values of the last seconds."""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_SAMPLES = 2000  # of one picture


def thinned(pairs: NDArray[np.float64], max_samples: int = MAX_SAMPLES) -> NDArray[np.float64]:
    """Return pairs (2, N), or every n-th of more than `max_samples`."""
    return pairs[:, :: max(1, math.ceil(pairs.shape[1] / max_samples))]


class SamplePool:
    """Keeps pairs for sensors with few readings a message. May be used by several threads.

    Args:
        window_s: older pairs are dropped, by the images' stamps,
        min_pairs: unless there would be fewer than this: a sensor of one beam has one pair a message.
        longest_s: pairs older than this are always dropped.
        max_samples: kept of one `add`, see `thinned`.
    """

    def __init__(
        self, window_s: float, *, min_pairs: int = 0, longest_s: float = math.inf, max_samples: int = MAX_SAMPLES
    ) -> None:
        self._window_s = window_s
        self._min_pairs = min_pairs
        self._longest_s = longest_s
        self._max_samples = max_samples
        self._pairs: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._lock = threading.Lock()

    def add(self, stamp_s: float, predicted: ArrayLike, measured: ArrayLike) -> None:
        """Add pairs (N,).

        A stamp that is not after the last one empties the pool first: a bag starts over, or the driver's stamps stand
        still, and nothing would ever be too old.
        """
        pairs = np.stack([np.asarray(predicted, np.float64), np.asarray(measured, np.float64)])
        pairs = thinned(pairs, self._max_samples)
        with self._lock:
            if self._pairs and stamp_s <= self._pairs[-1][0]:
                self._pairs.clear()
            self._pairs.append((stamp_s, pairs))
            while self._is_outdated(stamp_s):
                self._pairs.popleft()

    def _is_outdated(self, now_s: float) -> bool:
        """Whether the oldest pairs are to be dropped."""
        age_s = now_s - self._pairs[0][0]
        left = sum(pairs.shape[1] for _, pairs in self._pairs) - self._pairs[0][1].shape[1]
        return age_s > self._longest_s or (age_s > self._window_s and left >= self._min_pairs)

    def pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return predicted and measured, (M,) each."""
        with self._lock:
            parts = [pairs for _, pairs in self._pairs]
        predicted, measured = np.concatenate(parts, axis=1) if parts else np.empty((2, 0))
        return predicted, measured

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._pairs.clear()
