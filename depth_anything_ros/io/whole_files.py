"""Files that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from depth_anything_ros.errors import CannotWrite


def write_file(path: Path, produce: Callable[[Path], object]) -> None:
    """Write a file that appears under its name only when it is complete, and its folder with it.

    Args:
        produce: writes to the path it is given, which lies in the same folder and has the same suffix.

    Raises:
        CannotWrite: it raised OSError, or the folder cannot be made.
    """
    temporary = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            produce(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Make a folder that no other process gets meanwhile. Raises CannotWrite: it cannot be made, or another has it."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CannotWrite(f"{root} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise CannotWrite(f"{root} is being written by another process") from error
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)
