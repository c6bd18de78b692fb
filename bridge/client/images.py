"""What may be sent as an image, and the bytes that travel."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.codec import decode_base64
from depth_anything_ros.errors import ImageError
from depth_anything_ros.io.formats import encode_png

# A path, an http(s) URL that the server fetches, a `data:` URL, the bytes of a JPEG, PNG or WebP file, or a uint8 BGR
# array (H, W, 3).
Image = str | os.PathLike[str] | bytes | NDArray[np.uint8]


def is_url(image: Image) -> bool:
    """Whether the server is to fetch the image."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def encoded(image: Image) -> bytes:
    """Return a path's content, encoded bytes as they are, what a `data:` URL holds, an array as PNG.

    Raises:
        InputError: an array that is not uint8 (H, W, 3), or a `data:` URL without base64.
        OSError: the file cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        return decode_base64(image)
    if isinstance(image, (str, os.PathLike)):
        return _content(Path(image))
    return encode_png(_checked(image))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except ValueError as error:  # a name that holds NUL
        raise ImageError(f"{str(path)!r} is not a file name: {error}") from error


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Refuse what is not a picture with levels 0 to 255: the server would see it as black."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"the image must be a uint8 NumPy array (0 to 255), a path, bytes or a URL, got {got}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"the image must have shape (H, W, 3), got {image.shape}")
    return np.ascontiguousarray(image)
