"""Names that clients write: the nearest known name, and a form that is safe in an answer or a log."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

PLAIN_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def shown(name: str) -> str:
    """A name from outside, safe to repeat: itself if plain and short, else `(a name of N characters)`."""
    return name if PLAIN_NAME.fullmatch(name) else f"(a name of {len(name)} characters)"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` with the known name that is most like this one, or nothing."""
    found = difflib.get_close_matches(name[:64], list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
