"""One camera's `~/scan`: its depth as a LaserScan, for software that knows laser scanners only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import LaserScan
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.scans import Scan, ScanBand, body_frame, scan_of
from depth_anything_ros.scale.ground_plane import down_direction
from depth_anything_ros.settings import CameraSettings


class ScanOutput:
    """Makes and publishes the scan of a frame.

    Args:
        publisher: of LaserScan messages.
        warn: told why there is no scan.
    """

    def __init__(self, publisher: Any, warn: Callable[[str], None]) -> None:
        self.publisher = publisher
        self._warn = warn

    def publish(
        self,
        metres: NDArray[np.float32],
        camera: CameraModel,
        header: Header,
        settings: CameraSettings,
        full_scale_m: float,
    ) -> None:
        """Publish depth (H, W) as a scan; +Inf beyond `max_range_m`, `max_depth`, or else the model's own range."""
        band = band_of(settings)
        frame = settings.scan_frame or body_frame(header.frame_id, band.down)
        if frame is None:
            self._warn(f"no scan: {_NO_FRAME}")
            return
        range_max_m = settings.max_range_m or settings.max_depth or full_scale_m
        try:
            scan = scan_of(metres, camera, band, settings.min_range_m or 0.0, range_max_m)
        except CameraError as error:
            self._warn(str(error))
            return
        self.publisher.publish(scan_message(scan, Header(stamp=header.stamp, frame_id=frame)))


_NO_FRAME = (
    "set scan_frame to the frame at the camera's optical centre with x forward and z up, level. Where the images' "
    "frame_id has no _optical in it, or the camera is pitched or rolled, it cannot be told"
)


def band_of(settings: CameraSettings) -> ScanBand:
    """Return the part of the view that the parameters name."""
    x, y, z = down_direction(settings.camera_pitch_rad, settings.camera_roll_rad)
    down = float(x), float(y), float(z)
    if settings.scan_max_height_m is None:
        return ScanBand(down, settings.scan_rows)
    heights_m = settings.scan_min_height_m, settings.scan_max_height_m
    return ScanBand(down, heights_m=heights_m, camera_height_m=settings.camera_height_m or 0.0)


def scan_message(scan: Scan, header: Header) -> LaserScan:
    """Make a LaserScan; all its beams are of one moment."""
    message = LaserScan(header=header, angle_min=scan.angle_min_rad, angle_max=scan.angle_max_rad)
    message.angle_increment = scan.angle_increment_rad
    message.range_min, message.range_max = scan.range_min_m, scan.range_max_m
    message.ranges.frombytes(scan.ranges.tobytes())
    return message
