"""A camera at a steady rate that costs next to nothing: `python -m soak.camera --rate-hz 30`, until it is ended."""

from __future__ import annotations

import argparse
import contextlib

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from depth_anything_ros.node.conversions import bgr_to_image

WIDTH, HEIGHT = 320, 240
FRAME = "camera_optical_frame"


def run(rate_hz: float) -> None:
    """Publish noise on `image`, and its CameraInfo, until a signal comes."""
    rclpy.init()
    node = Node("soak_camera")
    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    info = CameraInfo(
        width=WIDTH, height=HEIGHT, k=[250.0, 0.0, (WIDTH - 1) / 2, 0.0, 250.0, (HEIGHT - 1) / 2, 0.0, 0.0, 1.0]
    )
    info.header.frame_id = FRAME
    image = bgr_to_image(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), info.header)

    def tick() -> None:
        image.header.stamp = info.header.stamp = node.get_clock().now().to_msg()
        infos.publish(info)
        images.publish(image)

    node.create_timer(1.0 / rate_hz, tick)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="soak.camera", description=__doc__)
    parser.add_argument("--rate-hz", type=float, default=30.0)
    run(parser.parse_known_args()[0].rate_hz)  # the rest is for ROS
