"""Image and PointCloud2 as bytes that a ROS middleware sends as they are: CDR, as XTypes 7.4.1 has it. Needs no ROS.

Numbers are aligned to their own size, counted from behind the first four bytes, which say how the rest is written.
The order of the fields is that of sensor_msgs and std_msgs in all distributions since Humble.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ENCAPSULATION = b"\0\1\0\0" if sys.byteorder == "little" else b"\0\0\0\0"  # plain CDR in this machine's byte order
PADDING = b"\0"  # before aligned numbers; readers skip it, and ROS leaves in it whatever is there
# Of a message's data. OpenCV interleaves into such memory past the cache, three times as fast in a large cloud.
ALIGNMENT = 64
FLOAT32 = 7  # sensor_msgs/PointField


class CdrBuffer:
    """Memory of one serialised message after the other: the head is written, the data are filled in by the caller.

    The next message overwrites the last one. That is safe, because publishing copies it.

    Attributes:
        message: the last one, uint8 (N,), a view.
    """

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)
        self.message = self._memory

    def begin(self, head: bytes, data_bytes: int, tail: bytes = b"") -> Bytes:
        """Start a message of what is before its data, and after. Returns the memory of its data, aligned."""
        length = len(head) + data_bytes + len(tail)
        if self._memory.size < length + ALIGNMENT:
            self._memory = np.empty(length + ALIGNMENT, np.uint8)
        start = -(self._memory.ctypes.data + len(head)) % ALIGNMENT
        self.message = self._memory[start : start + length]
        data_end = len(head) + data_bytes
        self.message[: len(head)] = np.frombuffer(head, np.uint8)
        self.message[data_end:] = np.frombuffer(tail, np.uint8)
        return self.message[len(head) : data_end]


def image_head(header: Any, fields: Mapping[str, Any], data_bytes: int) -> bytes:
    """Everything of an Image before its data, which ends it: a std_msgs/Header, and `images.image_fields`."""
    cdr = _Cdr(header)
    cdr.add("II", fields["height"], fields["width"])
    cdr.add_text(fields["encoding"])
    cdr.add("B", fields["is_bigendian"])
    cdr.add("II", fields["step"], data_bytes)
    return bytes(cdr.written)


def cloud_head(header: Any, height: int, width: int, offsets: Mapping[str, int], point_step: int) -> bytes:
    """Everything of a PointCloud2 before its data, all of its fields FLOAT32; one byte follows these, `is_dense`."""
    cdr = _Cdr(header)
    cdr.add("III", height, width, len(offsets))
    for name, offset in offsets.items():
        cdr.add_text(name)
        cdr.add("I", offset)
        cdr.add("B", FLOAT32)
        cdr.add("I", 1)
    cdr.add("B", sys.byteorder == "big")
    cdr.add("III", point_step, width * point_step, height * width * point_step)
    return bytes(cdr.written)


class _Cdr:
    """A message as far as it is written: it begins with its header."""

    def __init__(self, header: Any) -> None:
        self.written = bytearray(ENCAPSULATION)
        self.add("i", header.stamp.sec)
        self.add("I", header.stamp.nanosec)
        self.add_text(header.frame_id)

    def add(self, format_: str, *numbers: int) -> None:
        """Add numbers of one size, in the letters of `struct`."""
        size = struct.calcsize(f"={format_[0]}")
        self.written += PADDING * (-(len(self.written) - len(ENCAPSULATION)) % size)
        self.written += struct.pack(f"={format_}", *numbers)

    def add_text(self, text: str) -> None:
        """Add a string: its length with the zero at its end, then both."""
        encoded = text.encode() + b"\0"
        self.add("I", len(encoded))
        self.written += encoded
