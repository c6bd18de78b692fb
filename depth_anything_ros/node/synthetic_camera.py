"""A camera node without a camera: pictures of a rendered room, their CameraInfo and the true depth.

    python -m depth_anything_ros.node.synthetic_camera --ros-args -p seed:=7

A worker thread renders and publishes, so that the executor answers at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depth_anything_ros.errors import describe
from depth_anything_ros.node.command_line import Program
from depth_anything_ros.node.conversions import FROM_BGR, bgr_to_image, camera_to_info, depth_to_image
from depth_anything_ros.node.parameter_table import Parameter, checked, declare_table, values_of, warn_of_unknown
from depth_anything_ros.node.process import run_node
from depth_anything_ros.node.qos_overrides import overridable
from depth_anything_ros.runtime.device import select_device
from depth_anything_ros.settings import SYNTHETIC_LIMITS, SyntheticCameraSettings
from depth_anything_ros.synthetic.camera import DISTORTIONS, SyntheticCamera

NODE_NAME = "synthetic_camera"
QUEUE = 5  # as rmw's profile for sensor data has it
RELIABILITIES = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}
# So many pictures in a row have to come late before the machine is called too slow.
LATE_PICTURES = 10
COMPLAINT_S = 10.0  # between two warnings about what keeps going wrong

PARAMETERS: dict[str, Parameter] = {
    "seed": Parameter("Draws the room, the camera and its way.", bounds=SYNTHETIC_LIMITS["seed"], fixed=True),
    "rate_hz": Parameter(
        "Pictures a second. What the machine cannot render in time is left out.",
        bounds=SYNTHETIC_LIMITS["rate_hz"],
        fixed=True,
    ),
    "width": Parameter("Of the pictures, in pixels.", bounds=SYNTHETIC_LIMITS["width"], fixed=True),
    "height": Parameter("Of the pictures, in pixels.", bounds=SYNTHETIC_LIMITS["height"], fixed=True),
    "distortion": Parameter("Of the lens.", choices=tuple(DISTORTIONS), fixed=True),
    "device": Parameter("Where the pictures are rendered: auto, cpu, cuda or cuda:N.", fixed=True),
    "encoding": Parameter("Of the pictures.", choices=tuple(FROM_BGR), fixed=True),
    "frame_id": Parameter("Frame of everything published: the camera's optical frame.", fixed=True),
    "reliability": Parameter("Of every topic.", choices=tuple(RELIABILITIES), fixed=True),
}


PROGRAM = Program(
    "synthetic_camera",
    NODE_NAME,
    "Publishes pictures of a rendered room, their CameraInfo and the true depth, as a camera driver would.",
    PARAMETERS,
    asdict(SyntheticCameraSettings()),
)


class Pace:
    """Which picture of a steady rate is due. What was missed is left out, never made up for.

    Args:
        rate_hz: picture i is due `i / rate_hz` seconds after the start.
        start_s: time of picture 0. All times are in seconds, of one clock that never jumps.
    """

    def __init__(self, rate_hz: float, start_s: float) -> None:
        self._rate_hz = rate_hz
        self._start_s = start_s
        self._next = 0

    def wait_s(self, now_s: float) -> float:
        """Return the time until the next picture is due, 0 if it is late."""
        return max(0.0, self._start_s + self._next / self._rate_hz - now_s)

    def take(self, now_s: float) -> int:
        """Return the number of the latest picture that is due; the one after it is the next."""
        index = max(self._next, math.floor((now_s - self._start_s) * self._rate_hz))
        self._next = index + 1
        return index


class SyntheticCameraNode(Node):
    """Publishes `image`, `camera_info` and `depth/ground_truth` (32FC1, metres, exact) once it is started.

    Args:
        make_camera: makes the camera from `SyntheticCamera`'s arguments; tests put their own here.
        node_arguments: for `rclpy.node.Node`, such as `context` or `parameter_overrides`.

    Raises:
        rclpy.exceptions.ParameterException, SettingsError: a parameter is of the wrong type or not allowed.
        DeviceError: there is no such device.
    """

    def __init__(self, make_camera: Callable[..., SyntheticCamera] = SyntheticCamera, **node_arguments: Any) -> None:
        super().__init__(NODE_NAME, **node_arguments)
        declare_table(self, PARAMETERS, PROGRAM.defaults)
        warn_of_unknown(self, PARAMETERS)
        self._settings = settings = SyntheticCameraSettings(**checked(PARAMETERS, values_of(self, PARAMETERS)))
        device = select_device(settings.device)
        self._camera = make_camera(settings.seed, settings.width, settings.height, settings.distortion, device)
        self._image = self._publisher(Image, "image")
        self._info = self._publisher(CameraInfo, "camera_info")
        self._depth = self._publisher(Image, "depth/ground_truth")
        self._ending = threading.Event()
        self._worker: threading.Thread | None = None  # once it runs
        self._late: list[float] = []  # when the latest pictures were done, if the next ones were due by then

    def _publisher(self, kind: type, topic: str) -> Any:
        reliability = RELIABILITIES[self._settings.reliability]
        qos = QoSProfile(reliability=reliability, history=HistoryPolicy.KEEP_LAST, depth=QUEUE)
        return self.create_publisher(kind, topic, qos, qos_overriding_options=overridable())

    def start(self) -> None:
        """Begin to take pictures."""
        settings = self._settings
        size = f"{settings.width}x{settings.height}"
        self.get_logger().info(f"showing room {settings.seed}, {size} pixels at {settings.rate_hz:g} Hz")
        worker = threading.Thread(target=self._work, name="render", daemon=True)
        worker.start()
        self._worker = worker

    def stop(self, timeout_s: float) -> bool:
        """Stop for good. Returns False if a picture is still being rendered after the time."""
        self._ending.set()
        worker = self._worker
        if worker is not None:
            worker.join(timeout_s)
        return worker is None or not worker.is_alive()

    def _work(self) -> None:
        pace = Pace(self._settings.rate_hz, time.monotonic())
        while not self._ending.wait(pace.wait_s(time.monotonic())):
            try:
                was_rendered = self._take_picture(pace.take(time.monotonic()))
            except Exception as error:  # one picture is lost, whatever happened; the node is not
                was_rendered = False
                if not self._ending.is_set():
                    self.get_logger().warning(f"picture dropped: {describe(error)}", throttle_duration_sec=COMPLAINT_S)
            self._watch_rate(pace, was_rendered)

    def _take_picture(self, index: int) -> bool:
        """Publish one picture on the topics that have a subscriber. Returns whether it had to be rendered."""
        image, info, depth = (
            bool(publisher.get_subscription_count()) for publisher in (self._image, self._info, self._depth)
        )
        header = Header(frame_id=self._settings.frame_id, stamp=self.get_clock().now().to_msg())
        frame = self._camera.frame(index / self._settings.rate_hz) if image or depth else None
        if self._ending.is_set():
            return False
        if info:
            self._info.publish(camera_to_info(self._camera.model, header))
        if image and frame is not None:
            self._image.publish(bgr_to_image(frame.image_bgr, header, self._settings.encoding))
        if depth and frame is not None:
            self._depth.publish(depth_to_image(frame.depth, header))
        return frame is not None

    def _watch_rate(self, pace: Pace, was_rendered: bool) -> None:
        """Say once at what rate pictures really come where the machine is too slow for the one asked for."""
        now_s = time.monotonic()
        is_late = was_rendered and pace.wait_s(now_s) == 0
        self._late = [*self._late[-LATE_PICTURES:], now_s] if is_late else []
        if len(self._late) > LATE_PICTURES and not self._ending.is_set():
            rate_hz = LATE_PICTURES / (self._late[-1] - self._late[0])
            self.get_logger().warning(
                f"rate_hz is {self._settings.rate_hz:g}, but this machine renders {rate_hz:.3g} pictures a second",
                once=True,
            )


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM. Exit status 2 for a parameter that is not allowed."""
    run_node(PROGRAM, SyntheticCameraNode, SyntheticCameraNode.start, SyntheticCameraNode.stop, args, torch_threads=1)


if __name__ == "__main__":
    main()
