"""Pictures without their lens's distortion: resampled for a pinhole camera, by default that of the largest view.

The networks were trained on pictures of pinhole cameras, and many ROS packages take depth of rectified images only.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError

MIN_ZOOM, MAX_ZOOM = 0.05, 20.0
MAX_VIEW_DEG = 150.0  # across the diagonal: beyond it, a pinhole's picture is little but its stretched rim
STEPS = 30  # of the search for the zoom; each halves what is unknown
EDGE_POINTS, RADIAL_POINTS = 65, 24  # at which a view is checked: along each side, and from the axis to there
CAMERAS_KEPT = 4
MAX_BEND = 0.1  # of rays at the picture's sides: beyond it, metres that follow from a focal length are off
ROUNDING = 1e-6  # of a focal length that was read from an answer and is asked for again


class Rectification:
    """Makes rectified pictures of one camera.

    Args:
        camera: of the pictures as they come, with its lens.
        focal_px: the focal length asked for, of the rectified picture's x axis; None is the smallest without holes.

    Attributes:
        camera: the pinhole camera of what it makes: the same size and principal point, and the same zoom in x and y.

    Raises:
        CameraError: see `pinhole_of`.
    """

    def __init__(self, camera: CameraModel, focal_px: float | None = None) -> None:
        self.camera = pinhole_of(camera, focal_px)
        self._maps = _maps(camera, self.camera)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) of the camera's size -> the same, rectified; linear between pixels."""
        rectified: Any = cv2.remap(picture, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(rectified, np.uint8)


@lru_cache(maxsize=CAMERAS_KEPT)
def rectification_of(camera: CameraModel, focal_px: float | None = None) -> Rectification:
    """Return the `Rectification` of a camera, kept for the next picture."""
    return Rectification(camera, focal_px)


@lru_cache(maxsize=CAMERAS_KEPT)
def why_rectify(camera: CameraModel) -> str:
    """Say why metres that follow from the focal length are off for this camera's pictures as they come.

    Empty where its lens bends rays by no more than `MAX_BEND`.
    """
    bend = camera.bend_at_edge()
    if bend <= MAX_BEND:
        return ""
    much = f"by {bend:.0%}" if math.isfinite(bend) else "out of the picture"
    return f"metres follow from the focal length of a pinhole, and this lens bends rays {much} at the picture's sides"


def pinhole_of(camera: CameraModel, focal_px: float | None = None) -> CameraModel:
    """Return the pinhole camera of rectified pictures.

    Args:
        camera: of the pictures as they come.
        focal_px: as in `Rectification`.

    Raises:
        CameraError: no zoom between `MIN_ZOOM` and `MAX_ZOOM` is without holes, or the one asked for has some or is
            wider than `MAX_VIEW_DEG`.
    """
    widest = widest_pinhole(camera)
    if focal_px is None:
        return widest
    if not widest.fx * (1 - ROUNDING) <= focal_px <= MAX_ZOOM * camera.fx:
        raise CameraError(
            f"the focal length of the rectified picture must be {widest.fx:.2f} (the largest view without holes) to "
            f"{MAX_ZOOM * camera.fx:.0f} pixels, got {focal_px:g}"
        )
    return _pinhole(camera, focal_px / camera.fx)


@lru_cache(maxsize=CAMERAS_KEPT)
def widest_pinhole(camera: CameraModel) -> CameraModel:
    """Return the pinhole camera of the largest view, up to `MAX_VIEW_DEG`, that is in the camera's picture whole.

    Raises:
        CameraError: there is none.
    """
    if not camera.distortion_model:
        return camera
    low, high = MIN_ZOOM, MAX_ZOOM
    if not _is_whole(camera, _pinhole(camera, high)):
        raise CameraError(f"no view of this lens ({camera.distortion_model}) is without holes: it cannot be rectified")
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _is_whole(camera, _pinhole(camera, middle)) else (middle, high)
    return _pinhole(camera, high)


def _pinhole(camera: CameraModel, zoom: float) -> CameraModel:
    return CameraModel(zoom * camera.fx, zoom * camera.fy, camera.cx, camera.cy, camera.width, camera.height)


def _is_whole(camera: CameraModel, pinhole: CameraModel) -> bool:
    """Whether the pinhole's picture is in the camera's picture, each place once.

    A lens model holds up to some angle only. Beyond it the polynomial folds back, and a second view of what is
    in the picture already would be taken for the rim.
    """
    edge = _edge(pinhole)
    if np.linalg.norm(edge, axis=-1).max() > math.tan(math.radians(MAX_VIEW_DEG / 2)):
        return False
    shares = np.linspace(0.0, 1.0, RADIAL_POINTS)
    center = np.array([camera.cx, camera.cy])
    seen = _seen_at(camera, (shares[:, None, None] * edge).reshape(-1, 2)).reshape(RADIAL_POINTS, -1, 2)
    with np.errstate(invalid="ignore", over="ignore"):  # absurd coefficients give infinite pixels
        radii = np.linalg.norm(seen - center, axis=-1)
        # Half a pixel beyond the outermost centres is still their pixel.
        margin = 0.5
        within = (seen[-1] >= -margin) & (seen[-1] <= np.array([camera.width, camera.height]) - 1 + margin)
        return bool(within.all() and (np.diff(radii, axis=0) > 0).all())


def _edge(pinhole: CameraModel) -> NDArray[np.float64]:
    """Rays (N, 2), x/z and y/z, of places along the four sides of the picture, corners included."""
    u, v = np.linspace(0, pinhole.width - 1, EDGE_POINTS), np.linspace(0, pinhole.height - 1, EDGE_POINTS)
    x, y = (u - pinhole.cx) / pinhole.fx, (v - pinhole.cy) / pinhole.fy
    across = [np.stack([x, np.full_like(x, row)], axis=-1) for row in (y[0], y[-1])]
    down = [np.stack([np.full_like(y, column), y], axis=-1) for column in (x[0], x[-1])]
    return np.concatenate([*across, *down])


def _seen_at(camera: CameraModel, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rays (N, 2), x/z and y/z -> pixels (N, 2) of the camera with its lens."""
    K, D = _matrices(camera)
    if camera.distortion_model == "equidistant":
        pixels = cv2.fisheye.distortPoints(rays.reshape(1, -1, 2), K, D)
    else:
        pixels, _ = cv2.projectPoints(cv2.convertPointsToHomogeneous(rays), np.zeros(3), np.zeros(3), K, D)
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def _maps(camera: CameraModel, pinhole: CameraModel) -> tuple[Any, Any]:
    (K, D), (K_new, _) = _matrices(camera), _matrices(pinhole)
    is_fisheye = camera.distortion_model == "equidistant"
    make = cv2.fisheye.initUndistortRectifyMap if is_fisheye else cv2.initUndistortRectifyMap
    return make(K, D, np.eye(3), K_new, (camera.width, camera.height), cv2.CV_32FC1)


def _matrices(camera: CameraModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float64)
    return K, np.array(camera.distortion or (0.0,) * 4, np.float64)
