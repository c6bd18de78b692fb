"""Stamps of message headers as numbers, read by the names of their fields."""

from __future__ import annotations

import time
from typing import Any

NANOSECONDS_PER_SECOND = 10**9


def stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header in nanoseconds."""
    return int(header.stamp.sec) * NANOSECONDS_PER_SECOND + int(header.stamp.nanosec)


def stamp_s(header: Any) -> float:
    """Return the stamp of a std_msgs/Header in seconds, exact to a quarter of a microsecond."""
    return stamp_ns(header) / NANOSECONDS_PER_SECOND


def moment_s(header: Any) -> float:
    """Return when a message was made, in seconds that count from an unknown start: for the time between two messages.

    That is its stamp. Where the driver leaves it at 0, it is now, by a clock that never goes back.
    """
    return stamp_s(header) if stamp_ns(header) else time.monotonic()
