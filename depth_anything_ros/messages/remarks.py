"""What is odd about a message that can be read all the same, said once. Errors are raised, not said here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Remark: TypeAlias = Callable[[str], None]

MAX_DIFFERENT = 1000  # texts come from messages: there may be any number of them


def unheard(text: str) -> None:
    """Say nothing: for callers to whom odd messages are all the same."""


class SayOnce:
    """Says each text the first time it comes; may be called with every message.

    Args:
        say: where texts go, such as a logger's `warning`.
    """

    def __init__(self, say: Remark) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        """Say a text unless it was said before."""
        if text not in self._said and len(self._said) < MAX_DIFFERENT:
            self._said.add(text)
            self._say(text)
