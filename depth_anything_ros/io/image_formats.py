"""How each image format states its size: one reader for each format, for bytes that may be hostile.

A reader looks at headers alone, in bounded steps. `image_header` chooses it, and judges what it returns.
Truncated data raises struct.error or IndexError here, which `image_header` turns into UndecodableImage.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from depth_anything_ros.errors import ImageError

ImageFormat = Literal["jpeg", "png", "webp", "bmp", "tiff", "pnm"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PNG_CHUNKS = 65_536  # 32 MiB in the usual pieces of 8 KiB are 4096

# ---- JPEG

MAX_JPEG_SEGMENTS = 4096  # before the pixels; a phone's depth map and gain map in EXIF and XMP are about a hundred
MAX_JPEG_SCAN_SEGMENTS = 1024  # scans, and the tables between them
MAX_JPEG_FILL_BYTES = 1024  # before a marker
# Compressed data has a zero after each FF, unless a restart marker (D0..D7) stands there.
JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
JPEG_AFTER_FILL = re.compile(rb"[^\xff]")
JPEG_END_OF_IMAGE = 0xD9
JPEG_START_OF_SCAN = 0xDA
JPEG_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
JPEG_ARITHMETIC_FRAMES = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
# Start-of-frame markers are C0..CF without DHT (C4), JPG (C8) and DAC (CC), which share the range.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0..RST7, SOI.
JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})

# ---- TIFF

TIFF_SUBFILE, TIFF_WIDTH, TIFF_HEIGHT, TIFF_BITS, TIFF_COMPRESSION = 254, 256, 257, 258, 259
TIFF_SAMPLES, TIFF_TILE_WIDTH, TIFF_TILE_HEIGHT = 277, 322, 323
TIFF_DEFAULTS = {
    TIFF_SUBFILE: 0,
    TIFF_BITS: 1,
    TIFF_COMPRESSION: 1,
    TIFF_SAMPLES: 1,
    TIFF_TILE_WIDTH: 0,
    TIFF_TILE_HEIGHT: 0,
}
TIFF_NUMBERS = {3: ("H", 2), 4: ("I", 4)}  # SHORT and LONG: code of `struct`, bytes
MAX_TIFF_ENTRIES = 1000
TIFF_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})  # none, LZW, Deflate, PackBits, old Deflate

# ---- PNM

PNM_HEADER_BYTES = 4096  # comments included
PNM_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
PNM_HEADER = re.compile(rb"P([1-6])" + PNM_SPACE + rb"(\d{1,9})" + PNM_SPACE + rb"(\d{1,9})\s")
PNM_MAXIMUM = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,5})\s")


class UndecodableImage(ImageError):
    """Bytes that are no image of an allowed format, or a truncated, damaged or unsupported one."""


@dataclass(frozen=True)
class ImageHeader:
    """What the header says.

    Attributes:
        format: as its bytes say, whatever the file's name.
        width, height: in pixels, as stored: an EXIF orientation is not applied.
        bits: of each channel, 1 to 16; of a palette image, of its indices.
        scans: passes over the whole picture: 1, and more in a progressive JPEG.
    """

    format: ImageFormat
    width: int
    height: int
    bits: int = 8
    scans: int = 1


def _read_png(view: memoryview) -> ImageHeader:
    """Walk all chunks: length, name, content, checksum. A decoder believes their lengths, up to 4 GiB."""
    length, name, width, height, bits = struct.unpack_from(">I4sIIB", view, len(PNG_SIGNATURE))
    if length != 13 or name != b"IHDR":
        raise UndecodableImage("the PNG image is damaged: it does not start with its size")
    offset = len(PNG_SIGNATURE)
    for _ in range(MAX_PNG_CHUNKS):
        length, name = struct.unpack_from(">I4s", view, offset)
        offset += 12 + length
        if offset > len(view):
            raise UndecodableImage("the image is truncated")
        if name == b"acTL":
            raise UndecodableImage("the PNG image is animated; send one frame")
        if name == b"IEND":
            return ImageHeader("png", width, height, bits)
    raise UndecodableImage(f"the PNG image has more than {MAX_PNG_CHUNKS} chunks; save it again")


def _read_jpeg(view: memoryview) -> ImageHeader:
    """Walk the segments up to the first scan (marker, length, content), then count the scans."""
    frame: ImageHeader | None = None
    marker, offset = _jpeg_marker(view, 2)
    for _ in range(MAX_JPEG_SEGMENTS):
        if marker == JPEG_START_OF_SCAN:
            break
        if marker not in JPEG_BARE:
            (length,) = struct.unpack_from(">H", view, offset)
            if marker in JPEG_FRAMES and frame is None:
                frame = _jpeg_frame(marker, view, offset + 2)
            offset += length
        marker, offset = _jpeg_marker(view, offset)
    else:
        raise UndecodableImage(f"the JPEG image has more than {MAX_JPEG_SEGMENTS} segments before its pixels")
    if frame is None:
        raise UndecodableImage("the JPEG image is damaged: it has no frame header")
    return ImageHeader("jpeg", frame.width, frame.height, frame.bits, _count_jpeg_scans(view, offset))


def _jpeg_frame(marker: int, view: memoryview, offset: int) -> ImageHeader:
    """Read a frame header. Raises UndecodableImage for a coding that is not taken."""
    bits, height, width, components = struct.unpack_from(">BHHB", view, offset)
    if marker in JPEG_ARITHMETIC_FRAMES:
        raise UndecodableImage("the JPEG image is arithmetic-coded; send a Huffman-coded one, as cameras do")
    if marker not in JPEG_HUFFMAN_FRAMES or bits != 8 or components not in (1, 3):
        raise UndecodableImage("the JPEG image is CMYK, lossless or not 8 bits deep; send 8-bit grey or YCbCr")
    return ImageHeader("jpeg", width, height, bits)


def _count_jpeg_scans(view: memoryview, offset: int) -> int:
    """Count scans from the first one's header to the end of the image, which has to be there.

    Tables and comments may stand between scans. Anything after the end (a second picture, a film) is ignored.
    """
    scans = 1
    for _ in range(MAX_JPEG_SCAN_SEGMENTS):
        (length,) = struct.unpack_from(">H", view, offset)
        found = JPEG_MARKER.search(view, offset + length)
        if found is None:
            raise UndecodableImage("the image is truncated")
        marker, offset = found[0][1], found.end()
        if marker == JPEG_END_OF_IMAGE:
            return scans
        scans += marker == JPEG_START_OF_SCAN
    raise UndecodableImage(f"the JPEG image has more than {MAX_JPEG_SCAN_SEGMENTS} scans and tables; save it again")


def _jpeg_marker(view: memoryview, offset: int) -> tuple[int, int]:
    """Return the marker at `offset`, and the offset behind it; fill bytes (FF) may precede it."""
    if view[offset] != 0xFF:
        raise UndecodableImage("the JPEG image is damaged: its segments do not follow each other")
    found = JPEG_AFTER_FILL.search(view, offset, offset + MAX_JPEG_FILL_BYTES)
    if found is None:
        raise UndecodableImage("the image is truncated")
    return found[0][0], found.end()


def _read_webp(view: memoryview) -> ImageHeader:
    (riff_size,) = struct.unpack_from("<I", view, 4)
    if len(view) < riff_size + 8:
        raise UndecodableImage("the image is truncated")
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        if view[20] & 0x02:
            raise UndecodableImage("the WebP image is animated; send one frame")
        w, w_high, h, h_high = struct.unpack_from("<HBHB", view, 24)
        width, height = 1 + (w | w_high << 16), 1 + (h | h_high << 16)
    elif kind == b"VP8L":
        (sizes,) = struct.unpack_from("<I", view, 21)
        width, height = (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", view, 26))
    else:
        raise UndecodableImage("the WebP image is damaged: it holds no picture")
    return ImageHeader("webp", width, height)


def _read_bmp(view: memoryview) -> ImageHeader:
    """Read the size; an image that is stored from top to bottom has a negative height."""
    pixels_at, header_bytes = struct.unpack_from("<II", view, 10)
    if header_bytes == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", view, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", view, 18)
    if width < 0 or bits not in (1, 4, 8, 16, 24, 32) or compression > 3:
        raise UndecodableImage("the BMP image is damaged, or of a kind that is not read: save it again")
    row_bytes = (width * bits + 31) // 32 * 4
    is_run_length_coded = compression in (1, 2)
    if not is_run_length_coded and len(view) < pixels_at + row_bytes * abs(height):
        raise UndecodableImage("the image is truncated")
    return ImageHeader("bmp", width, abs(height), min(bits, 8))


def _read_tiff(view: memoryview) -> ImageHeader:
    """Read the first picture's directory: entries of tag, type, count, and a value or where it stands."""
    order = "<" if view[0] == ord("I") else ">"
    (directory,) = struct.unpack_from(f"{order}I", view, 4)
    (count,) = struct.unpack_from(f"{order}H", view, directory)
    if count > MAX_TIFF_ENTRIES:
        raise UndecodableImage(f"the TIFF image is damaged: its directory has {count} entries")
    # Backwards, so that the first of two entries with one tag counts, as it does for decoders.
    entries = [_tiff_entry(view, directory + 2 + 12 * entry, order) for entry in reversed(range(count))]
    return _tiff_header(TIFF_DEFAULTS | dict(entries))


def _tiff_header(values: dict[int, int]) -> ImageHeader:
    """Check what the directory says. Raises UndecodableImage for a kind that is not taken."""
    if not {TIFF_WIDTH, TIFF_HEIGHT} <= values.keys():
        raise UndecodableImage("the TIFF image is damaged: it has no size")
    width, height = values[TIFF_WIDTH], values[TIFF_HEIGHT]
    if values[TIFF_SUBFILE] & 1:
        raise UndecodableImage("the TIFF file starts with a thumbnail, as a camera's raw files do; develop it first")
    if values[TIFF_COMPRESSION] not in TIFF_COMPRESSIONS:
        raise UndecodableImage("the TIFF image has an unsupported compression; save it with LZW or Deflate")
    if values[TIFF_BITS] > 16:
        raise UndecodableImage(f"the TIFF image has {values[TIFF_BITS]} bits for each channel; allowed: up to 16")
    if values[TIFF_SAMPLES] > 4:
        raise UndecodableImage(f"the TIFF image has {values[TIFF_SAMPLES]} channels; send grey or RGB")
    # A decoder needs the memory of a whole tile. A tile may exceed a small picture, but not by much.
    if values[TIFF_TILE_WIDTH] > width + 1024 or values[TIFF_TILE_HEIGHT] > height + 1024:
        raise UndecodableImage("the TIFF image has tiles much larger than itself; save it again")
    return ImageHeader("tiff", width, height, values[TIFF_BITS])


def _tiff_entry(view: memoryview, offset: int, order: str) -> tuple[int, int]:
    """Return an entry's tag and its first value; 0 for other types than whole numbers."""
    tag, kind, count = struct.unpack_from(f"{order}HHI", view, offset)
    if kind not in TIFF_NUMBERS or not count:
        return tag, 0
    (code, size), at = TIFF_NUMBERS[kind], offset + 8
    if count * size > 4:
        (at,) = struct.unpack_from(f"{order}I", view, at)
    (value,) = struct.unpack_from(order + code, view, at)
    return tag, value


def _read_pnm(view: memoryview) -> ImageHeader:
    start = bytes(view[:PNM_HEADER_BYTES])
    header = PNM_HEADER.match(start)
    if header is None:
        raise UndecodableImage("the PNM image is truncated or damaged: its header cannot be read")
    kind, width, height = (int(number) for number in header.groups())
    if kind in (1, 4):
        return ImageHeader("pnm", width, height, 1)
    maximum = PNM_MAXIMUM.match(start, header.end())
    if maximum is None or not 0 < int(maximum[1]) < 65536:
        raise UndecodableImage("the PNM image is damaged: its largest value must be 1 to 65535")
    bits = 8 if int(maximum[1]) < 256 else 16
    channels = 3 if kind in (3, 6) else 1
    if kind > 3 and len(view) < maximum.end() + width * height * channels * bits // 8:
        raise UndecodableImage("the image is truncated")
    return ImageHeader("pnm", width, height, bits)


READERS: dict[ImageFormat, Callable[[memoryview], ImageHeader]] = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
    "pnm": _read_pnm,
}
