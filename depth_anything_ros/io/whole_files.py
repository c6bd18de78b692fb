"""Files that appear whole or not at all, and folders that one process at a time writes to."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from depth_anything_ros.errors import CannotWrite, DepthAnythingError, os_reason

PART = ".part-"  # how names of unfinished files begin
TOKEN_BYTES = 8
MAX_SUFFIX = 16  # a longer one would not fit into a name of 255 bytes


def write_file(path: Path, produce: Callable[[Path], object]) -> None:
    """Write a file that appears under its name only when it is complete, and its folder with it.

    A link at `path` is replaced, never followed.

    Args:
        produce: writes to the empty file it is given, which lies in the same folder and has the same suffix.

    Raises:
        CannotWrite: `produce` raised OSError, or the folder cannot be made.
    """
    try:
        make_folder(path.parent)
        temporary = _new_file(path)
        try:
            produce(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except DepthAnythingError:
        raise
    except (OSError, ValueError) as error:
        raise CannotWrite(f"{path} cannot be written: {os_reason(error)}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; it may be there. Raises OSError, which names a file that is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, f"{error.filename} is a file, not a folder") from error


def remove_unfinished(root: Path) -> None:
    """Remove what a killed process left of `write_file`, up to two folders deep. Call it with the folder's lock held.

    Raises:
        CannotWrite: a file cannot be removed.
    """
    name = f"{PART}{'[0-9a-f]' * 2 * TOKEN_BYTES}*"
    try:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            for path in root.glob(pattern):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"{root} cannot be tidied: {os_reason(error)}") from error


def _new_file(path: Path) -> Path:
    """Make an empty hidden file beside `path`, under a name that nobody can have put a link at."""
    suffix = path.suffix if len(path.suffix) <= MAX_SUFFIX else ""
    temporary = path.with_name(f"{PART}{secrets.token_hex(TOKEN_BYTES)}{suffix}")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    return temporary


@contextmanager
def locked_work_folder(root: Path) -> Iterator[None]:
    """Hold the lock of a folder whose name others can guess. Raises CannotWrite as `locked`, and for a link."""
    if root.is_symlink():
        raise CannotWrite(f"{root} is a link, not a folder of this program: remove it")
    with locked(root):
        yield


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Make a folder and hold its lock. Raises CannotWrite: it cannot be made, or another process holds the lock."""
    try:
        make_folder(root)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CannotWrite(f"{root} cannot be written: {os_reason(error)}") from error
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
