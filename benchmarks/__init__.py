"""Measurements: `python -m benchmarks [NAME ...] [OPTIONS]`, one JSON line each. See README.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from itertools import dropwhile
from pathlib import Path
from time import perf_counter
from typing import Any


def report(name: str, **results: Any) -> None:
    """Print one JSON line: what was run, on what, and what came out."""
    options = dropwhile(lambda argument: not argument.startswith("-"), sys.argv[1:])
    command = " ".join(["python -m benchmarks", name, *options])
    print(json.dumps({"benchmark": name, "command": command, "hardware": hardware(), **results}), flush=True)


def hardware() -> str:
    """Processor and the number of cores this process may use."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions, of Python too."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in distributions}}


def paired(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Time two callables turn by turn, so that both meet the same disturbances; seconds, after one run each."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for index in (0, 1) if turn % 2 else (1, 0):
            start = perf_counter()
            (first, second)[index]()
            times[index].append(perf_counter() - start)
    return times[0][1:], times[1][1:]


def median_ms(times_s: Sequence[float]) -> float:
    """Median of seconds, in milliseconds."""
    return round(1e3 * statistics.median(times_s), 1)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
