"""A camera node that shows photographs in turn: `python -m demo.camera --rate HZ --dwell S FOLDER ...`.

Each folder holds an `input.png` and gives its name to the frame: every photograph is another camera.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from demo import NAMESPACE
from demo.photographs import read_image
from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.node.conversions import bgr_to_image, camera_to_info

FOCAL_LENGTH = 0.75  # times the long side: 67 degrees across, as a telephone's main camera


class Camera(Node):
    """Publishes `image` and `camera_info` at a fixed rate, each photograph for `dwell_s` seconds."""

    def __init__(self, folders: list[Path], rate_hz: float, dwell_s: float) -> None:
        super().__init__("camera", namespace=NAMESPACE)
        self._pictures = [_messages(folder) for folder in folders]
        self._shots_each = max(1, round(rate_hz * dwell_s))
        self._shots = 0
        self._image = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self.create_timer(1.0 / rate_hz, self._shoot)

    def _shoot(self) -> None:
        image, info = self._pictures[self._shots // self._shots_each % len(self._pictures)]
        image.header.stamp = info.header.stamp = self.get_clock().now().to_msg()
        self._info.publish(info)
        self._image.publish(image)
        self._shots += 1


def _messages(folder: Path) -> tuple[Any, Any]:
    picture = read_image(folder / "input.png")
    assert picture is not None, f"{folder} has no input.png"
    header = Header(frame_id=folder.name)
    return bgr_to_image(picture, header), camera_to_info(camera_model(picture.shape[1], picture.shape[0]), header)


def camera_model(width: int, height: int) -> CameraModel:
    """An undistorted camera that looks through the middle of its image."""
    f = FOCAL_LENGTH * max(width, height)
    return CameraModel(f, f, *image_center(width, height), width, height)


def main() -> None:
    """Publish until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m demo.camera", description=__doc__, allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--dwell", type=float, required=True)
    args = parser.parse_args()
    rclpy.init()
    try:
        rclpy.spin(Camera(args.folders, args.rate, args.dwell))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
