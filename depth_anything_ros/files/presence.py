"""What is at a path. Unlike those of `pathlib`, these functions raise nothing: what cannot be seen is not there.

`Path.is_file` raises for a name over 255 bytes and in a folder that may not be entered, `Path.resolve` where links form
a circle.
"""

from __future__ import annotations

import os
from pathlib import Path


def exists(path: Path) -> bool:
    """Whether anything is at a path; a link counts by its target."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is at a path, or a link to one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is at a path, or a link to one."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def resolved(path: Path) -> Path:
    """Return a path from the root with its links followed; where they form a circle, as far as that goes."""
    return Path(os.path.realpath(path))
