"""Pictures of results: depth in colours, its error, the cloud from two sides, and everything on one sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.io.formats import colorize

if TYPE_CHECKING:
    from demo.recorder import Result

WORST_ERROR = 0.25  # relative; the far end of the error picture's colours
BACKGROUND = 40
SHEET_HEIGHT_PX = 300
VIEWS_DEG = ((-25.0, 15.0), (35.0, 40.0))  # yaw and pitch: from the left and a little above; from the right, higher


def depth_pictures(
    depth: NDArray[np.float32], truth: NDArray[np.float32] | None = None
) -> dict[str, NDArray[np.uint8]]:
    """Depth (H, W) as a picture; where the truth is known, also the truth in the same colours, and the error.

    Errors are relative: blue is none, red is a quarter or more.
    """
    known = depth if truth is None else truth
    near, far = np.percentile(known[np.isfinite(known)], [1, 99])
    color = colorize(depth, near, far)
    if truth is None:
        return {"color": color}
    error = np.abs(depth - truth) / truth
    return {"truth": colorize(truth, near, far), "color": color, "error": colorize(error, WORST_ERROR, 0.0)}


def cloud_views(result: Result) -> NDArray[np.uint8]:
    """Draw the cloud from two sides, side by side; uint8 BGR of twice the image's width."""
    height, width = result.depth.shape
    views = [splat(result.points, result.point_colors, yaw, pitch, width, height) for yaw, pitch in VIEWS_DEG]
    return np.hstack(views)


def splat(
    points: NDArray[np.float32], colors: NDArray[np.uint8], yaw_deg: float, pitch_deg: float, width: int, height: int
) -> NDArray[np.uint8]:
    """Draw every finite point as two by two pixels, seen by a camera turned around the cloud's middle.

    The camera stands as far off as it takes to see nine tenths of the cloud; nothing is filled in.
    """
    finite = np.isfinite(points).all(axis=-1)
    middle = np.median(points[finite], axis=0)
    around = (points[finite] - middle) @ rotation(yaw_deg, pitch_deg).T
    radius = np.percentile(np.linalg.norm(around, axis=1), 90)
    z = around[:, 2] + 2.3 * radius
    focal_px = 1.25 * min(width, height)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = focal_px * around[:, 0] / z + width / 2, focal_px * around[:, 1] / z + height / 2
    seen = (z > 0.1 * radius) & (u >= 0) & (u < width - 1) & (v >= 0) & (v < height - 1)
    order = np.argsort(-z[seen])  # far ones first, so that near ones cover them
    rows, columns = v[seen][order].astype(np.intp), u[seen][order].astype(np.intp)
    picture = np.full((height, width, 3), BACKGROUND, np.uint8)
    for dv, du in ((0, 0), (0, 1), (1, 0), (1, 1)):
        picture[rows + dv, columns + du] = colors[finite][seen][order]
    return picture


def rotation(yaw_deg: float, pitch_deg: float) -> NDArray[np.float64]:
    """Rotation by yaw about y (down), then by pitch about x (right)."""
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return np.asarray(about_x @ about_y)


def sheet(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Put rows of pictures on one sheet, all of one height."""
    lines = [np.hstack([_of_sheet_height(picture) for picture in row]) for row in rows]
    width = max(line.shape[1] for line in lines)
    return np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0))) for line in lines])


def _of_sheet_height(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = max(1, round(picture.shape[1] * SHEET_HEIGHT_PX / picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, SHEET_HEIGHT_PX), interpolation=cv2.INTER_AREA), np.uint8)
