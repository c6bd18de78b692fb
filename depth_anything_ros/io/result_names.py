"""Names of results, made of the names of the files they come from: two inputs never get the same one."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_NAME_BYTES = 200  # file systems take 255, and suffixes need some

# What a name may not hold: separators, what other systems forbid, control characters, undecodable bytes.
_FORBIDDEN = r'\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff'
_NAME = re.compile(rf"(?!\.)[^{_FORBIDDEN}]+")


class ResultNames:
    """Gives names, each once, whether a file system tells upper from lower case or not.

    Args:
        taken: names that are not given: those of earlier runs, and those that mean something else.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}
        self._numbers: dict[str, int] = {}

    def give(self, stem: str) -> str:
        """Return a file's stem as a name; `NAME-2`, `NAME-3`, ... where that is taken."""
        wanted = name = safe_name(stem)
        number = self._numbers.get(wanted, 1)
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._numbers[wanted] = number
        self._taken.add(name.casefold())
        return name


def safe_name(stem: str) -> str:
    """Turn a file's stem into a name that stays in its folder, on every system; usual ones stay as they are."""
    plain = re.sub(f"[{_FORBIDDEN}]", "_", stem).encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(". ")
    return plain or "_"


def is_safe_name(name: str) -> bool:
    """Whether a name that was read from a file stays in its folder."""
    return _NAME.fullmatch(name) is not None
