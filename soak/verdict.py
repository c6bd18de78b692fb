"""Whether memory and latency stayed flat: compares the last third of a run with the second; the first is warm-up."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# A median may grow by this share or by this much, whichever is more.
MEMORY_SHARE, MEMORY_MIB = 0.05, 20.0
LATENCY_SHARE, LATENCY_MS = 0.5, 10.0


@dataclass(frozen=True)
class Sample:
    """The state of the node at one moment.

    Attributes:
        memory_mib: resident.
        latency_ms: median of the last seconds, from the image's stamp to the last message; None without frames.
    """

    memory_mib: float
    latency_ms: float | None


def medians(values: Sequence[float | None]) -> list[float]:
    """Return the medians of the three thirds; what is None is left out. Empty if a third has nothing."""
    bounds = [round(len(values) * part / 3) for part in range(4)]
    thirds = [[value for value in values[first:end] if value is not None] for first, end in pairwise(bounds)]
    return [round(statistics.median(third), 1) for third in thirds] if all(thirds) else []


def drifts(samples: Sequence[Sample], memory_mib: float = MEMORY_MIB) -> list[str]:
    """Return what drifted upwards, or why it cannot be judged. `memory_mib`: what memory may grow by at least."""
    memory = _drift("memory", "MiB", medians([sample.memory_mib for sample in samples]), MEMORY_SHARE, memory_mib)
    latency = _drift("latency", "ms", medians([sample.latency_ms for sample in samples]), LATENCY_SHARE, LATENCY_MS)
    return [text for text in (memory, latency) if text]


def _drift(name: str, unit: str, thirds: Sequence[float], share: float, least: float) -> str | None:
    if not thirds:
        return f"{name}: a third of the run has no sample"
    _, before, after = thirds
    allowed = max(share * before, least)
    if after - before <= allowed:
        return None
    return f"{name} drifts: {before:g} {unit} in the second third, {after:g} in the last; allowed: {allowed:.3g} more"
