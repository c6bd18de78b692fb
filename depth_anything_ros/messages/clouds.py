"""Points and colours as sensor_msgs/PointCloud2 has them in memory, written straight into a message's buffer."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel

POINT_STEP_BYTES = 16
FIELD_OFFSETS = {"x": 0, "y": 4, "z": 8, "rgb": 12}  # each one FLOAT32


def cloud_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return (H, W) of the cloud of an image of which every `stride`-th row and column is taken."""
    return math.ceil(height / stride), math.ceil(width / stride)


class CloudBuffer:
    """Packs clouds of one size, one after the other, into the same memory.

    Args:
        height, width: of the cloud.
        data: bytes to write to, height * width * 16.
    """

    def __init__(self, height: int, width: int, data: Any) -> None:
        self._points = np.frombuffer(data, np.float32).reshape(height, width, 4)
        self._planes = np.empty((3, height, width), np.float32)
        self._bgr0 = np.empty((height, width, 4), np.uint8)

    def fill(self, depth: Any, image_bgr: NDArray[np.uint8], camera: CameraModel, stride: int = 1) -> bool:
        """Back-project and pack: x, y, z in metres, optical frame, and the colour's bits 0x00RRGGBB.

        Args:
            depth: float32 (H, W), metres; a NumPy array, or a torch tensor wherever it is.
            image_bgr: uint8 (H, W, 3).
            stride: take every `stride`-th row and column only.

        Returns:
            Whether every pixel has a point (PointCloud2's `is_dense`); one that has none is NaN.

        Raises:
            CameraError: `depth` has another size than this camera's images.
        """
        points = np.moveaxis(self._planes, 0, -1)
        if isinstance(depth, np.ndarray) or depth.device.type == "cpu":
            camera.back_project(np.asarray(depth), stride=stride, out=points)
        else:
            points[...] = camera.back_project(depth, stride=stride).cpu().numpy()
        cv2.cvtColor(np.ascontiguousarray(image_bgr[::stride, ::stride]), cv2.COLOR_BGR2BGRA, self._bgr0)
        self._bgr0[..., 3] = 0
        # Interleaved by OpenCV: field by field through strided views takes four times as long in a large cloud.
        cv2.merge([*self._planes, self._bgr0.view(np.float32)[..., 0]], self._points)
        return not np.isnan(self._planes[2]).any()
