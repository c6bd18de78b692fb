"""One camera's `~/points`: which of its depth becomes points, how many, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import DepthAnythingError
from depth_anything_ros.filters.voxels import voxel_centroids
from depth_anything_ros.messages.cdr import Bytes
from depth_anything_ros.messages.clouds import SerialCloud
from depth_anything_ros.messages.images import BgrImage
from depth_anything_ros.node.transforms import Transforms
from depth_anything_ros.scale.ground_plane import down_direction
from depth_anything_ros.settings import CameraSettings

Down = tuple[float, float, float]


class CloudOutput:
    """Makes the cloud of a frame.

    Args:
        publisher: of PointCloud2 messages.
        transforms: tell where the frame of `cloud_height_frame` is.
        warn: told why there is no cloud.
    """

    def __init__(self, publisher: Any, transforms: Transforms, warn: Callable[[str], None]) -> None:
        self.publisher = publisher
        self._transforms = transforms
        self._warn = warn
        self._cloud = SerialCloud()
        self._next_s = 0.0

    def is_due(self, settings: CameraSettings) -> bool:
        """Keep the average rate at the limit even where frames come at odd times."""
        if settings.cloud_rate_hz is None:
            return True
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        period_s = 1.0 / settings.cloud_rate_hz
        steady = now_s - self._next_s < period_s
        self._next_s = (self._next_s if steady else now_s) + period_s
        return True

    def make(
        self, metres: Tensor, image_bgr: BgrImage, header: Header, camera: CameraModel, settings: CameraSettings
    ) -> Bytes | None:
        """Return the serialised cloud of depth (H, W), metres, any device; None, and a warning, where there is none."""
        try:
            if settings.cloud_min_height_m is not None or settings.cloud_max_height_m is not None:
                metres = self._between_heights(metres, header, camera, settings)
        except DepthAnythingError as error:
            self._warn(f"no cloud: {error}")
            return None
        if settings.cloud_voxel_m is None:
            return self._cloud.fill(metres, image_bgr, header, camera, settings.cloud_stride)
        points, pixels = thinned(metres, camera, settings.cloud_stride, settings.cloud_voxel_m)
        colours = image_bgr[:: settings.cloud_stride, :: settings.cloud_stride].reshape(-1, 3)[pixels.cpu().numpy()]
        return self._cloud.fill_points(points.cpu().numpy(), colours, header)

    def _between_heights(self, metres: Tensor, header: Header, camera: CameraModel, settings: CameraSettings) -> Tensor:
        """Depth with NaN where its point is too low or too high."""
        camera_height_m, down = self._height_of_camera(header, settings)
        height_m = camera_height_m - metres * fall_of_rays(camera, down, str(metres.device))
        lowest, highest = settings.cloud_min_height_m, settings.cloud_max_height_m
        if lowest is not None:
            metres = torch.where(height_m >= lowest, metres, torch.nan)
        return metres if highest is None else torch.where(height_m <= highest, metres, torch.nan)

    def _height_of_camera(self, header: Header, settings: CameraSettings) -> tuple[float, Down]:
        """Return the optical centre's height in metres, and the unit vector towards the ground in the optical frame."""
        if settings.cloud_height_frame is not None:
            pose = self._transforms.pose(settings.cloud_height_frame, header)
            x, y, z = -pose.rotation[2]
            return float(pose.translation[2]), (float(x), float(y), float(z))
        x, y, z = down_direction(settings.camera_pitch_rad, settings.camera_roll_rad)
        return settings.camera_height_m or 0.0, (float(x), float(y), float(z))


@lru_cache(maxsize=8)
def fall_of_rays(camera: CameraModel, down: Down, device: str) -> Tensor:
    """Return how many metres lower each pixel's point is for each metre of its depth, float32 (H, W)."""
    ray_x, ray_y = camera.rays()
    fall = down[0] * ray_x + down[1] * ray_y + np.float32(down[2])
    return torch.from_numpy(np.asarray(fall, np.float32)).to(device)


def thinned(metres: Tensor, camera: CameraModel, stride: int, voxel_m: float) -> tuple[Tensor, Tensor]:
    """Return one point (M, 3) for each voxel, on depth's device, and the number of a pixel of the strided picture."""
    z = metres[::stride, ::stride]
    planes = torch.empty((3, *z.shape), dtype=torch.float32, device=z.device)
    out = planes.movedim(0, -1)
    if z.device.type == "cpu":
        camera.back_project(metres.numpy(), stride=stride, out=out.numpy())
    else:
        camera.back_project(metres, stride=stride, out=out)
    return voxel_centroids(planes.reshape(3, -1), voxel_m)
