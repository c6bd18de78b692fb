"""Depth and clouds as files: NPY, 16-bit PNG, colour pictures, PLY and PCD. Bytes in memory, no paths."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import InputError

MILLIMETRES_PER_METRE = 1000.0
UINT16_MAX = 65535
UNITLESS = "no unit: the points are known up to a factor"  # comment in a file of such points
# Fast above all. Depth of 16 bits: each row as the difference to the one above, without a search for repeats, takes a
# third to two thirds of the default's time for about the same bytes. OpenCV before 5 chooses filters itself.
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
UINT16_PNG_OPTIONS = [*PNG_OPTIONS, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    UINT16_PNG_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def depth_to_uint16(depth_m: NDArray[np.floating[Any]], scale: float = MILLIMETRES_PER_METRE) -> NDArray[np.uint16]:
    """Depth in metres, any shape -> uint16 in 1/scale metres, rounded (REP 118 with scale 1000).

    0 means no value: NaN, infinite, negative, or more than 65535 / scale metres.
    """
    with np.errstate(over="ignore"):
        scaled = np.asarray(depth_m, np.float32) * np.float32(scale) + np.float32(0.5)
    valid = (scaled >= 0.5) & (scaled < UINT16_MAX + 1)
    return np.where(valid, scaled, 0).astype(np.uint16)


def encode_npy(array: NDArray[Any]) -> bytes:
    """Encode numbers of any shape as an `.npy` file of little-endian float32."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, "<f4"), allow_pickle=False)
    return buffer.getvalue()


def encode_png(image: NDArray[Any]) -> bytes:
    """Encode uint8 (H, W), uint8 BGR (H, W, 3) or uint16 (H, W) as PNG.

    Raises:
        InputError: OpenCV cannot write such an array.
    """
    try:
        done, data = cv2.imencode(".png", image, UINT16_PNG_OPTIONS if image.dtype == np.uint16 else PNG_OPTIONS)
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"no PNG holds a {image.dtype} array of shape {image.shape}")
    return data.tobytes()


def colorize(values: NDArray[np.floating[Any]], lowest: float, highest: float) -> NDArray[np.uint8]:
    """Colour values of any 2-D shape for people: uint8 BGR, near red, far blue (turbo), invalid black.

    The caller chooses the range, so a sequence of pictures does not flicker. `lowest` is shown as near;
    pass `lowest` > `highest` for inverse depth, where larger is nearer.
    """
    values = np.asarray(values, np.float32)
    span = (highest - lowest) or 1.0  # a picture of one value has no range
    with np.errstate(invalid="ignore"):
        level = (highest - values) * np.float32(255.0 / span)
        level = np.clip(np.nan_to_num(level, nan=0.0), 0, 255).astype(np.uint8)
    picture: NDArray[np.uint8] = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)
    picture[np.isnan(values)] = 0
    return picture


def encode_ply(
    points: NDArray[np.floating[Any]], colors_bgr: NDArray[np.uint8] | None = None, *, comments: Sequence[str] = ()
) -> bytes:
    """Finite points of (..., 3) as binary little-endian PLY; with colours (..., 3) where given.

    Points are in metres, unless a comment says something else; each is a line of ASCII.
    """
    xyz, bgr = _finite(points, colors_bgr)
    vertices = np.empty((len(xyz), 12 if bgr is None else 15), np.uint8)
    vertices[:, :12].view("V12")[:, 0] = xyz.view("V12")[:, 0]  # 12 bytes at a time
    properties = "property float x\nproperty float y\nproperty float z\n"
    if bgr is not None:
        vertices[:, 12:].view("V3")[:, 0] = np.ascontiguousarray(bgr[:, ::-1]).view("V3")[:, 0]
        properties += "property uchar red\nproperty uchar green\nproperty uchar blue\n"
    said = "".join(f"comment {text}\n" for text in comments)
    header = f"ply\nformat binary_little_endian 1.0\n{said}element vertex {len(xyz)}\n{properties}end_header\n"
    return b"".join([header.encode("ascii"), vertices.data])


def encode_pcd(
    points: NDArray[np.floating[Any]], colors_bgr: NDArray[np.uint8] | None = None, *, comments: Sequence[str] = ()
) -> bytes:
    """Finite points of (..., 3) as binary PCD 0.7; colours as PCL's packed float `rgb`. Comments as in `encode_ply`."""
    xyz, bgr = _finite(points, colors_bgr)
    count = 3 if bgr is None else 4
    columns = np.zeros((len(xyz), 4 * count), np.uint8)
    columns[:, :12].view("V12")[:, 0] = xyz.view("V12")[:, 0]
    if bgr is not None:
        columns[:, 12:15].view("V3")[:, 0] = bgr.view("V3")[:, 0]  # the number red << 16 | green << 8 | blue
    said = "".join(f"# {text}\n" for text in comments)
    fields = "x y z" if bgr is None else "x y z rgb"
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\n{said}VERSION 0.7\nFIELDS {fields}\n"
        f"SIZE{' 4' * count}\nTYPE{' F' * count}\nCOUNT{' 1' * count}\nWIDTH {len(xyz)}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(xyz)}\nDATA binary\n"
    )
    return b"".join([header.encode("ascii"), columns.data])


def _finite(
    points: NDArray[Any], colors_bgr: NDArray[np.uint8] | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    """The finite points, little-endian float32 (N, 3), and their colours (N, 3); both contiguous."""
    xyz = np.ascontiguousarray(points, "<f4").reshape(-1, 3)
    bgr = None if colors_bgr is None else np.ascontiguousarray(colors_bgr).reshape(-1, 3)
    if np.isfinite(xyz).all():  # mostly so, and choosing rows would take longer than all the rest
        return xyz, bgr
    finite = np.isfinite(xyz).all(axis=1)
    return xyz[finite], None if bgr is None else bgr[finite]
