"""Files from anywhere, read within bounds: regular files only, up to a size. Callers judge what the bytes mean."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from depth_anything_ros.errors import InputError, os_reason

MIB = 1 << 20


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Links are followed.

    Raises:
        InputError: no such file, not a regular one, or unreadable; it names the file and the reason.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {os_reason(error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} cannot be read: it is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`. Links are followed.

    Raises:
        InputError: as `open_regular`, or the file is too large; it names the file and the reason.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise InputError(f"{path} has {size} bytes; at most {max_bytes} are read")
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {os_reason(error)}") from error
    if len(data) > max_bytes:  # it grew, or its file system does not know its size
        raise InputError(f"{path} has more than {max_bytes} bytes, which is all that is read")
    return data
