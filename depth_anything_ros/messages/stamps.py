"""Stamps of message headers as numbers; read by the names of their fields."""

from __future__ import annotations

from typing import Any

NANOSECONDS_PER_SECOND = 10**9


def stamp_ns(header: Any) -> int:
    """A std_msgs/Header's stamp in nanoseconds."""
    return int(header.stamp.sec) * NANOSECONDS_PER_SECOND + int(header.stamp.nanosec)


def stamp_s(header: Any) -> float:
    """A std_msgs/Header's stamp in seconds; a quarter of a microsecond is lost."""
    return stamp_ns(header) / NANOSECONDS_PER_SECOND
