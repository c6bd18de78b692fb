"""The node that listens to what comes out, and keeps one complete result of every photograph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from demo import NAMESPACE

OUTPUTS = {
    "depth": (Image, "depth_anything/depth/image"),
    "color": (Image, "depth_anything/depth/color"),
    "cloud": (PointCloud2, "depth_anything/points"),
}


@dataclass(frozen=True)
class Result:
    """What came of one frame.

    Attributes:
        depth: float32 (H, W), metres.
        color: uint8 BGR (H, W, 3).
        points, point_colors: float32 (H, W, 3) in metres and uint8 BGR (H, W, 3).
    """

    depth: NDArray[np.float32]
    color: NDArray[np.uint8]
    points: NDArray[np.float32]
    point_colors: NDArray[np.uint8]


class Recorder(Node):
    """Subscribes to everything the demo wants to see.

    Attributes:
        results: the first complete set of messages by frame_id.
        latencies_s: from a frame's stamp to the arrival of its depth.
        arrivals_s: when depth arrived, on the monotonic clock.
        published: frames that the camera has sent since this node heard it first.
        counts: the depth node's own count of frames, from its diagnostics.
        error: what keeps the depth node from working at all, from its diagnostics; "" if nothing does.
    """

    def __init__(self) -> None:
        super().__init__("recorder", namespace=NAMESPACE)
        self.results: dict[str, dict[str, Any]] = {}
        self.latencies_s: list[float] = []
        self.arrivals_s: list[float] = []
        self.published = 0
        self.counts: dict[str, int] = {}
        self.error = ""
        self._first_s: float | None = None
        self._incomplete: dict[tuple[str, int], dict[str, Any]] = {}
        for name, (kind, topic) in OUTPUTS.items():
            self.create_subscription(kind, topic, partial(self._on_output, name), QoSProfile(depth=5))
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=5))

    def running_s(self) -> float:
        """Seconds since the depth node finished its first frame, well or not; 0 before that."""
        return time.monotonic() - self._first_s if self._first_s is not None else 0.0

    def settled(self) -> bool:
        """Whether the depth node has no frame in hand."""
        others = sum(count for name, count in self.counts.items() if name != "frames_received")
        return self.counts.get("frames_received") == others

    def _on_output(self, name: str, msg: Any) -> None:
        stamp_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        if name == "depth":
            self.latencies_s.append((self.get_clock().now().nanoseconds - stamp_ns) * 1e-9)
            self.arrivals_s.append(time.monotonic())
            self._first_s = self._first_s or self.arrivals_s[0]
        frame_id = msg.header.frame_id
        if frame_id in self.results:
            return
        messages = self._incomplete.setdefault((frame_id, stamp_ns), {})
        messages[name] = msg
        if len(messages) == len(OUTPUTS):
            self.results[frame_id] = messages
            self._incomplete.clear()

    def _on_camera_info(self, msg: Any) -> None:
        self.published += 1

    def _on_diagnostics(self, msg: Any) -> None:
        for status in msg.status:
            if status.name.startswith(f"{NAMESPACE}/depth_anything"):
                self.error = status.message if status.level == DiagnosticStatus.ERROR else ""
                self.counts = {v.key: int(v.value) for v in status.values if v.key.startswith("frames_")}
                if self.counts["frames_failed"]:
                    self._first_s = self._first_s or time.monotonic()


def decode(messages: dict[str, Any]) -> Result:
    """Read one frame's messages: 32FC1 depth, bgr8 colour, x y z rgb cloud, all without padding."""
    depth, color, cloud = messages["depth"], messages["color"], messages["cloud"]
    raw = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, cloud.point_step)
    return Result(
        depth=np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width),
        color=np.frombuffer(color.data, np.uint8).reshape(color.height, color.width, 3),
        points=np.ascontiguousarray(raw[..., :12]).view(np.float32),
        point_colors=raw[..., 12:15],
    )
