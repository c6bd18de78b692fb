"""Whether something is there. Unlike `pathlib`, never an error: what cannot be looked at is not there for us.

`Path.is_file` raises for a name over 255 bytes, and for a folder that may not be entered.
"""

from __future__ import annotations

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
