"""The range sensor of a camera: its topic, its pose, and its readings beside the camera's depth."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import Image, LaserScan, PointCloud2, Range
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError, RangeError, describe, plain_line, quoted
from depth_anything_ros.messages.camera_infos import frame_of
from depth_anything_ros.messages.ranges import depth_of
from depth_anything_ros.messages.stamps import stamp_s
from depth_anything_ros.node.qos_overrides import overridable
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.scale.range_samples import Pairs, compare, compare_image
from depth_anything_ros.scale.transform import SAME_FRAME, Transform
from depth_anything_ros.settings import CameraSettings

# Name of a type of message, as in `parameters.RANGE_TYPES` -> the type.
MESSAGES: dict[str, Any] = {"LaserScan": LaserScan, "PointCloud2": PointCloud2, "Range": Range, "Image": Image}
KEPT = 30  # messages: enough for an inference of a second; more are kept where images wait in a queue


class RangeInput:
    """Subscribes to one camera's range sensor, and compares the message nearest in time to an image with its depth.

    Args:
        node: owner of the subscription.
        topic: its full name.
        settings: the type of message, a name in `MESSAGES`, and where the sensor is.
        qos_watch: reports publishers whose quality of service does not fit.
    """

    def __init__(self, node: Node, topic: str, settings: CameraSettings, qos_watch: QosWatch) -> None:
        self.topic = topic
        self._node = node
        waiting = settings.queue_size if settings.process_every_frame else 0
        self._recent: deque[Any] = deque(maxlen=max(KEPT, waiting))
        self._transforms: Any = None
        self._listener: Any = None
        if not settings.range_extrinsics:
            self._transforms, self._listener = _listen_to_tf(node)
        self._subscription = node.create_subscription(
            MESSAGES[settings.range_type or ""],
            self.topic,
            self._add,
            qos_profile_sensor_data,
            qos_overriding_options=overridable(),
            event_callbacks=qos_watch.of_subscription(self.topic),
        )

    def destroy(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)
        if self._listener is not None:
            self._listener.unregister()
        self._recent.clear()

    def _add(self, msg: Any) -> None:  # not `deque.append`: rclpy looks for a signature, and it has none
        self._recent.append(msg)

    def nearest(self, header: Header, window_s: float) -> Any:
        """Return the message nearest in time to an image; None where none is within `window_s` of it."""

        def off_s(msg: Any) -> float:
            return abs(stamp_s(msg.header) - stamp_s(header))

        nearest = min(list(self._recent), key=off_s, default=None)
        return nearest if nearest is not None and off_s(nearest) <= window_s else None

    def compare(
        self,
        msg: Any,
        values: NDArray[np.float32],
        kind: Kind,
        header: Header,
        camera: CameraModel,
        settings: CameraSettings,
    ) -> Pairs:
        """Compare what a message measured with an image's depth (H, W), as the model gives it.

        Raises:
            InputError: the message cannot be read, or the sensor's pose is not known.
        """
        try:
            if isinstance(msg, Image):
                return compare_image(depth_of(msg), values, camera, kind)
            return compare(msg, values, self._extrinsics(msg.header, header, settings), camera, kind)
        except InputError:
            raise
        except Exception as error:  # a message from outside, whatever is in it, must not cost the picture its depth
            raise RangeError(f"a message on {self.topic} cannot be read: {describe(error)}") from error

    def _extrinsics(self, sensor: Header, camera: Header, settings: CameraSettings) -> Transform:
        if settings.range_extrinsics:
            return Transform.from_xyz_rpy(settings.range_extrinsics)
        source, target = frame_of(sensor), frame_of(camera)  # tf2 refuses a leading slash
        if source == target:
            return SAME_FRAME
        if self._transforms is None:
            raise FitRefused("the pose of the range sensor is not known: set range_extrinsics, or install tf2_ros")
        try:
            found = self._transforms.lookup_transform(target, source, Time.from_msg(sensor.stamp), Duration(seconds=0))
        except Exception as error:  # tf2 has a dozen kinds
            why = plain_line(str(error))
            raise FitRefused(f"no transform from {quoted(source)} to {quoted(target)}: {why}") from error
        return Transform.from_message(found.transform)


def _listen_to_tf(node: Node) -> tuple[Any, Any]:
    """Return tf2's buffer and the listener that fills it; None each where tf2 is not installed."""
    try:
        from tf2_ros import Buffer, TransformListener
    except Exception:  # absent, or its compiled part does not load
        return None, None
    buffer = Buffer()
    return buffer, TransformListener(buffer, node)
