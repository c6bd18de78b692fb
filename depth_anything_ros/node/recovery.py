"""When to try again after the device failed."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
# A device that failed so often in a row is given up, where there is something else to go on with.
HOPELESS = 5


class Recovery:
    """Waits twice as long after each failure in a row, and not at all after the first: most pass at once.

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
    def is_hopeless(self) -> bool:
        """Whether it failed too often to expect anything of another try."""
        return self.failures >= HOPELESS

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
