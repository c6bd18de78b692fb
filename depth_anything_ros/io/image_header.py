"""What an encoded image says about itself, judged before a decoder sees it.

A few hundred bytes can announce gigabytes of pixels, or seconds of work. `check_image` reads the header of
every format that this project decodes (JPEG, PNG, WebP, BMP, TIFF, PNM) and refuses what is outside
`ImageLimits`. It decodes nothing: decoding is the caller's next step. How each format states its size is in
`image_formats`.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from depth_anything_ros.errors import ImageError
from depth_anything_ros.io.image_formats import PNG_SIGNATURE, READERS, ImageFormat, ImageHeader, UndecodableImage
from depth_anything_ros.settings import ImageLimits

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = [
    "ALL_FORMATS",
    "ImageFormat",
    "ImageHeader",
    "OversizedImage",
    "UndecodableImage",
    "check_image",
    "check_size",
    "read_header",
]


DEFAULT_LIMITS = ImageLimits()
ALL_FORMATS: tuple[ImageFormat, ...] = tuple(READERS)
NAMES: dict[ImageFormat, str] = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WebP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "pnm": "PNM",
}
# Below this size a flat picture may be as small as it likes: decoding it costs milliseconds.
CHEAP_PIXELS = 4_000_000

SIGNATURES: tuple[tuple[re.Pattern[bytes], ImageFormat], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(re.escape(PNG_SIGNATURE)), "png"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM"), "bmp"),
    (re.compile(rb"II\*\x00|MM\x00\*"), "tiff"),
    (re.compile(rb"P[1-6][\s#]"), "pnm"),
)
# What people send instead, for the error message alone. ISO media files name their brands after `ftyp`.
STRANGERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"), "a JPEG XL image"),
    (re.compile(rb".{4}ftyp.{0,60}?avi[fs]", re.DOTALL), "an AVIF image"),
    (re.compile(rb".{4}ftyp.{0,60}?(hei[cfmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL), "a HEIC image"),
    (re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", re.DOTALL), "a video"),
    (re.compile(rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"GIF8[79]a"), "a GIF image"),
    (re.compile(rb"II\+\x00|MM\x00\+"), "a BigTIFF image"),
    (re.compile(rb"P7\s"), "a PAM image"),
    (re.compile(rb"v/1\x01"), "an OpenEXR image"),
    (re.compile(rb"#\?RADIANCE|#\?RGBE"), "a Radiance HDR image"),
    (re.compile(rb"P[Ff]\s"), "a PFM image"),
    (re.compile(rb"8BPS"), "a Photoshop file"),
    (re.compile(rb"%PDF"), "a PDF file"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--[^>]*-->\s*)?<svg", re.IGNORECASE), "an SVG drawing"),
    (re.compile(rb"\s*<(!doctype html|html)", re.IGNORECASE), "a web page"),
)
SIGNATURE_BYTES = 512  # of a file's start; a drawing may begin with a comment


class OversizedImage(ImageError):
    """An image with more pixels, a longer side or a higher aspect ratio than the limits allow."""


def check_image(data: Buffer, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Read an image's header and check it against the limits. Takes milliseconds and decodes nothing.

    Args:
        data: the whole encoded image: bytes, or the `data` of a CompressedImage. Nothing is copied.
        limits: see `settings.ImageLimits`.

    Raises:
        UndecodableImage: not an image of an allowed format; truncated or damaged; a kind that is not taken
            (animations, arithmetic-coded, lossless, CMYK or 12-bit JPEG, too many scans).
        OversizedImage: outside the limits, or without pixels.
    """
    header = read_header(data, limits.formats)
    check_size(header.width, header.height, limits)
    _check_cost(header, memoryview(data).nbytes, limits)
    return header


def read_header(data: Buffer, formats: tuple[str, ...] = ImageLimits.formats) -> ImageHeader:
    """Read an image's header; its size is checked against nothing. Raises UndecodableImage as `check_image`."""
    view = memoryview(data).cast("B")
    try:
        return READERS[_format(view, formats)](view)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("the image is truncated") from error


def _format(view: memoryview, formats: tuple[str, ...]) -> ImageFormat:
    """Tell the format by the first bytes. Raises UndecodableImage for one that is not allowed."""
    start = bytes(view[:SIGNATURE_BYTES])
    found = next((name for pattern, name in SIGNATURES if pattern.match(start)), None)
    if found in formats:
        return found
    stranger = next((name for pattern, name in STRANGERS if pattern.match(start)), "no image of a known format")
    allowed = ", ".join(name for key, name in NAMES.items() if key in formats)
    raise UndecodableImage(f"this is {f'a {NAMES[found]} image' if found else stranger}; allowed: {allowed}")


def check_size(width: int, height: int, limits: ImageLimits) -> None:
    """Check a size in pixels against the limits, also of what has no image header. Raises OversizedImage."""
    short, long = sorted((width, height))
    size = f"the image is {width}x{height} pixels"
    if short == 0:
        raise OversizedImage(f"{size}: it is empty")
    if width * height > limits.max_pixels:
        raise OversizedImage(f"{size}; allowed: up to {limits.max_pixels} pixels")
    if long > limits.max_side:
        raise OversizedImage(f"{size}; allowed: sides up to {limits.max_side} pixels")
    if long > short * limits.max_aspect_ratio:
        raise OversizedImage(f"{size}; allowed: an aspect ratio up to {limits.max_aspect_ratio:g}:1")


def _check_cost(header: ImageHeader, size_bytes: int, limits: ImageLimits) -> None:
    """Refuse a picture that costs far more to decode than a real one of its size."""
    if header.scans > limits.max_scans:
        raise UndecodableImage(
            f"the JPEG image has {header.scans} scans; allowed: up to {limits.max_scans}: save it again"
        )
    pixels = header.width * header.height
    if pixels > max(CHEAP_PIXELS, limits.max_pixels_per_byte * size_bytes):
        raise OversizedImage(
            f"the image packs {header.width}x{header.height} pixels into {size_bytes} bytes; "
            f"allowed: up to {limits.max_pixels_per_byte:g} pixels for each byte"
        )
