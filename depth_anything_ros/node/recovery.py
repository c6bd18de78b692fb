"""When to try again after the device failed. What counts as a failure is decided by the worker."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
# After so many failures in a row the device counts as lost: the CPU takes over where that is allowed.
LOST_AFTER = 5


class Recovery:
    """Doubles the wait after each failure in a row; none after the first, for most failures pass at once.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_wait_s = self._again_s = 0.0
        self.failures = 0
        self.reason = ""

    @property
    def wait_s(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._again_s - self._clock())

    @property
    def is_lost(self) -> bool:
        """Whether it failed too often in a row to expect anything of another try."""
        return self.failures >= LOST_AFTER

    def failed(self, reason: str) -> None:
        """Count a failure."""
        self.failures += 1
        self.reason = reason
        self._again_s = self._clock() + self._next_wait_s
        self._next_wait_s = min(2 * self._next_wait_s or FIRST_WAIT_S, LONGEST_WAIT_S)

    def succeeded(self) -> None:
        """Forget all failures."""
        self.failures, self.reason = 0, ""
        self._next_wait_s = self._again_s = 0.0
