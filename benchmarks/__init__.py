"""Measurements: `python -m benchmarks [NAME ...] [OPTIONS]`, one JSON line each. docs/benchmarks.md has the results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from itertools import dropwhile
from time import perf_counter
from typing import Any

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch


def report(name: str, **results: Any) -> None:
    """Print one JSON line: what was run, on what, and what came out."""
    options = dropwhile(lambda argument: not argument.startswith("-"), sys.argv[1:])
    command = " ".join(["python -m benchmarks", name, *options])
    print(json.dumps({"benchmark": name, "command": command, "hardware": hardware(), **results}), flush=True)


def hardware() -> str:
    """Processor and the number of cores this process may use."""
    import torch  # not for the processes that only publish and listen

    from depth_anything_ros.runtime.hardware import hardware_name

    return f"{hardware_name(torch.device('cpu'))}, {len(os.sched_getaffinity(0))} cores"


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions, of Python too."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in distributions}}


def in_turn(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time callables round by round, so that disturbances hit all alike. Seconds, after one warm-up run of each.

    Every round starts with another callable, so none always follows the same one.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(repeats + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = perf_counter()
            contenders[name]()
            times[name].append(perf_counter() - start)
    return {name: taken[1:] for name, taken in times.items()}


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds of how many times as long the others took."""
    return round(statistics.median(other / own for own, other in zip(times, others, strict=True)), 2)


def median_ms(times_s: Sequence[float]) -> float:
    """Median of seconds, in milliseconds."""
    return round(1e3 * statistics.median(times_s), 1)


def spread_ms(times_s: Sequence[float]) -> dict[str, float] | None:
    """Median and 95th percentile of seconds, in milliseconds; None where nothing was measured."""
    if not times_s:
        return None
    ordered = sorted(times_s)
    p95_s = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {"median": round(1e3 * statistics.median(ordered), 2), "p95": round(1e3 * p95_s, 2)}
