"""The one participant of the robot's ROS graph: a node that listens, in its own thread. Only here is rclpy imported.

Callbacks are called in that thread. What other threads want of it, they put into a queue: rclpy's entities are
created and destroyed by the thread that waits for them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import ROSClock
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_anything_ros.errors import SettingsError, describe, plain_line

logger = logging.getLogger(__name__)

NODE_NAME = "depth_bridge"
DIAGNOSTICS = "/diagnostics"
DIAGNOSTICS_QUEUE = 100  # every node of a robot publishes there
SPIN_S = 0.1  # how often the thread looks whether it is to end
ERROR_PAUSE_S = 0.1  # after a callback that fails
JOIN_S = 1.0
TYPES = {
    "depth": Image,
    "depth_info": CameraInfo,
    "camera_info": CameraInfo,
    "points": PointCloud2,
    "color": Image,
    "image": Image,
}

Listener = Callable[[Any], None]


class RosSide:
    """A node named `depth_bridge` and its thread.

    Args:
        ros_args: arguments for ROS, without `--ros-args`.
        on_status: gets each status of /diagnostics: name, level, message, values.

    Raises:
        SettingsError: ROS takes no such arguments.
    """

    def __init__(self, ros_args: Sequence[str], on_status: Callable[[str, int, str, dict[str, str]], None]) -> None:
        self._on_status = on_status
        self._context = rclpy.Context()
        arguments = ["--ros-args", *ros_args] if ros_args else []
        try:
            rclpy.init(args=arguments, context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            self._node = Node(NODE_NAME, context=self._context)
        except Exception as error:
            raise SettingsError(f"--ros-args {' '.join(ros_args)} cannot be used: {plain_line(str(error))}") from None
        self._wanted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = self._node.create_guard_condition(lambda: None)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)

    def start(self) -> None:
        """Listen to /diagnostics from now on."""
        qos = QoSProfile(reliability=ReliabilityPolicy.BEST_EFFORT, depth=DIAGNOSTICS_QUEUE)
        self._node.create_subscription(DiagnosticArray, DIAGNOSTICS, self._on_diagnostics, qos)
        self._thread.start()

    def stop(self) -> None:
        """Leave the graph."""
        self._ending.set()
        self._wake.trigger()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        if not self._thread.is_alive():
            self._node.destroy_node()
            self._context.try_shutdown()

    def now_ns(self) -> int:
        """Nanoseconds of the ROS clock: the system's, or /clock with `use_sim_time`."""
        clock: ROSClock = self._node.get_clock()  # type: ignore[assignment]
        return int(clock.now().nanoseconds)

    def subscribe(self, what: str, topic: str, listener: Listener) -> Callable[[], None]:
        """Listen to a topic; return what ends it. Any thread may call both."""
        made: list[Any] = []
        kind = CompressedImage if topic.endswith("/compressed") else TYPES[what]

        def begin() -> None:
            # rclpy's own callbacks would warn of what does not fit, and nothing more.
            quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
            qos = self._fitting(topic)
            made.append(self._node.create_subscription(kind, topic, listener, qos, event_callbacks=quiet))

        def end() -> None:
            for subscription in made:
                self._node.destroy_subscription(subscription)

        self._ask(begin)
        return lambda: self._ask(end)

    def _fitting(self, topic: str) -> QoSProfile:
        """The latest message alone; reliable where all publishers are, since large messages get lost otherwise."""
        offered = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(topic)]
        is_reliable = bool(offered) and all(policy == ReliabilityPolicy.RELIABLE for policy in offered)
        reliability = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT
        return QoSProfile(reliability=reliability, history=HistoryPolicy.KEEP_LAST, depth=1)

    def _ask(self, work: Callable[[], None]) -> None:
        self._wanted.put(work)
        self._wake.trigger()

    # The thread

    def _spin(self) -> None:
        executor = SingleThreadedExecutor(context=self._context)
        executor.add_node(self._node)
        while not self._ending.is_set():
            try:
                self._do_wanted()
                executor.spin_once(timeout_sec=SPIN_S)
            except Exception as error:  # one message must not end the thread
                logger.error("a ROS callback failed: %s", describe(error))
                self._ending.wait(ERROR_PAUSE_S)
        executor.shutdown()

    def _do_wanted(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._wanted.get_nowait()()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            values = {value.key: value.value for value in status.values}
            self._on_status(status.name, status.level[0], status.message, values)
