"""Points and colours in the memory layout of sensor_msgs/PointCloud2, written straight into a message's buffer."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.messages.cdr import Bytes, CdrBuffer, cloud_head

POINT_STEP_BYTES = 16
FIELD_OFFSETS = {"x": 0, "y": 4, "z": 8, "rgb": 12}  # each one FLOAT32
# A cloud is packed in strips of so many points, so that what is written between the steps stays in the cache.
STRIP_POINTS = 32_768
COLOUR_BITS = np.uint32(0x00FFFFFF)


def cloud_shape(height: int, width: int, stride: int) -> tuple[int, int]:
    """Return (H, W) of the cloud of an image (height, width) that takes every `stride`-th row and column."""
    return math.ceil(height / stride), math.ceil(width / stride)


def pack_cloud(depth: Any, image_bgr: NDArray[np.uint8], camera: CameraModel, data: Any, stride: int = 1) -> bool:
    """Back-project and pack: x, y, z in metres, optical frame, and the colour as bits 0x00RRGGBB.

    Args:
        depth: float32 (H, W), metres; a NumPy array, or a torch tensor on any device.
        image_bgr: uint8 (H, W, 3).
        data: buffer of 16 bytes for each point of `cloud_shape`; it is written to.
        stride: take every `stride`-th row and column only.

    Returns:
        Whether every pixel has a point (`is_dense` of PointCloud2). A pixel without one is NaN.

    Raises:
        CameraError: `depth` has another size than this camera's images.
    """
    metres: NDArray[np.float32] = depth if isinstance(depth, np.ndarray) else depth.cpu().numpy()
    camera.check_size(metres.shape)
    rays, z, colours = camera.rays(stride), metres[::stride, ::stride], image_bgr[::stride, ::stride]
    points = np.frombuffer(data, np.float32).reshape(*z.shape, 4)
    rows = max(4, STRIP_POINTS // z.shape[1] // 4 * 4)  # of four, so that each begins aligned as the first does
    strip_of = _StripBuffer(rows, z.shape[1])
    is_dense = True
    for first in range(0, z.shape[0], rows):
        strip = slice(first, first + rows)
        ray_x, ray_y = (_rows(ray, strip) for ray in rays)
        x, y, depth_m, rgb = strip_of.fields(z[strip], ray_x, ray_y, colours[strip])
        # OpenCV interleaves: writing field by field through strided views takes four times as long in a large cloud.
        cv2.merge([x, y, depth_m, rgb], points[strip])
        is_dense = is_dense and not np.isnan(depth_m.max())  # the maximum is NaN if any value is
    return is_dense


def _rows(ray: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
    return ray if len(ray) == 1 else ray[rows]


class _StripBuffer:
    """The fields of the points of a few rows, each in memory of its own."""

    def __init__(self, rows: int, width: int) -> None:
        self._x, self._y = np.empty((2, rows, width), np.float32)
        self._bgr0 = np.empty((rows, width, 4), np.uint8)

    def fields(
        self,
        z: NDArray[np.float32],
        ray_x: NDArray[np.float32],
        ray_y: NDArray[np.float32],
        bgr: NDArray[np.uint8],
    ) -> list[NDArray[np.float32]]:
        """Return x, y, z and rgb, float32 (h, W) each, of depth along rays and its colours (h, W, 3)."""
        x, y, bgr0 = self._x[: len(z)], self._y[: len(z)], self._bgr0[: len(z)]
        with np.errstate(invalid="ignore"):  # infinite depth on the axis is nowhere
            np.multiply(ray_x, z, out=x)
            np.multiply(ray_y, z, out=y)
            if ray_x.shape == ray_y.shape == z.shape:  # a lens: NaN without a ray
                z = z + (ray_x - ray_x)
        cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2BGRA, bgr0)
        bits = bgr0.view(np.uint32)
        np.bitwise_and(bits, COLOUR_BITS, out=bits)
        return [x, y, np.ascontiguousarray(z), bgr0.view(np.float32)[..., 0]]


class SerialCloud:
    """PointCloud2 messages, serialised, one after the other in the same memory.

    The next call overwrites what the last one returned. That is safe, because publishing copies it.
    """

    def __init__(self) -> None:
        self._buffer = CdrBuffer()

    def fill(
        self, depth: Any, image_bgr: NDArray[np.uint8], header: Any, camera: CameraModel, stride: int = 1
    ) -> Bytes:
        """Return the organised message of depth, see `pack_cloud`, under a std_msgs/Header."""
        rows, columns = depth.shape
        height, width = cloud_shape(rows, columns, stride)
        head = cloud_head(header, height, width, FIELD_OFFSETS, POINT_STEP_BYTES)
        data = self._buffer.begin(head, height * width * POINT_STEP_BYTES, tail=b"\0")
        self._buffer.message[-1] = pack_cloud(depth, image_bgr, camera, data, stride)  # is_dense
        return self._buffer.message

    def fill_points(self, points: NDArray[np.float32], colours: NDArray[np.uint8], header: Any) -> Bytes:
        """Return the message of points (N, 3), all finite, of no order, and their colours BGR (N, 3)."""
        head = cloud_head(header, 1, len(points), FIELD_OFFSETS, POINT_STEP_BYTES)
        data = self._buffer.begin(head, len(points) * POINT_STEP_BYTES, tail=b"\1")  # is_dense
        data.view(np.float32).reshape(-1, 4)[:, :3] = points
        bgr0 = data.reshape(-1, POINT_STEP_BYTES)[:, FIELD_OFFSETS["rgb"] :]
        bgr0[:, :3], bgr0[:, 3] = colours, 0
        return self._buffer.message
