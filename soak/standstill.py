"""Whether the machine, or this process, stood still for a while: asleep, paused, or much too busy."""

from __future__ import annotations

import threading
import time

TICK_S = 0.2
ALLOWED_S = 3.0  # between two ticks


class Standstills:
    """A thread that looks at the clock until `stop`.

    Attributes:
        seconds: how long it stood still, in all.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._latest_s = -1.0  # the end of the latest
        self._tick_s = time.monotonic()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(TICK_S):
            now_s = time.monotonic()
            if now_s - self._tick_s > ALLOWED_S:
                self.seconds += now_s - self._tick_s
                self._latest_s = now_s
            self._tick_s = now_s

    def any_since(self, monotonic_s: float) -> bool:
        """Return whether one ended after that time, or ends now."""
        return self._latest_s >= monotonic_s or time.monotonic() - self._tick_s > ALLOWED_S

    def stop(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()
