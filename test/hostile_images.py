"""Pictures that are none, that lie about their size, that cost more than they weigh; and unusual good ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

from depth_anything_ros.io.image_formats import PNG_SIGNATURE

Build = Callable[[], bytes]

PIXELS = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
PNG = bytes(cv2.imencode(".png", PIXELS)[1])
JPEG = bytes(cv2.imencode(".jpg", PIXELS)[1])
PROGRESSIVE = bytes(cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
FALSE_END = b"\xff\xfe\x00\x04\xff\xd9"  # a comment that looks like an end of image
WEBP = bytes(cv2.imencode(".webp", PIXELS)[1])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, kind: int = 2, bits: int = 8, *, before: bytes = b"", data: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return PNG_SIGNATURE + header + before + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def zeros(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1])


def jpeg_header(width: int, height: int, components: int = 3, marker: int = 0xC0) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, components) + b"".join(
        bytes([i, 0x11, 0]) for i in range(components)
    )
    scan = bytes([components, *[0] * (2 * components), 0, 63, 0])
    parts = ((marker, frame), (0xDA, scan))
    segments = b"".join(b"\xff" + bytes([m]) + struct.pack(">H", len(data) + 2) + data for m, data in parts)
    return b"\xff\xd8" + segments + b"\x00\xff\xd9"


def webp(kind: bytes, data: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def rotated_jpeg() -> bytes:
    """The picture with an EXIF orientation of a quarter turn."""
    tiff = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 2) + tiff + JPEG[2:]


ANIMATION = chunk(b"acTL", struct.pack(">II", 2, 0))
PALETTE = chunk(b"PLTE", bytes(range(48)))
IMAGES: dict[str, Build] = {
    "4000x1": lambda: zeros(4000, 1),
    "1x4000": lambda: zeros(1, 4000),
    "65000x8": lambda: png(65000, 8),
    "9:1": lambda: zeros(90, 10),
    "8193 wide": lambda: png(8193, 2000),
    "26 megapixels": lambda: png(6500, 4000),
    "50k x 50k PNG": lambda: png(50_000, 50_000),
    "2^31 PNG": lambda: png(2**31 - 1, 2**31 - 1),
    "2^32 PNG": lambda: png(2**32 - 1, 2**32 - 1),
    "0x0 PNG": lambda: png(0, 0),
    "0x5 PNG": lambda: png(0, 5),
    "65535x65535 JPEG": lambda: jpeg_header(65535, 65535),
    "0x0 JPEG": lambda: jpeg_header(0, 0),
    "16383x16383 WebP": lambda: webp(b"VP8L", b"\x2f\xff\xff\xff\x0f" + b"\x00" * 32),
    "2^24 WebP": lambda: webp(b"VP8X", b"\x00\x00\x00\x00" + b"\xff" * 6),
    "0 bytes": lambda: b"",
    "1 byte": lambda: b"\xff",
    "PNG signature": lambda: PNG_SIGNATURE,
    "PNG without pixels": lambda: png(64, 48),
    "PNG with wrong sums": lambda: PNG[:29] + b"\x00\x00\x00\x00" + PNG[33:],
    "PNG cut in the middle": lambda: PNG[: len(PNG) // 2],
    "PNG with noise inside": lambda: PNG[:60] + bytes(200) + PNG[260:],
    "PNG of 100,000 chunks": lambda: PNG[:33] + chunk(b"tEXt", b"") * 100_000 + PNG[33:],
    "PNG, chunk length 2^32": lambda: PNG[:33] + b"\xff\xff\xff\xff" + PNG[37:],
    "JPEG cut in the middle": lambda: JPEG[: len(JPEG) // 2],
    "JPEG cut in its header": lambda: JPEG[:20],
    "JPEG start": lambda: b"\xff\xd8\xff",
    "JPEG of fill bytes": lambda: b"\xff\xd8" + b"\xff" * 100_000,
    "JPEG with segments of length 0": lambda: b"\xff\xd8\xff\xe0\x00\x00" * 1000,
    "JPEG of 10,000 scans": lambda: PROGRESSIVE[:-2] + LAST_SCAN * 10_000 + PROGRESSIVE[-2:],
    "JPEG of scans behind a false end": lambda: PROGRESSIVE[:-2] + (FALSE_END + LAST_SCAN) * 10_000 + PROGRESSIVE[-2:],
    "JPEG without pixels": lambda: jpeg_header(64, 48),
    "JPEG CMYK": lambda: jpeg_header(64, 48, components=4),
    "JPEG lossless": lambda: jpeg_header(64, 48, marker=0xC3),
    "WebP cut in the middle": lambda: WEBP[: len(WEBP) // 2],
    "WebP without pixels": lambda: webp(b"VP8 ", b"\x00" * 10),
    "WebP of an unknown kind": lambda: webp(b"XXXX", b"\x00" * 30),
    "WebP animated": lambda: webp(b"VP8X", b"\x02\x00\x00\x00" + b"\x3f\x00\x00\x2f\x00\x00"),
    "PNG animated": lambda: png(64, 48, before=ANIMATION),
    "GIF animated": lambda: (
        b"GIF89a\x40\x00\x30\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00;"
    ),
    "BMP": lambda: bytes(cv2.imencode(".bmp", PIXELS)[1]),
    "TIFF": lambda: b"II*\x00\x08\x00\x00\x00" + bytes(100),
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "HTML": lambda: b"<!doctype html><title>no image</title>",
    "PDF": lambda: b"%PDF-1.7\n",
    "ZIP": lambda: b"PK\x03\x04" + bytes(100),
    "EXR": lambda: b"v/1\x01" + bytes(100),
    "AVIF": lambda: b"\x00\x00\x00\x20ftypavif" + bytes(100),
    "pickle": lambda: b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "noise": lambda: np.random.default_rng(0).bytes(10_000),
}
# Unusual, but pictures: (height, width) of the depth that comes back.
ODD_IMAGES: dict[str, tuple[Build, tuple[int, int]]] = {
    "1x1": (lambda: zeros(1, 1), (1, 1)),
    "16 bits": (lambda: bytes(cv2.imencode(".png", PIXELS.astype(np.uint16) * 257)[1]), (48, 64)),
    "grey": (lambda: bytes(cv2.imencode(".png", PIXELS[..., 0])[1]), (48, 64)),
    "alpha": (lambda: bytes(cv2.imencode(".png", np.dstack([PIXELS, PIXELS[..., :1]]))[1]), (48, 64)),
    "palette": (lambda: png(8, 4, 3, 8, before=PALETTE, data=bytes([0, 1, 2, 3, 4, 5, 6, 7, 8]) * 4), (4, 8)),
    "EXIF rotation": (rotated_jpeg, (48, 64)),
    "8:1": (lambda: zeros(80, 10), (10, 80)),
    "bytes after the end": (lambda: PNG + b"<script>" * 100, (48, 64)),
    "WebP": (lambda: WEBP, (48, 64)),
    "progressive": (lambda: PROGRESSIVE, (48, 64)),
    "a film after the end": (lambda: JPEG + b"\xff\xda" * 1000, (48, 64)),
}
