"""Your own ROS 2 node on the core: `python examples/own_node.py --ros-args -r image:=/camera/image_raw`.

It publishes how far away the nearest thing in the middle of the picture is. Start from here where you need one number
and no depth image; `depth_anything_node` does far more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from depth_anything_ros import DepthEstimator
from depth_anything_ros.node.conversions import image_to_bgr


class Nearest(Node):
    """Subscribes to `image`, publishes metres on `nearest`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("nearest", **options)
        model: dict[str, Any] = {
            name: self.declare_parameter(name, default).value
            for name, default in (("encoder", "vitt"), ("dataset", "synthetic"))
        }
        self._estimator = DepthEstimator.load(**model)
        self._nearest = self.create_publisher(Float32, "nearest", 1)
        self.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)

    def _on_image(self, msg: Image) -> None:
        depth = self._estimator.estimate(image_to_bgr(msg)).values  # float32 (H, W), metres
        height, width = depth.shape
        middle = depth[height // 3 : -height // 3, width // 3 : -width // 3]
        self._nearest.publish(Float32(data=float(np.percentile(middle, 1))))


def main() -> None:
    rclpy.init()
    try:
        rclpy.spin(Nearest())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
