"""Remarks: what is odd about a message that can be read, said once. Errors are raised, not said here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Remark: TypeAlias = Callable[[str], None]

MAX_DIFFERENT = 1000  # texts come from messages: there may be any number of them


def unheard(text: str) -> None:
    """Ignore a remark."""


class SayOnce:
    """Passes each text on when it comes for the first time. May be called with every message.

    Args:
        say: gets the texts, such as a logger's `warning`.
    """

    def __init__(self, say: Remark) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Say a text unless it was said before."""
        if text not in self._said and len(self._said) < MAX_DIFFERENT:
            self._said.add(text)
            self._say(text)
