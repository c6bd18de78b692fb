"""A run: something is disturbed, comes to rest, and is looked at, again and again until the time is up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from soak.standstill import Standstills
from soak.verdict import MEMORY_MIB, Sample, drifts, medians

clock_s = time.monotonic  # tests put their own here
# A disturbance, then calm. Samples are taken at the end, when the last 10 s were calm, and 10 s before.
DISTURBED_S, SETTLING_S, ROUND_S = 5.0, 5.0, 20.0


@dataclass(frozen=True)
class Disturbance:
    """What begins, lasts for some seconds, and ends."""

    name: str
    begin: Callable[[], None]
    end: Callable[[], None] = lambda: None


class Subject(Protocol):
    """What is disturbed."""

    def disturbances(self) -> list[Disturbance]:
        """Return all that can happen to it."""

    def wait(self, seconds: float) -> None:
        """Let time pass; less, if it has died."""

    def death(self) -> str | None:
        """Return how it ended, if it did."""

    def sample(self) -> Sample:
        """Return its state now."""

    def complaints(self) -> list[str]:
        """Return what is wrong although nothing disturbs it; called at the end of every round."""


@dataclass
class Record:
    """What came of a run.

    Attributes:
        disturbances: how often each happened.
        not_judged: rounds in which this machine stood still: their timeouts and latencies say nothing.
        problems: why the run failed; empty if it did not.
    """

    samples: list[Sample] = field(default_factory=list)
    disturbances: dict[str, int] = field(default_factory=dict)
    not_judged: int = 0
    problems: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return it for a line of JSON."""
        return {
            "memory_mib_medians_of_thirds": medians([sample.memory_mib for sample in self.samples]),
            "latency_ms_medians_of_thirds": medians([sample.latency_ms for sample in self.samples]),
            "samples": len(self.samples),
            "disturbances": self.disturbances,
            "rounds_not_judged": self.not_judged,
            "problems": self.problems,
        }


def soak(subject: Subject, minutes: float, seed: int, memory_mib: float = MEMORY_MIB) -> Record:
    """Repeat rounds until the time is up or the subject has died.

    Args:
        seed: of the disturbances' order.
        memory_mib: what memory may grow by in the last third.
    """
    record, shuffled, standstills = Record(), random.Random(seed), Standstills()
    coming: list[Disturbance] = []
    end_s = clock_s() + 60 * minutes
    while clock_s() < end_s and subject.death() is None:
        if not coming:  # every one once, in an order of its own
            coming = subject.disturbances()
            shuffled.shuffle(coming)
        _round(subject, coming.pop(), record, standstills)
    standstills.stop()
    if (death := subject.death()) is not None:
        record.problems.append(death)
    record.problems += drifts(record.samples, memory_mib)
    return record


def _round(subject: Subject, disturbance: Disturbance, record: Record, standstills: Standstills) -> None:
    record.disturbances[disturbance.name] = record.disturbances.get(disturbance.name, 0) + 1
    begun_s = time.monotonic()
    disturbance.begin()
    subject.wait(DISTURBED_S)
    disturbance.end()
    subject.wait(SETTLING_S)
    samples = [subject.sample()]
    subject.wait(ROUND_S - DISTURBED_S - SETTLING_S)
    samples.append(subject.sample())
    complaints = subject.complaints()
    if standstills.any_since(begun_s):
        record.not_judged += 1
        return
    record.samples += samples
    record.problems += [f"after {disturbance.name!r}: {text}" for text in complaints]
