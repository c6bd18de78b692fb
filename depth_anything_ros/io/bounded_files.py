"""Files from anywhere, read within bounds: regular files only, up to a size. Callers judge what the bytes mean."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from depth_anything_ros.errors import InputError, os_reason

MIB = 1 << 20


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes`. Links are followed.

    Raises:
        InputError: no such file, not a regular one, too large, or unreadable; it names the file and the reason.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{path} cannot be read: it is not a regular file")
            if status.st_size > max_bytes:
                raise InputError(f"{path} has {status.st_size} bytes; at most {max_bytes} are read")
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {os_reason(error)}") from error
    if len(data) > max_bytes:  # it grew, or its file system does not know its size
        raise InputError(f"{path} has more than {max_bytes} bytes, which is all that is read")
    return data
