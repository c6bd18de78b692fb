"""Write pictures and depth as image_transport's plugins do: `format` and `data` of a CompressedImage.

Depth: compressed_depth_image_transport (src/codec.cpp, compression_common.hpp). `data` is a header of 12 bytes in
native byte order (int32 compression format, float32 A, float32 B), then a 16-bit PNG. 16UC1 is stored unchanged. 32FC1
is stored as quantised inverse depth q = A / depth + B, 0 for invalid, with A = z (z + 1) for a `depth_quantization` z.
B gives the largest depth q = 1. Neighbouring values of q are depth^2 / A metres apart.

Pictures: compressed_image_transport (src/compressed_publisher.cpp).
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import InputError, SettingsError, quoted
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE, UINT16_MAX, depth_to_uint16, encode_png

ENCODINGS = ("32FC1", "16UC1")
HEADER = struct.Struct("=iff")
INVERSE_DEPTH = 0  # compressionFormat INV_DEPTH; the plugin writes it for 16UC1, too
# The plugin's default. With it, all depth nearer than z (z + 1) / 65535 = 0.15 m has the same value.
DEPTH_QUANTIZATION = 100.0
JPEG_FORMAT = "bgr8; jpeg compressed bgr8"
JPEG_QUALITY = 95


def encode(
    depth_m: NDArray[np.floating[Any]],
    encoding: str = "32FC1",
    *,
    depth_max_m: float,
    depth_quantization: float = DEPTH_QUANTIZATION,
) -> tuple[str, bytes]:
    """Compress depth (H, W) in metres.

    NaN, infinite, zero, negative depth and depth beyond `depth_max_m` become 0, invalid. In 32FC1, depth too near for
    16 bits is stored as the nearest depth they hold, so an obstacle does not vanish. 16UC1 ends at 65.535 m.

    Args:
        depth_m: any floating dtype.
        encoding: what a reader gets: `32FC1`, metres with NaN, or `16UC1`, millimetres with 0.
        depth_max_m: the largest depth that is kept.
        depth_quantization: a larger one makes steps finer, and the nearest depth larger (32FC1 only).

    Returns:
        `format` and `data` of the message.

    Raises:
        SettingsError: unknown encoding, or a number that is not positive and finite.
        InputError: depth that is not (H, W), or empty.
    """
    if encoding not in ENCODINGS:
        raise SettingsError(f"unknown depth encoding {encoding!r}; known: {', '.join(ENCODINGS)}")
    for name, number in (("depth_max_m", depth_max_m), ("depth_quantization", depth_quantization)):
        if not 0 < number < np.inf:
            raise SettingsError(f"{name} must be a positive number, got {number}")
    if depth_m.ndim != 2 or not depth_m.size:
        raise InputError(f"depth must have shape (H, W), got {depth_m.shape}")
    a, b = _parameters(depth_max_m, depth_quantization) if encoding == "32FC1" else (0.0, 0.0)
    depth = np.asarray(depth_m, np.float32)
    depth = np.where(depth <= np.float32(depth_max_m), depth, np.float32(0))
    codes = _quantise(depth, a, b) if encoding == "32FC1" else depth_to_uint16(depth)
    return f"{encoding}; compressedDepth png", HEADER.pack(INVERSE_DEPTH, a, b) + encode_png(codes)


def decode(format_: str, data: bytes) -> NDArray[np.float32]:
    """Read what `encode` or the plugin wrote (PNG only): float32 (H, W) in metres, NaN for invalid.

    Raises:
        InputError: another format, or data that cannot be read.
    """
    encoding, _, compression = (part.strip() for part in format_.partition(";"))
    # Older plugins leave out the second part, or its "png".
    if encoding not in ENCODINGS or compression not in ("", "compressedDepth", "compressedDepth png"):
        raise InputError(
            f"format {quoted(format_)} is not compressed depth; known: {', '.join(ENCODINGS)}; compressedDepth png"
        )
    codes = _read_png(data[HEADER.size :])
    depth = codes.astype(np.float32)
    if encoding == "16UC1":
        depth /= np.float32(MILLIMETRES_PER_METRE)
    else:
        _, a, b = HEADER.unpack_from(data)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(a) / (depth - np.float32(b))
    depth[codes == 0] = np.nan
    return depth


def bgr_to_jpeg(image_bgr: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> tuple[str, bytes]:
    """Compress uint8 (H, W, 3) BGR to a JPEG: `format` and `data` of the message.

    Args:
        image_bgr: any strides.
        quality: 1 to 100.

    Raises:
        SettingsError: a quality out of range. InputError: an array that no JPEG can hold.
    """
    if not 1 <= quality <= 100:
        raise SettingsError(f"JPEG quality must be from 1 to 100, got {quality}")
    if image_bgr.dtype != np.uint8 or image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise InputError(f"a picture must be uint8 (H, W, 3), got {image_bgr.dtype} {image_bgr.shape}")
    try:
        done, data = cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"a JPEG cannot hold a picture of shape {image_bgr.shape}")
    return JPEG_FORMAT, data.tobytes()


def _parameters(depth_max_m: float, depth_quantization: float) -> tuple[float, float]:
    a = depth_quantization * (depth_quantization + 1)
    return a, 1 - a / depth_max_m


def _quantise(depth: NDArray[np.float32], a: float, b: float) -> NDArray[np.uint16]:
    """Round to the nearest code. The plugin cuts off, which has twice the error."""
    valid = depth > 0
    with np.errstate(over="ignore"):  # of the tiniest depth
        codes = np.divide(np.float32(a), depth, out=np.zeros_like(depth), where=valid) + np.float32(b + 0.5)
    return np.where(valid, np.clip(codes, 1, UINT16_MAX), 0).astype(np.uint16)


def _read_png(data: bytes) -> NDArray[np.uint16]:
    try:
        codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        codes = None
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 2:
        raise InputError(f"the {len(data)} bytes of compressed depth are not a 16-bit PNG")
    return codes  # type: ignore[return-value]
