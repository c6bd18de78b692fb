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
        done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
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
    vertices = _vertices(points, colors_bgr)
    kinds = {"f": "float", "u": "uchar"}
    assert vertices.dtype.fields is not None
    properties = "".join(f"property {kinds[t.kind]} {n}\n" for n, (t, *_) in vertices.dtype.fields.items())
    said = "".join(f"comment {text}\n" for text in comments)
    header = f"ply\nformat binary_little_endian 1.0\n{said}element vertex {len(vertices)}\n{properties}end_header\n"
    return header.encode("ascii") + vertices.tobytes()


def encode_pcd(
    points: NDArray[np.floating[Any]], colors_bgr: NDArray[np.uint8] | None = None, *, comments: Sequence[str] = ()
) -> bytes:
    """Finite points of (..., 3) as binary PCD 0.7; colours as PCL's packed float `rgb`. Comments as in `encode_ply`."""
    vertices = _vertices(points, colors_bgr)
    fields, columns = "x y z", [vertices["x"], vertices["y"], vertices["z"]]
    if colors_bgr is not None:
        red, green, blue = (vertices[name].astype(np.uint32) for name in ("red", "green", "blue"))
        fields, columns = "x y z rgb", [*columns, (red << 16 | green << 8 | blue).view("<f4")]
    count = len(columns)
    said = "".join(f"# {text}\n" for text in comments)
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\n{said}VERSION 0.7\nFIELDS {fields}\nSIZE{' 4' * count}\n"
        f"TYPE{' F' * count}\nCOUNT{' 1' * count}\nWIDTH {len(vertices)}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(vertices)}\nDATA binary\n"
    )
    return header.encode("ascii") + np.stack(columns, axis=-1).astype("<f4").tobytes()


def _vertices(points: NDArray[Any], colors_bgr: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Finite points as a structured array x, y, z (, red, green, blue)."""
    flat = np.asarray(points, np.float32).reshape(-1, 3)
    finite = np.isfinite(flat).all(axis=1)
    colors = [] if colors_bgr is None else [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    vertices = np.empty(int(finite.sum()), [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *colors])
    vertices["x"], vertices["y"], vertices["z"] = flat[finite].T
    if colors_bgr is not None:
        vertices["blue"], vertices["green"], vertices["red"] = colors_bgr.reshape(-1, 3)[finite].T
    return vertices
