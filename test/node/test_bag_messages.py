"""What `depth_anything bag` writes is what the node would publish, as ROS itself reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import cloud_message
from rclpy.serialization import deserialize_message
from recorded_bags import HEIGHT, WIDTH, Recording, camera_info, image, messages_of, on, picture
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.cli import main
from depth_anything_ros.node.conversions import camera_info_for, depth_to_image, image_to_bgr

TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CameraInfo": CameraInfo}
TYPES["sensor_msgs/msg/PointCloud2"] = PointCloud2
MODEL = ("--encoder", "toy", "--checkpoint", "untrained", "--input-size", "28", "--device", "cpu", "--backend", "torch")


@pytest.mark.parametrize("scale", [1, 2])
def test_ros_reads_from_the_bag_what_the_node_would_publish(scale: int, tmp_path: Path) -> None:
    recording = Recording()
    recording.add("/front/image_raw", 0, image(0, picture(0)))
    distortion = np.array([0.1, -0.02, 0.001, 0.002, 0.0])
    info = camera_info(0, fx=45.0 * scale, width=WIDTH * scale, height=HEIGHT * scale, d=distortion)
    recording.add("/front/camera_info", 0, info)
    source = recording.save(tmp_path / "in")
    assert main(["bag", str(source), str(tmp_path / "out"), *MODEL, "--cloud", "--cloud-stride", "2"]) == 0
    messages = messages_of(tmp_path / "out")

    def read(topic: str) -> Any:
        [message] = on(messages, topic)
        return deserialize_message(message.data, TYPES[message.type])

    seen, its_info = read("/front/image_raw"), read("/front/camera_info")
    depth = read("/front/depth_anything/depth/image")
    values = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
    camera = CameraModel.from_camera_info(its_info).scaled_to(WIDTH, HEIGHT)
    assert depth == depth_to_image(values, seen.header)
    assert read("/front/depth_anything/depth/camera_info") == camera_info_for(its_info, camera, seen.header)
    cloud = cloud_message(values, image_to_bgr(seen), seen.header, camera, stride=2)
    assert read("/front/depth_anything/points") == cloud
