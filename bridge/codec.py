"""Bytes to images, and depth to bytes and back: what the bridge and its client have in common.

Images are decoded to the pixel grid that is stored in the file: an EXIF orientation is not applied,
because intrinsics belong to the sensor's grid and the depth that comes back must match the pixels
the caller has. Alpha is dropped, 16 bits are reduced to 8, grey and palettes become BGR.

Clouds have their writers in `depth_anything_ros.io.formats`.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, InputError
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE, UINT16_MAX, depth_to_uint16, encode_png
from depth_anything_ros.io.image_header import DEFAULT_LIMITS, UndecodableImage, check_image
from depth_anything_ros.settings import ImageLimits

FLOAT32 = np.dtype("<f4")
# Of what the server has judged, or will judge: they only keep a bad file from filling this machine's memory.
GENEROUS_LIMITS = ImageLimits(max_pixels=200_000_000, max_side=65_535, max_aspect_ratio=math.inf)
DEPTH_LIMITS = replace(GENEROUS_LIMITS, formats=("png",))  # of a depth PNG that a server sends


class UndecodableData(InputError):
    """Base64, npy, PNG or raw bytes that do not hold what they should."""


class UnusableScale(InputError):
    """A PNG scale with which the largest depth does not fit into 16 bits, or is less than one level."""


def decode_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """Check an image against the limits and decode it to uint8 BGR (H, W, 3), the grid as stored.

    Raises:
        UndecodableImage, OversizedImage: see `check_image`. UndecodableImage: the decoder refused it.
    """
    header = check_image(data, limits)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UndecodableImage("the image is damaged") from error
    if image is None or image.shape[:2] != (header.height, header.width):
        raise UndecodableImage("the image is damaged")
    return np.asarray(image, np.uint8)


def decode_base64(text: str) -> bytes:
    """Decode base64, or a `data:` URL that holds base64.

    Both alphabets are read (`+/` and the URL-safe `-_`), with or without padding, with line breaks.

    Raises:
        UndecodableData: anything else.
    """
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise UndecodableData("the data: URL does not hold base64")
    text = "".join(text.split()).replace("-", "+").replace("_", "/")
    if "=" not in text:
        text += "=" * (-len(text) % 4)
    if len(text) % 4:  # Python 3.10 would take padding that is too long
        raise UndecodableData("not valid base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UndecodableData("not valid base64") from error


def encode_raw(array: NDArray[Any]) -> bytes:
    """Any array -> its values as little-endian float32, row by row."""
    return np.ascontiguousarray(array, FLOAT32).tobytes()


def decode_raw(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Little-endian float32 -> float32 array of `shape`.

    Raises:
        UndecodableData: the number of bytes is not that of the shape.
    """
    if len(data) != FLOAT32.itemsize * int(np.prod(shape)):
        raise UndecodableData(f"{len(data)} bytes do not make a float32 array of shape {shape}")
    return np.frombuffer(data, FLOAT32).reshape(shape).astype(np.float32)


def encode_array_base64(array: NDArray[Any]) -> bytes:
    """Any array -> base64 of `encode_raw`."""
    return base64.b64encode(np.ascontiguousarray(array, FLOAT32).data)


def decode_array_base64(text: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Base64 of little-endian float32 -> float32 array of `shape`. Raises UndecodableData."""
    return decode_raw(decode_base64(text), shape)


def decode_npy(data: bytes) -> NDArray[np.float32]:
    """A `.npy` file -> float32 array. Never unpickles. Raises UndecodableData."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
        return np.asarray(array, np.float32)
    except (ValueError, TypeError, EOFError, OSError, MemoryError) as error:  # its header may announce any size
        raise UndecodableData("not an .npy file of numbers") from error


def fitting_png_scale(max_depth: float) -> float:
    """Millimetres, or the finest whole number of levels a metre with which `max_depth` metres fit into 16 bits."""
    return min(MILLIMETRES_PER_METRE, math.floor(UINT16_MAX / max_depth)) if max_depth > 0 else MILLIMETRES_PER_METRE


def check_png_scale(max_depth: float, scale: float) -> None:
    """Raise UnusableScale unless `max_depth` metres fit into 16 bits and are a level at least."""
    if not 1 <= max_depth * scale <= UINT16_MAX:
        raise UnusableScale(
            f"max_depth {max_depth:g} times png_scale {scale:g} must be 1 to {UINT16_MAX} levels of a 16-bit PNG"
        )


def encode_depth_png16(depth: NDArray[np.floating[Any]], scale: float = MILLIMETRES_PER_METRE) -> bytes:
    """Depth (H, W) in metres -> 16-bit grey PNG in 1/scale metres; 0 where there is no value."""
    return encode_png(depth_to_uint16(depth, scale))


def decode_depth_png16(data: bytes, scale: float = MILLIMETRES_PER_METRE) -> NDArray[np.float32]:
    """16-bit grey PNG in 1/scale metres -> float32 (H, W) in metres; NaN where it holds 0.

    Raises:
        UndecodableData: not a 16-bit grey PNG.
    """
    try:
        check_image(data, DEPTH_LIMITS)
        levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (ImageError, cv2.error) as error:
        raise UndecodableData("not a 16-bit grey PNG") from error
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 2:
        raise UndecodableData("not a 16-bit grey PNG")
    depth: NDArray[np.float32] = levels.astype(np.float32) / np.float32(scale)
    depth[levels == 0] = np.nan
    return depth
