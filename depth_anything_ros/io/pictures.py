"""Picture files -> pixels. A file is judged by its header before it is decoded."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, InputError
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.io.image_header import ALL_FORMATS, check_image
from depth_anything_ros.settings import ImageLimits

Image = NDArray[np.uint8]

MAX_PICTURE_BYTES = 512 * MIB
FILE_LIMITS = ImageLimits(formats=ALL_FORMATS)


def read_image(path: Path, limits: ImageLimits = FILE_LIMITS) -> Image:
    """Decode a picture to uint8 BGR (H, W, 3). EXIF rotation is applied, alpha dropped, 16 bits reduced to 8.

    Raises:
        ImageError: no such file, not a picture, damaged, truncated, or outside the limits. It names the file.
    """
    try:
        data = read_bounded(path, MAX_PICTURE_BYTES)
    except InputError as error:
        raise ImageError(str(error)) from error
    try:
        check_image(data, limits)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except cv2.error as error:
        raise ImageError(f"{path} cannot be decoded: it is damaged, or of a kind that OpenCV does not read") from error
    if image is None:
        raise ImageError(f"{path} cannot be decoded: it is damaged, or of a kind that OpenCV does not read")
    return np.asarray(image, np.uint8)
