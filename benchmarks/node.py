"""What the node adds to `estimate`: decode, back-projection, message building and publishing.

The node runs in this process with a real estimator, a camera and a listener in processes of their
own. Every frame is timed as a whole and inside `estimate_tensor`; the difference is the overhead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from benchmarks import report, versions
from depth_anything_ros.allocator import keep_freed_memory
from depth_anything_ros.conversions import bgr_to_image
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node import DepthAnythingNode
from depth_anything_ros.settings import ModelSettings

WARM_UP_FRAMES = 10
PROFILE = Path(__file__).parent.parent / "config" / "fastdds.xml"


class TimedEstimator(DepthEstimator):
    """Remembers how long each estimate took."""

    seconds: list[float]

    def estimate_tensor(self, image_bgr: NDArray[np.uint8], max_depth: float | None = None) -> torch.Tensor:
        start = time.perf_counter()
        depth = super().estimate_tensor(image_bgr, max_depth)
        self.seconds.append(time.perf_counter() - start)
        return depth


class TimedNode(DepthAnythingNode):
    """Remembers how long each frame took, from the message to the last publish."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seconds: list[float] = []

    def _process(self, *arguments: Any) -> None:
        start = time.perf_counter()
        super()._process(*arguments)
        self.seconds.append(time.perf_counter() - start)


def run_peer(role: str, width: int, height: int, rate_hz: float, clouds: bool) -> None:
    """Be the camera or the listener until the process is ended."""
    rclpy.init()
    node = Node(f"benchmark_{role}")
    if role == "camera":
        _publish_frames(node, width, height, rate_hz)
    else:
        node.create_subscription(Image, "depth_anything/depth/image", lambda _: None, 2)
        if clouds:
            node.create_subscription(PointCloud2, "depth_anything/points", lambda _: None, 2)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


def _publish_frames(node: Node, width: int, height: int, rate_hz: float) -> None:
    images = node.create_publisher(Image, "image", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    info = CameraInfo(width=width, height=height, k=[500.0, 0.0, width / 2, 0.0, 500.0, height / 2, 0.0, 0.0, 1.0])
    info.header.frame_id = "camera_optical_frame"
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    image = bgr_to_image(pixels, info.header)

    def tick() -> None:
        info.header.stamp = node.get_clock().now().to_msg()
        infos.publish(info)
        images.publish(image)

    node.create_timer(1.0 / rate_hz, tick)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the node for a number of frames; milliseconds, medians over the frames after a warm-up."""
    estimators: list[TimedEstimator] = []

    def load(settings: ModelSettings) -> DepthEstimator:
        estimator = TimedEstimator.from_settings(settings)
        assert isinstance(estimator, TimedEstimator)
        estimator.seconds = []
        estimators.append(estimator)
        return estimator

    overrides = {"encoder": arguments.encoder, "checkpoint": "untrained"}
    node = TimedNode(load=load, parameter_overrides=[Parameter(k, value=v) for k, v in overrides.items()])
    node.trigger_configure()
    node.trigger_activate()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin, daemon=True)
    spinner.start()
    peers = [_start_peer(role, arguments) for role in ("listener", "camera")]
    try:
        deadline = time.monotonic() + arguments.timeout_s
        while len(node.seconds) < WARM_UP_FRAMES + arguments.frames and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        for peer in peers:
            peer.terminate()
            peer.wait()
    executor.shutdown()
    spinner.join()
    node.stop(timeout_s=10.0)
    frame_s = np.array(node.seconds[WARM_UP_FRAMES:])
    estimate_s = np.array(estimators[0].seconds[WARM_UP_FRAMES : WARM_UP_FRAMES + len(frame_s)])
    node.destroy_node()
    return _summary(frame_s * 1e3, estimate_s * 1e3)


def _start_peer(role: str, arguments: argparse.Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.node", "--peer", role]
    command += ["--width", str(arguments.width), "--height", str(arguments.height), "--rate-hz", str(arguments.rate_hz)]
    return subprocess.Popen([*command, "--no-cloud"] if arguments.no_cloud else command)


def _summary(frame_ms: NDArray[np.float64], estimate_ms: NDArray[np.float64]) -> dict[str, Any]:
    overhead_ms = frame_ms - estimate_ms
    return {
        "frames_measured": len(frame_ms),
        "overhead_ms_median": round(float(np.median(overhead_ms)), 2),
        "overhead_ms_p95": round(float(np.percentile(overhead_ms, 95)), 2),
        "estimate_ms_median": round(float(np.median(estimate_ms)), 2),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, and print one JSON line at the end."""
    parser = argparse.ArgumentParser(prog="benchmarks node", description=__doc__)
    parser.add_argument("--encoder", default="toy")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate-hz", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--no-cloud", action="store_true")
    parser.add_argument("--timeout-s", type=float, default=120.0)
    parser.add_argument("--peer", choices=("camera", "listener"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # inherited by the peers
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(PROFILE))
    if arguments.peer:
        run_peer(arguments.peer, arguments.width, arguments.height, arguments.rate_hz, not arguments.no_cloud)
        return
    keep_freed_memory()
    rclpy.init()
    result = measure(arguments)
    rclpy.try_shutdown()
    options = {name: value for name, value in vars(arguments).items() if name not in ("peer", "timeout_s")}
    report("node", **options, **result, versions=versions("torch", "numpy", "ros-rclpy"))


if __name__ == "__main__":
    main()
