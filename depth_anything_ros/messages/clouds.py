"""Points and colours in the memory layout of sensor_msgs/PointCloud2, written straight into a message's buffer."""

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
    """Return (H, W) of the cloud of an image (height, width) that takes every `stride`-th row and column."""
    return math.ceil(height / stride), math.ceil(width / stride)


class CloudBuffer:
    """Packs clouds of one size into the same memory, one after the other.

    Args:
        height, width: size of the cloud.
        data: buffer of height * width * 16 bytes.
    """

    def __init__(self, height: int, width: int, data: Any) -> None:
        self._points = np.frombuffer(data, np.float32).reshape(height, width, 4)
        self._planes = np.empty((3, height, width), np.float32)
        self._bgr0 = np.empty((height, width, 4), np.uint8)

    def fill(self, depth: Any, image_bgr: NDArray[np.uint8], camera: CameraModel, stride: int = 1) -> bool:
        """Back-project and pack: x, y, z in metres, optical frame, and the colour as bits 0x00RRGGBB.

        Args:
            depth: float32 (H, W), metres; a NumPy array, or a torch tensor on any device.
            image_bgr: uint8 (H, W, 3).
            stride: take every `stride`-th row and column only.

        Returns:
            Whether every pixel has a point (`is_dense` of PointCloud2). A pixel without one is NaN.

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
        # OpenCV interleaves: writing field by field through strided views takes four times as long in a large cloud.
        cv2.merge([*self._planes, self._bgr0.view(np.float32)[..., 0]], self._points)
        return not np.isnan(self._planes[2]).any()
