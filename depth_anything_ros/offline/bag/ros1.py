"""ROS 1 bags: converted to ROS 2 by `rosbags` before they are read, beside the bag that is made."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from rosbags.convert.converter import ConverterError, convert
from rosbags.typesys import get_typestore

from depth_anything_ros.errors import CannotWrite, InputError, os_reason, quoted
from depth_anything_ros.files.presence import is_file, resolved
from depth_anything_ros.io.whole_files import locked_work_folder
from depth_anything_ros.offline.bag.files import METADATA_VERSION, STORE, is_bag, remove_folder

ROS1_SUFFIX = ".bag"
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES})


@contextmanager
def as_ros2(source: Path, out: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield the path of a ROS 2 bag: `source`, or its conversion, which is removed at the end.

    Raises:
        InputError: a ROS 1 bag that cannot be read. CannotWrite: there is no room for its conversion.
    """
    if source.suffix != ROS1_SUFFIX:
        yield source
        return
    folder = resolved(out).with_name(f".ros1-{out.name}")
    with locked_work_folder(folder):
        converted = folder / "bag"
        remove_folder(converted)
        say(f"{source} is a ROS 1 bag: converting it to ROS 2 in {converted}")
        try:
            _convert(source, converted)
            yield converted
        finally:
            remove_folder(folder)


def _convert(source: Path, target: Path) -> None:
    if not is_file(source):
        raise InputError(f"{source} cannot be read as a bag: no such file")
    try:
        with redirect_stdout(sys.stderr):  # the library prints what it does
            convert([source], target, "mcap", METADATA_VERSION, None, "", None, get_typestore(STORE), [], [], [], [])
    except Exception as error:  # of any kind: a bag may be damaged anywhere
        reason = error.__cause__ if isinstance(error, ConverterError) else error
        if isinstance(reason, OSError) and reason.errno in DISK_ERRORS:
            raise CannotWrite(f"{target} cannot be written: {os_reason(reason)}") from error
        raise InputError(f"{source} cannot be read as a bag of ROS 1: {quoted(str(reason))}") from error
    if not is_bag(target):
        raise InputError(f"{source} holds no messages")
