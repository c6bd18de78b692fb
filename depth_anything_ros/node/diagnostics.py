"""How the node is, in the words of diagnostic_msgs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeAlias

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


class Level(IntEnum):
    """diagnostic_msgs/DiagnosticStatus, whose constants are bytes."""

    OK = 0
    WARN = 1
    ERROR = 2


Problem: TypeAlias = tuple[Level, str]  # how bad it is, and what it is


@dataclass(frozen=True)
class Health:
    """A state, and what is wrong with it.

    Attributes:
        state: what to say where nothing is wrong.
        problems: what is wrong.
    """

    state: str
    problems: tuple[Problem, ...] = ()

    @property
    def level(self) -> Level:
        """That of the worst problem."""
        return max((level for level, _ in self.problems), default=Level.OK)

    @property
    def message(self) -> str:
        """All problems, the worst first."""
        worst_first = sorted(self.problems, key=lambda problem: -problem[0])
        return "; ".join(text for _, text in worst_first) or self.state

    def with_warnings(self, texts: Sequence[str]) -> Health:
        """Return a health with more to say."""
        return replace(self, problems=(*self.problems, *((Level.WARN, text) for text in texts)))


def status_of(name: str, health: Health, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return the status of something; the value `hardware` is its hardware id."""
    status = DiagnosticStatus(name=name, message=health.message, hardware_id=str(values.get("hardware", "")))
    status.level = bytes([health.level])
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status
