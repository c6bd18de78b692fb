"""The header in front of each frame of a stream: what docs/robot_cameras.md tables byte by byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from depth_anything_ros.errors import InputError

MAGIC = b"DAR1"
ALIGNMENT_BYTES = 8  # the payload begins at a multiple of it, so it can be viewed as an array where it lies
WHATS = ("depth", "points", "image", "color")  # their numbers begin at 1
FORMATS = ("raw", "npy", "png", "jpeg", "ply", "pcd")
KINDS = ("", "metric", "relative", "scale_invariant")  # no depth: 0
HAS_CAMERA, DISTORTS = 1, 2

_FIXED = struct.Struct("<4sHBBiIIIBBHf4f2fII")


class UndecodableFrame(InputError):
    """Bytes that are no message of a stream."""


@dataclass(frozen=True)
class FrameHeader:
    """What a frame is.

    Attributes:
        what, format, kind: names in `WHATS`, `FORMATS`, `KINDS`.
        stamp_ns: of the image, nanoseconds.
        width, height: pixels; of a cloud, columns and rows of points.
        frame_id: of the optical frame.
        scale: levels a metre of a 16-bit PNG, else 1.
        intrinsics: fx, fy, cx, cy in pixels; None where unknown.
        is_distorted: the lens distorts, so a pinhole with these intrinsics is an approximation.
        lowest, highest: finite depth in its unit; NaN where there is none.
        number: of the frame since its topic was subscribed.
    """

    what: str
    format: str
    stamp_ns: int
    width: int
    height: int
    frame_id: str = ""
    kind: str = ""
    scale: float = 1.0
    intrinsics: tuple[float, float, float, float] | None = None
    is_distorted: bool = False
    lowest: float = float("nan")
    highest: float = float("nan")
    number: int = 0

    def pack(self, payload_bytes: int) -> bytes:
        """The header in front of a payload of so many bytes."""
        frame_id = self.frame_id.encode()[:0xFFFF]
        size = -(-(_FIXED.size + len(frame_id)) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        seconds, nanoseconds = divmod(self.stamp_ns, 10**9)
        flags = (HAS_CAMERA if self.intrinsics else 0) | (DISTORTS if self.is_distorted else 0)
        fixed = _FIXED.pack(
            MAGIC,
            size,
            WHATS.index(self.what) + 1,
            FORMATS.index(self.format) + 1,
            seconds,
            nanoseconds,
            self.width,
            self.height,
            KINDS.index(self.kind),
            flags,
            len(frame_id),
            self.scale,
            *(self.intrinsics or (0.0, 0.0, 0.0, 0.0)),
            self.lowest,
            self.highest,
            self.number & 0xFFFFFFFF,
            payload_bytes,
        )
        return (fixed + frame_id).ljust(size, b"\0")


def unpack(message: bytes) -> tuple[FrameHeader, memoryview]:
    """A stream's message -> header and payload, the latter without a copy.

    Raises:
        UndecodableFrame: it is too short, of another kind, or contradicts itself.
    """
    if len(message) < _FIXED.size or message[:4] != MAGIC:
        raise UndecodableFrame(f"{len(message)} bytes that do not begin with {MAGIC.decode()} are no frame of a stream")
    _, size, what, format_, seconds, nanoseconds, width, height, kind, flags, id_bytes, *rest = _FIXED.unpack_from(
        message
    )
    scale, fx, fy, cx, cy, lowest, highest, number, payload_bytes = rest
    names = 1 <= what <= len(WHATS) and 1 <= format_ <= len(FORMATS) and kind < len(KINDS)
    if not names or _FIXED.size + id_bytes > size or size + payload_bytes != len(message):
        raise UndecodableFrame(f"the header of a stream's message of {len(message)} bytes contradicts it")
    header = FrameHeader(
        what=WHATS[what - 1],
        format=FORMATS[format_ - 1],
        stamp_ns=seconds * 10**9 + nanoseconds,
        width=width,
        height=height,
        frame_id=message[_FIXED.size : _FIXED.size + id_bytes].decode(errors="replace"),
        kind=KINDS[kind],
        scale=scale,
        intrinsics=(fx, fy, cx, cy) if flags & HAS_CAMERA else None,
        is_distorted=bool(flags & DISTORTS),
        lowest=lowest,
        highest=highest,
        number=number,
    )
    return header, memoryview(message)[size:]
