"""The node that listens to all outputs and keeps some complete results."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from demo import NAMESPACE
from depth_anything_ros.messages.stamps import stamp_ns
from depth_anything_ros.metrics import DepthMetrics, evaluate_depth
from depth_anything_ros.node.conversions import image_to_bgr

INPUTS = {"image": (Image, "image")}
TRUTH = {"truth": (Image, "depth/ground_truth")}
OUTPUTS = {"depth": (Image, "depth_anything/depth/image"), "cloud": (PointCloud2, "depth_anything/points")}
# Deep enough for the messages that arrive while a frame is being scored.
CAMERA_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
# Sets of messages that still lack some; a frame that the depth node dropped never gets all of its own.
MAX_INCOMPLETE = 50
LAST_FRAME_NS = 500_000_000  # so late after the camera's end its last frame may be counted


@dataclass(frozen=True)
class Result:
    """The results of one frame.

    Attributes:
        image: uint8 BGR (H, W, 3), as the camera sent it.
        depth: float32 (H, W), metres. truth: the same where the camera knows it.
        points, point_colors: float32 (H, W, 3) in metres and uint8 BGR (H, W, 3).
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    truth: NDArray[np.float32] | None
    points: NDArray[np.float32]
    point_colors: NDArray[np.uint8]


class Recorder(Node):
    """Subscribes to everything the demo wants to see.

    Args:
        has_truth: the camera publishes the true depth: every frame is scored, and results are kept every
            `interval_s` seconds. Otherwise the first of every frame_id is kept.

    Attributes:
        results: kept results by name, the frame_id or a number.
        scores: of every frame whose truth is known.
        latencies_s: from a frame's stamp to the arrival of its depth.
        arrivals_s: when depth arrived, on the monotonic clock.
        published: frames that the camera has sent since this node heard it first.
        counts: the depth node's own count of frames, from its diagnostics.
        error: what keeps the depth node from working at all, from its diagnostics; "" if nothing does.
    """

    def __init__(self, has_truth: bool, interval_s: float) -> None:
        super().__init__("recorder", namespace=NAMESPACE)
        self.results: dict[str, Result] = {}
        self.scores: list[DepthMetrics] = []
        self.latencies_s: list[float] = []
        self.arrivals_s: list[float] = []
        self.published = 0
        self.counts: dict[str, int] = {}
        self.error = ""
        self._has_truth = has_truth
        self._interval_s = interval_s
        self._first_s: float | None = None
        self._counts_from_ns = 0
        self._incomplete: OrderedDict[tuple[str, int], dict[str, Any]] = OrderedDict()
        self._parts = {**INPUTS, **(TRUTH if has_truth else {}), **OUTPUTS}
        for name, (kind, topic) in self._parts.items():
            qos = QoSProfile(depth=5) if name in OUTPUTS else CAMERA_QOS
            self.create_subscription(kind, topic, partial(self._on_part, name), qos)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, CAMERA_QOS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QoSProfile(depth=5))

    def running_s(self) -> float:
        """Seconds since the depth node finished its first frame, well or not; 0 before that."""
        return time.monotonic() - self._first_s if self._first_s is not None else 0.0

    def camera_ended(self) -> None:
        """Forget the counts: the camera has ended, and those said before its last frame came are out of date."""
        self.counts = {}
        self._counts_from_ns = self.get_clock().now().nanoseconds + LAST_FRAME_NS

    def settled(self) -> bool:
        """Whether the depth node is idle."""
        others = sum(count for name, count in self.counts.items() if name != "frames_received")
        return self.counts.get("frames_received") == others

    def _on_part(self, name: str, msg: Any) -> None:
        taken_ns = stamp_ns(msg.header)
        if name == "depth":
            self.latencies_s.append((self.get_clock().now().nanoseconds - taken_ns) * 1e-9)
            self.arrivals_s.append(time.monotonic())
            self._first_s = self._first_s or self.arrivals_s[0]
        key = (msg.header.frame_id, taken_ns)
        messages = self._incomplete.setdefault(key, {})
        messages[name] = msg
        if len(messages) == len(self._parts):
            del self._incomplete[key]
            self._on_complete(msg.header.frame_id, messages)
        while len(self._incomplete) > MAX_INCOMPLETE:
            self._incomplete.popitem(last=False)

    def _on_complete(self, frame_id: str, messages: dict[str, Any]) -> None:
        name = frame_id
        if self._has_truth:
            self.scores.append(evaluate_depth(read_depth(messages["depth"]), read_depth(messages["truth"])))
            name = f"{int(self.running_s() / self._interval_s):02d}"
        if name not in self.results:
            self.results[name] = decode(messages)

    def _on_camera_info(self, msg: Any) -> None:
        self.published += 1

    def _on_diagnostics(self, msg: Any) -> None:
        if stamp_ns(msg.header) < self._counts_from_ns:
            return
        for status in msg.status:
            if status.name.startswith(f"{NAMESPACE}/depth_anything"):
                self.error = status.message if status.level == DiagnosticStatus.ERROR else ""
                self.counts = {v.key: int(v.value) for v in status.values if v.key.startswith("frames_")}
                if self.counts["frames_failed"]:
                    self._first_s = self._first_s or time.monotonic()


def decode(messages: dict[str, Any]) -> Result:
    """Read one frame's messages: bgr8 image, 32FC1 depth, x y z rgb cloud, all without padding."""
    cloud = messages["cloud"]
    raw = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, cloud.point_step)
    return Result(
        image=image_to_bgr(messages["image"]),
        depth=read_depth(messages["depth"]),
        truth=read_depth(messages["truth"]) if "truth" in messages else None,
        points=np.ascontiguousarray(raw[..., :12]).view(np.float32),
        point_colors=raw[..., 12:15],
    )


def read_depth(msg: Any) -> NDArray[np.float32]:
    """A 32FC1 image without padding -> float32 (H, W)."""
    return np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width)
