"""Files of depth -> arrays in metres: `.npy`, `.npz` and 16-bit PNG. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
import reprlib
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, InputError, SettingsError
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE
from depth_anything_ros.io.image_header import check_image
from depth_anything_ros.settings import ImageLimits

DEPTH_SUFFIXES = (".npy", ".npz", ".png")
MAX_DEPTH_BYTES = 1024 * MIB
MAX_DEPTH_PIXELS = 100_000_000
PNG_LIMITS = ImageLimits(
    max_pixels=MAX_DEPTH_PIXELS,
    max_side=65_535,
    max_aspect_ratio=math.inf,
    max_pixels_per_byte=math.inf,
    formats=("png",),
)


def read_depth(path: Path, scale: float | None) -> NDArray[np.floating[Any]]:
    """Read depth in metres, (H, W), from a file; NaN where whole numbers are 0.

    Args:
        path: `.npy`, or `.npz` with one array: metres; whole numbers are levels. `.png`, 16 bits, grey: levels.
        scale: levels per metre; 1000 for millimetres, 256 for KITTI. None: 1000 in a `.png`; levels in other files are
            refused then, because whole numbers may be metres or millimetres.

    Raises:
        InputError: no such file, another format, not a depth map, or more than 100 million pixels. It names the file.
        SettingsError: a scale that is not a positive number.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise SettingsError(f"the levels per metre of a depth PNG must be a positive number, got {scale}")
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise InputError(f"{path} is not a depth file: depth is read from .npy, .npz and 16-bit .png")
    data = read_bounded(path, MAX_DEPTH_BYTES)
    try:
        if suffix == ".png":
            return _in_metres(_png_levels(data), MILLIMETRES_PER_METRE if scale is None else scale)
        values = _read_array(data, zipped=suffix == ".npz")
        return values if values.dtype.kind == "f" else _in_metres(values, scale)
    except (InputError, EOFError, MemoryError) as error:
        raise InputError(f"{path} does not hold depth: {error}") from error


def _in_metres(levels: NDArray[Any], scale: float | None) -> NDArray[np.float32]:
    """Levels of 1/scale metres -> metres, NaN where they are 0. Raises InputError: nothing tells the scale."""
    if scale is None:
        raise InputError(
            f"its numbers are whole ({levels.dtype}), which may be millimetres: say how many are a metre with "
            "--pred-scale or --gt-scale, 1 for metres"
        )
    depth: NDArray[np.float32] = (levels / scale).astype(np.float32)
    depth[levels == 0] = np.nan
    return depth


def _png_levels(data: bytes) -> NDArray[np.uint16]:
    check_image(data, PNG_LIMITS)
    try:
        levels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        levels = None
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 2:
        raise ImageError("it is not a 16-bit grey PNG, or a damaged one")
    return levels  # type: ignore[return-value]


def _read_array(data: bytes, *, zipped: bool) -> NDArray[Any]:
    if not zipped:
        return _read_npy(io.BytesIO(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise InputError(f"it holds {len(names)} arrays instead of one")
            with archive.open(names[0]) as member:
                return _read_npy(member)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(f"the archive is damaged, encrypted or not a ZIP file: {error}") from error


def _read_npy(file: IO[bytes]) -> NDArray[Any]:
    """Read one array; its header is judged before memory is taken for what it announces."""
    shape, fortran_order, dtype = _npy_header(file)
    if len(shape) != 2 or min(shape) < 0 or dtype.kind not in "fiu":
        raise InputError(f"it must be a depth map (H, W) of numbers, got {dtype} of shape {reprlib.repr(shape)}")
    count = math.prod(shape)
    if count > MAX_DEPTH_PIXELS:
        raise InputError(f"it announces {reprlib.repr(shape)} pixels; allowed: up to {MAX_DEPTH_PIXELS}")
    values = file.read(count * dtype.itemsize)
    if len(values) < count * dtype.itemsize:
        raise InputError("it is truncated")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran_order else "C")


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether columns come first, and dtype. Raises InputError."""
    try:
        if npy_format.read_magic(file) == (1, 0):
            return npy_format.read_array_header_1_0(file)
        return npy_format.read_array_header_2_0(file)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # NumPy evaluates the header as Python, which fails in many ways
        raise InputError("its header is not that of an .npy file of numbers") from error
