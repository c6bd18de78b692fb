"""The focal length that a camera wrote into a JPEG file (EXIF 2.32, tag FocalLengthIn35mmFilm)."""

from __future__ import annotations

import math
import struct

FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)  # of 35 mm film
APP1, START_OF_SCAN = 0xE1, 0xDA
EXIF_HEADER = b"Exif\x00\x00"
EXIF_FOLDER_TAG = 0x8769  # offset of the folder that holds the exposure's tags
FOCAL_35MM_TAG = 0xA405
SHORT, LONG = 3, 4
BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


def focal_px(data: bytes, width: int, height: int) -> float | None:
    """Return the focal length in pixels of a picture of this size, or None if its file does not tell.

    The tag is the focal length that has the same diagonal field of view on 35 mm film. So it holds for a picture that
    was resized or rotated, but not for one that was cropped.

    Args:
        data: the JPEG file.
        width, height: of the picture, in pixels.
    """
    try:
        focal_mm = _focal_35mm(data)
    except (struct.error, IndexError):  # damaged or truncated
        return None
    return focal_mm / FRAME_DIAGONAL_MM * math.hypot(width, height) if focal_mm else None


def _focal_35mm(data: bytes) -> int | None:
    """Return the tag's value in millimetres; 0 means unknown. Raises struct.error or IndexError for damaged data."""
    tiff = _exif_block(data)
    order = BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return None
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    exposure = _tag(tiff, order, first, EXIF_FOLDER_TAG)
    return None if exposure is None else _tag(tiff, order, exposure, FOCAL_35MM_TAG)


def _exif_block(data: bytes) -> bytes:
    """Walk a JPEG's segments (marker, length, content) to the EXIF data: a TIFF file. Empty if there is none."""
    offset = 2
    while data[:2] == b"\xff\xd8" and data[offset] == 0xFF and data[offset + 1] != START_OF_SCAN:
        (length,) = struct.unpack_from(">H", data, offset + 2)
        content = data[offset + 4 : offset + 2 + length]
        if data[offset + 1] == APP1 and content.startswith(EXIF_HEADER):
            return content[len(EXIF_HEADER) :]
        offset += 2 + length
    return b""


def _tag(tiff: bytes, order: str, folder: int, wanted: int) -> int | None:
    """Return the number of a tag in a TIFF folder at an offset; None if it is not there."""
    (count,) = struct.unpack_from(f"{order}H", tiff, folder)
    for index in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", tiff, folder + 2 + 12 * index)
        if tag == wanted and kind in (SHORT, LONG):
            return int(struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", value)[0])
    return None
