"""How far a run is, on standard error: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from depth_anything_ros.errors import plain_line

LINE_EVERY_S = 10.0


class Progress:
    """Counts what is done of `total`; None if nobody knows how much that is."""

    def __init__(self, total: int | None, unit: str, name: str = "", *, every_s: float = LINE_EVERY_S) -> None:
        self.total = total
        self.done = 0
        self._words = plain_line(f"{name}: {unit}" if name else unit)
        self._every_s = every_s
        self._said_s = time.monotonic()
        self._bar = tqdm(total=total, unit=unit, desc=plain_line(name) or None, leave=not name, disable=None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one more."""
        self.done += 1
        self._bar.update()
        now_s = time.monotonic()
        if self._bar.disable and now_s - self._said_s >= self._every_s:
            self._said_s = now_s
            say(f"{self._words} {self.done}" + ("" if self.total is None else f" of {self.total}"))


def say(*lines: str) -> None:
    """Print lines on standard error, above the bar if there is one."""
    for line in lines:
        tqdm.write(plain_line(line), file=sys.stderr)
