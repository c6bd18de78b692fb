"""Project points to the pixels where a camera sees them."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import MAX_RAY_SLOPE, CameraModel

Array = NDArray[np.float64]

MIN_DEPTH_M = 0.05
# How far a point's direction may be off the ray of its pixel, in pixels: a lens polynomial can fold what is outside
# the picture back into it.
MAX_RAY_ERROR_PX = 2.0


class Samples(NamedTuple):
    """Measured depth at pixels of a picture: (N,) each; metres along the optical axis."""

    u: Array
    v: Array
    depth_m: Array


def project(points: NDArray[Any], camera: CameraModel) -> Samples:
    """Return the pixels of points (N, 3), metres, optical frame, lens distortion included.

    Leaves out points behind the camera or closer than `MIN_DEPTH_M`, outside the picture, or in a direction that no
    pixel looks at. Whether something stands in front of a point is not known.
    """
    points = np.asarray(points, np.float64)
    z = points[:, 2]
    ahead = np.isfinite(points).all(axis=1) & (z >= MIN_DEPTH_M)
    points, z = points[ahead], z[ahead]
    slopes = points[:, :2] / z[:, None]
    seen = np.linalg.norm(slopes, axis=1) <= MAX_RAY_SLOPE
    slopes, z = slopes[seen], z[seen]
    u, v = _distorted(slopes, camera).T
    seen = (u > -0.5) & (u < camera.width - 0.5) & (v > -0.5) & (v < camera.height - 0.5)
    u, v, z, slopes = u[seen], v[seen], z[seen], slopes[seen]
    seen = _looked_at(u, v, slopes, camera)
    return Samples(u[seen], v[seen], z[seen])


def _distorted(slopes: Array, camera: CameraModel) -> Array:
    """Return the pixels (N, 2) of directions (N, 2), x/z and y/z."""
    f, c = np.array([camera.fx, camera.fy]), np.array([camera.cx, camera.cy])
    if not camera.distortion_model or not len(slopes):
        return np.asarray(slopes * f + c, np.float64)
    K = np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1]])
    D, zero = np.array(camera.distortion, np.float64), np.zeros(3)
    points = np.concatenate([slopes, np.ones((len(slopes), 1))], axis=1)[:, None]
    lens = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    pixels, _ = lens(points, zero, zero, K, D)
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def _looked_at(u: Array, v: Array, slopes: Array, camera: CameraModel) -> NDArray[np.bool_]:
    """Return whether each point's pixel looks in the point's direction."""
    if not camera.distortion_model:
        return np.ones(u.shape, np.bool_)
    row, column = nearest_pixels(u, v, (camera.height, camera.width))
    off = np.stack([ray[row, column] for ray in camera.rays()], axis=-1) - slopes
    per_pixel = (1 + (slopes**2).sum(axis=1)) / min(camera.fx, camera.fy)  # of slope, towards a fisheye's rim
    return np.asarray(np.linalg.norm(off, axis=1) <= MAX_RAY_ERROR_PX * per_pixel)  # NaN: no ray


def nearest_pixels(u: Array, v: Array, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column (N,) of the pixels in a picture of `shape` (H, W) that are closest to (u, v)."""
    row = np.clip(np.floor(v + 0.5), 0, shape[0] - 1).astype(np.intp)
    column = np.clip(np.floor(u + 0.5), 0, shape[1] - 1).astype(np.intp)
    return row, column
