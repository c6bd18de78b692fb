"""Picture files -> pixels. A file is judged by its header before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, InputError
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.io.exif import focal_px
from depth_anything_ros.io.image_header import ALL_FORMATS, check_image
from depth_anything_ros.settings import ImageLimits

Image = NDArray[np.uint8]

MAX_PICTURE_BYTES = 512 * MIB
FILE_LIMITS = ImageLimits(formats=ALL_FORMATS)


def high_byte(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Reduce 16 bits to 8, any shape."""
    return (pixels >> 8).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 BGR (H, W, 3).
        focal_px: focal length in pixels as the file's EXIF data tells it; None if it does not.
    """

    pixels: Image
    focal_px: float | None = None


def read_picture(
    path: Path,
    limits: ImageLimits = FILE_LIMITS,
    to_uint8: Callable[[NDArray[np.uint16]], NDArray[np.uint8]] = high_byte,
) -> Picture:
    """Decode a picture. EXIF rotation is applied, alpha dropped.

    Args:
        to_uint8: makes 8 bits of 16, for pictures that have them.

    Raises:
        ImageError: no such file, not a picture, damaged, truncated, or outside the limits. It names the file.
    """
    try:
        data = read_bounded(path, MAX_PICTURE_BYTES)
    except InputError as error:
        raise ImageError(str(error)) from error
    try:
        check_image(data, limits)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except cv2.error as error:
        raise ImageError(f"{path} cannot be decoded: it is damaged, or of a kind that OpenCV does not read") from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path} cannot be decoded: it is damaged, or of a kind that OpenCV does not read")
    image = to_uint8(pixels) if pixels.dtype == np.uint16 else pixels  # type: ignore[arg-type]
    height, width = image.shape[:2]
    return Picture(np.asarray(image, np.uint8), focal_px(data, width, height))


def read_image(path: Path, limits: ImageLimits = FILE_LIMITS) -> Image:
    """Return the pixels of `read_picture`."""
    return read_picture(path, limits).pixels
