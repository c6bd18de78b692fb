"""How much of the robot's cameras clients may take: streams at once, and bytes a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bridge.server.errors import Overloaded, RateLimited, TooManyStreams, retry_after
from bridge.server.settings import BridgeSettings

BURST_S = 1.0  # so many seconds of a key's bytes may go at once


class StreamLimits:
    """Counts streams, and requests that wait, by key; without keys all clients are one.

    A frame is paid for when it is sent: a key whose account is in debt waits until that is worked off, so frames that
    are larger than a second's bytes pass, too.
    """

    def __init__(self, settings: BridgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_all = settings.max_streams
        self._max_each = settings.max_streams_per_key
        self._bytes_per_s = settings.max_stream_bytes_per_s or math.inf
        self._clock = clock
        self._open: dict[str | None, int] = {}
        self._paid: dict[str | None, tuple[float, float]] = {}  # bytes left, and when that was counted

    @contextmanager
    def open(self, key: str | None) -> Iterator[None]:
        """Count one more within the block.

        Raises:
            TooManyStreams: the key has as many as it may. Overloaded: all keys together have.
        """
        mine = self._open.get(key, 0)
        if mine >= self._max_each:
            raise TooManyStreams(f"{mine} streams and waiting requests are open with this key: close one first")
        if sum(self._open.values()) >= self._max_all:
            raise Overloaded(f"{self._max_all} streams and waiting requests are open: try later")
        self._open[key] = mine + 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def wait_s(self, key: str | None) -> float:
        """Seconds until the key may have a frame; 0 if at once."""
        if math.isinf(self._bytes_per_s):
            return 0.0
        return max(0.0, -self._left(key) / self._bytes_per_s)

    def check(self, key: str | None) -> None:
        """Raise RateLimited where the key may have no frame now."""
        if (wait_s := self.wait_s(key)) > 0:
            raise RateLimited("too many bytes of frames with this key", None, retry_after(wait_s))

    def pay(self, key: str | None, size_bytes: int) -> None:
        """Count a frame that is sent."""
        if not math.isinf(self._bytes_per_s):
            self._paid[key] = (self._left(key) - size_bytes, self._clock())

    def _left(self, key: str | None) -> float:
        most = self._bytes_per_s * BURST_S
        left, since_s = self._paid.get(key, (most, 0.0))
        return min(most, left + (self._clock() - since_s) * self._bytes_per_s)
