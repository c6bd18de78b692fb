"""The first stage: one camera's topics in, the place where its frames wait, and how they are decoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_anything_ros.messages.camera_infos import CameraInfos
from depth_anything_ros.messages.images import compressed_to_bgr
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.node.conversions import image_to_bgr
from depth_anything_ros.node.frame import Frame, ImageMessage, WaitingFrame
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.health import CameraHealth
from depth_anything_ros.node.input_topics import InputTopics
from depth_anything_ros.node.qos_overrides import overridable
from depth_anything_ros.settings import CameraSettings

CAMERA_INFO_QUEUE = 10


class FrameInput:
    """One camera's. `decode` belongs to the worker, everything else to the executor's thread.

    Args:
        node: where the subscriptions live.
        topics: full names of the camera's topics in.
        queue, place: where frames wait, and which of its places is this camera's.
        camera_infos: gets every CameraInfo that comes.
        health: gets the counts.
        is_wanted: whether anything would be done with a frame.

    Attributes:
        image_size: (H, W) of the last image that states it; None before the first.
    """

    def __init__(
        self,
        node: Node,
        topics: InputTopics,
        queue: FrameQueue[WaitingFrame],
        place: int,
        camera_infos: CameraInfos,
        health: CameraHealth,
        is_wanted: Callable[[], bool],
    ) -> None:
        self._node = node
        self._topics = topics
        self._queue = queue
        self._place = place
        self._camera_infos = camera_infos
        self._health = health
        self._is_wanted = is_wanted
        self._subscriptions: list[Any] = []
        self._levels = LevelFinder()
        self.image_size: tuple[int, int] | None = None

    def start(self, settings: CameraSettings) -> None:
        """Subscribe."""
        self._levels = LevelFinder(settings.black_level, settings.white_level, self._health.remark)
        compressed = settings.image_transport == "compressed"
        image = self._topics.subscribed_image(settings.image_transport)
        kind = CompressedImage if compressed else Image
        self._subscribe(kind, image, self._on_image, queue_size(settings), partial(self._health.images_lost, image))
        self._subscribe(CameraInfo, self._topics.camera_info, self._on_camera_info, CAMERA_INFO_QUEUE)
        self._subscribe_latched(CameraInfo, self._topics.camera_info, self._on_camera_info)
        self._node.get_logger().info(f"images from {image}, CameraInfo from {self._topics.camera_info}")

    def stop(self) -> None:
        """Unsubscribe, and drop what waits."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        dropped = self._queue.clear(self._place)  # before the count is read, which the worker adds to, too
        self._health.counts.dropped += dropped

    def _subscribe(
        self,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        depth: int,
        lost: Callable[[int], None] | None = None,
    ) -> None:
        """Subscribe with best effort, unless parameters say otherwise. `lost`: see `QosWatch.of_subscription`."""
        qos = QoSProfile(reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST, depth=depth)
        subscription = self._node.create_subscription(
            kind,
            topic,
            callback,
            qos,
            qos_overriding_options=overridable(),
            event_callbacks=self._health.qos.of_subscription(topic, lost),
        )
        self._subscriptions.append(subscription)

    def _subscribe_latched(self, kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
        """Receive what was published once, before this node came. A publisher that latches nothing does not fit."""
        qos = QoSProfile(
            reliability=ReliabilityPolicy.RELIABLE,  # history goes to reliable subscriptions only
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
        )
        events = self._health.qos.not_watched()
        self._subscriptions.append(self._node.create_subscription(kind, topic, callback, qos, event_callbacks=events))

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self._health.camera_info_received()
        self._camera_infos.add(msg)

    def _on_image(self, msg: ImageMessage) -> None:
        received_s = time.perf_counter()
        self._health.image_received()
        frame = WaitingFrame(msg, received_s)
        self.image_size = frame.size or self.image_size
        if not self._is_wanted():
            self._health.counts.ignored += 1
            return
        frame.watch.add("transport", self._health.seconds_since(msg.header))
        if self._queue.put(self._place, frame):
            self._health.counts.dropped += 1

    def decode(self, waiting: WaitingFrame) -> Frame:
        """Read the image of a frame whose turn has come.

        Raises:
            ImageError: the message contradicts itself, or its encoding is unknown.
        """
        msg, watch = waiting.msg, waiting.watch
        watch.add("queue", time.perf_counter() - waiting.received_s)
        with watch.time("conversion"):
            if isinstance(msg, CompressedImage):
                image_bgr = compressed_to_bgr(msg, self._levels)
            else:
                image_bgr = image_to_bgr(msg, self._levels, self._health.remark)
        return Frame(msg.header, image_bgr, watch)


def queue_size(settings: CameraSettings) -> int:
    """Return how many of a camera's frames may wait."""
    return settings.queue_size if settings.process_every_frame else 1
