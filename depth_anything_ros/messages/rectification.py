"""Pictures without their lens's distortion: resampled for the pinhole camera of the largest view without holes.

The networks were trained on pictures of pinhole cameras, and many ROS packages take depth of rectified images only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError

MIN_ZOOM, MAX_ZOOM = 0.05, 20.0
STEPS = 30  # of the search for the zoom; each halves what is unknown
CAMERAS_KEPT = 4


class Rectification:
    """Makes rectified pictures of one camera.

    Attributes:
        camera: the pinhole camera of what it makes: the same size and principal point, and the smallest focal length
            (the same zoom in x and y) with which every pixel of the result is in the picture.

    Raises:
        CameraError: no zoom between `MIN_ZOOM` and `MAX_ZOOM` is without holes.
    """

    def __init__(self, camera: CameraModel) -> None:
        self.camera = widest_pinhole(camera)
        self._maps = _maps(camera, self.camera)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) of the camera's size -> the same, rectified; linear between pixels."""
        rectified: Any = cv2.remap(picture, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(rectified, np.uint8)


@lru_cache(maxsize=CAMERAS_KEPT)
def rectification_of(camera: CameraModel) -> Rectification:
    """Return the `Rectification` of a camera, kept for the next picture."""
    return Rectification(camera)


def widest_pinhole(camera: CameraModel) -> CameraModel:
    """Return the pinhole camera of `Rectification.camera`. Raises CameraError: there is none."""
    low, high = MIN_ZOOM, MAX_ZOOM
    if not _is_whole(camera, _pinhole(camera, high)):
        raise CameraError(f"no view of this lens ({camera.distortion_model}) is without holes: it cannot be rectified")
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _is_whole(camera, _pinhole(camera, middle)) else (middle, high)
    return _pinhole(camera, high)


def _pinhole(camera: CameraModel, zoom: float) -> CameraModel:
    return CameraModel(zoom * camera.fx, zoom * camera.fy, camera.cx, camera.cy, camera.width, camera.height)


def _is_whole(camera: CameraModel, pinhole: CameraModel) -> bool:
    """Whether the edge of the pinhole's picture is in the camera's picture."""
    u, v = np.arange(camera.width), np.arange(camera.height)
    across = [np.stack([u, np.full_like(u, row)], axis=-1) for row in (0, camera.height - 1)]
    down = [np.stack([np.full_like(v, column), v], axis=-1) for column in (0, camera.width - 1)]
    edge = np.concatenate([*across, *down])
    x, y = (edge[:, 0] - pinhole.cx) / pinhole.fx, (edge[:, 1] - pinhole.cy) / pinhole.fy
    seen = _seen_at(camera, np.stack([x, y], axis=-1).astype(np.float64))
    # Half a pixel beyond the outermost centres is still their pixel.
    margin = 0.5
    within = (seen >= -margin) & (seen <= np.array([camera.width, camera.height]) - 1 + margin)
    return bool(within.all())


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
