"""What may be sent as an image, and the bytes that travel."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.codec import decode_base64
from depth_anything_ros.errors import ImageError
from depth_anything_ros.io.formats import encode_png

# A path, an http(s) URL that the server fetches, a `data:` URL, the bytes of a JPEG, PNG or WebP file, or a uint8 BGR
# array (H, W, 3).
Image = str | os.PathLike[str] | bytes | NDArray[np.uint8]

MAX_FILE_BYTES = 256 << 20  # more than any server takes


def is_url(image: Image) -> bool:
    """Whether the server is to fetch the image."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def encoded(image: Image) -> bytes:
    """Return a path's content, encoded bytes as they are, what a `data:` URL holds, an array as PNG.

    Raises:
        InputError: an array that is not uint8 (H, W, 3), a `data:` URL without base64, or no file of an image.
        OSError: the file cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        return decode_base64(image)
    if isinstance(image, (str, os.PathLike)):
        return read_photo(Path(image))
    return encode_png(_checked(image))


def read_photo(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        ImageError: a device or pipe, which may have no end, more than `MAX_FILE_BYTES`, or no file name.
        OSError: the file cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a name that holds NUL
        raise ImageError(f"{str(path)!r} is not a file name: {error}") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder says what it is
        raise ImageError(f"{str(path)!r} is not a regular file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{str(path)!r} has more than {MAX_FILE_BYTES} bytes, which is all that is read")
    return data


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Refuse what is not a picture with levels 0 to 255: the server would see it as black."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"the image must be a uint8 NumPy array (0 to 255), a path, bytes or a URL, got {got}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"the image must have shape (H, W, 3), got {image.shape}")
    return np.ascontiguousarray(image)
