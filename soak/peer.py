"""The other side of a node: publishes to it, listens to it, calls its services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import rclpy
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

T = TypeVar("T")

LOOK_S = 0.005
TIMEOUT_S = 30.0
QUEUE = 1000


class Silence(Exception):
    """What had to come did not come."""


def eventually(look: Callable[[], T], what: str, timeout_s: float = TIMEOUT_S) -> T:
    """Look until there is something, and return it. Time in which this process is stopped does not count.

    Raises:
        Silence: nothing came.
    """
    for _ in range(int(timeout_s / LOOK_S)):
        if seen := look():
            return seen
        time.sleep(LOOK_S)
    raise Silence(f"after {timeout_s:g} s there is still no {what}")


class Peer:
    """A ROS node in a thread until `stop`. Everything is reliable, so that nothing is lost on the way."""

    def __init__(self, namespace: str) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = Node("peer", context=self._context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def stop(self) -> None:
        """End the thread and the node."""
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def listen(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        """Call a function with every message of a topic."""
        self._node.create_subscription(kind, topic, callback, _reliable())

    def publish(self, topic: str, message: Any, kind: type | None = None) -> None:
        """Publish a message, or the bytes of one of a type; waits for the first subscriber of the topic."""
        if topic not in self._publishers:
            quiet = PublisherEventCallbacks(use_default_callbacks=False)
            of = kind or type(message)
            made: Any = self._node.create_publisher(of, topic, _reliable(), event_callbacks=quiet)
            eventually(made.get_subscription_count, f"subscriber of {topic}")
            self._publishers[topic] = made
        self._publishers[topic].publish(message)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service and return its response. Raises Silence."""
        if name not in self._clients:
            self._clients[name] = self._node.create_client(kind, name)
            eventually(self._clients[name].service_is_ready, f"service {name}")
        future = self._clients[name].call_async(request)
        eventually(future.done, f"answer of {name}")
        return future.result()


def _reliable() -> QoSProfile:
    return QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE)
