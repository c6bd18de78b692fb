"""What an image says of itself in its first bytes: format and size, before anything is decoded.

A few hundred bytes can announce a picture of gigabytes, so its size is checked against the limits
first. Only the formats that the bridge takes are read: JPEG, PNG and WebP.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from depth_anything_ros.errors import ImageError

ImageFormat = Literal["jpeg", "png", "webp"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PNG_CHUNKS = 65_536  # 32 MiB in the usual pieces of 8 KiB are 4096
# A progressive JPEG has about ten scans. Each may be a few bytes, and costs a pass over the whole picture.
MAX_JPEG_SEGMENTS = 200
# Compressed data has a zero after each FF, unless a restart marker (D0..D7) stands there.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_END = b"\xff\xd9"
# Start-of-frame markers C0..CF, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_START_OF_SCAN = 0xDA
# Markers without a length: TEM, RST0..RST7, SOI.
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


class UndecodableImage(ImageError):
    """Bytes that are no JPEG, PNG or WebP image, or a truncated, damaged or unsupported one."""


@dataclass(frozen=True)
class ImageHeader:
    """Format and size of an encoded image, in pixels as stored."""

    format: ImageFormat
    width: int
    height: int


def read_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG, PNG or WebP image.

    Raises:
        UndecodableImage: another format, a truncated file, or a kind that is not taken (CMYK or
            lossless JPEG, animations).
    """
    try:
        if data.startswith(PNG_SIGNATURE):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("the image is truncated") from error
    raise UndecodableImage("the image is not a JPEG, PNG or WebP file")


def _read_png(data: bytes) -> ImageHeader:
    """Walk all chunks: length, name, content, checksum. A decoder believes their lengths, up to 4 GiB."""
    length, name, width, height = struct.unpack_from(">I4sII", data, len(PNG_SIGNATURE))
    if length != 13 or name != b"IHDR":
        raise UndecodableImage("the PNG image is damaged: it does not start with its size")
    offset = len(PNG_SIGNATURE)
    for _ in range(MAX_PNG_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, offset)
        offset += 12 + length
        if offset > len(data):
            raise UndecodableImage("the image is truncated")
        if name == b"acTL":
            raise UndecodableImage("the PNG image is animated; send one frame")
        if name == b"IEND":
            return ImageHeader("png", width, height)
    raise UndecodableImage("the PNG image is cut into too many pieces")


def _read_jpeg(data: bytes) -> ImageHeader:
    """Walk the segments up to the frame header: marker, length, content."""
    frame = None
    marker, offset = _jpeg_marker(data, 2)
    while marker != JPEG_START_OF_SCAN:
        if marker not in JPEG_BARE:
            (length,) = struct.unpack_from(">H", data, offset)
            if marker in JPEG_FRAMES and frame is None:
                frame = (marker, *struct.unpack_from(">BHHB", data, offset + 2))
            offset += length
        marker, offset = _jpeg_marker(data, offset)
    if frame is None:
        raise UndecodableImage("the JPEG image is damaged: it has no frame header")
    _find_jpeg_end(data, offset)
    marker, precision, height, width, components = frame
    if precision != 8 or components not in (1, 3) or marker in (0xC3, 0xC7, 0xCB, 0xCF):
        raise UndecodableImage("the JPEG image is CMYK, lossless or not 8 bits deep; send 8-bit grey or YCbCr")
    return ImageHeader("jpeg", width, height)


def _find_jpeg_end(data: bytes, offset: int) -> None:
    """Skip from the first scan's header, over compressed data and the segments between, to the end of the image."""
    for _ in range(MAX_JPEG_SEGMENTS):
        (length,) = struct.unpack_from(">H", data, offset)
        marker = JPEG_MARKER.search(data, offset + length)
        if marker is None:
            raise UndecodableImage("the image is truncated")
        if marker[0] == JPEG_END:
            return
        offset = marker.end()
    raise UndecodableImage("the JPEG image has too many scans")


def _jpeg_marker(data: bytes, offset: int) -> tuple[int, int]:
    """Return the marker at `offset`, and the offset behind it; fill bytes (FF) may precede it."""
    if data[offset] != 0xFF:
        raise UndecodableImage("the JPEG image is damaged: its segments do not follow each other")
    while data[offset] == 0xFF:
        offset += 1
    return data[offset], offset + 1


def _read_webp(data: bytes) -> ImageHeader:
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if len(data) < riff_size + 8:
        raise UndecodableImage("the image is truncated")
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise UndecodableImage("the WebP image is animated; send one frame")
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise UndecodableImage("the WebP image is damaged: it holds no picture")
    return ImageHeader("webp", width, height)
