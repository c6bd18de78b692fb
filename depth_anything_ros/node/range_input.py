"""The range sensor of a camera: its topic, its pose, and its readings beside the camera's depth."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, LaserScan, PointCloud2, Range
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import InputError, NoReading, RangeError, describe, quoted, readable
from depth_anything_ros.messages.camera_infos import frame_of, is_same_frame
from depth_anything_ros.messages.ranges import depth_of
from depth_anything_ros.messages.stamps import stamp_ns, stamp_s
from depth_anything_ros.node.qos_overrides import overridable
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.node.transforms import Transforms
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
        without = "the pose of the range sensor is not known: set range_extrinsics, or install tf2_ros"
        self._transforms = Transforms(node, without)
        if not settings.range_extrinsics:
            self._transforms.listen()
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
        self._transforms.destroy()
        self._recent.clear()

    def _add(self, msg: Any) -> None:  # not `deque.append`: rclpy looks for a signature, and it has none
        self._recent.append(msg)

    def nearest(self, header: Header, window_s: float) -> Any:
        """Return the message nearest in time to an image.

        A stamp of 0, which some drivers leave there, is no time: it tells of nothing when it was measured.

        Raises:
            NoReading: none is within `window_s` of the image, or nothing says which one is.
        """

        def off_s(msg: Any) -> float:
            return abs(stamp_s(msg.header) - stamp_s(header))

        recent = list(self._recent)
        if not recent:
            raise NoReading(f"no message on {self.topic} yet")
        if stamp_ns(header) == 0:
            raise NoReading(f"the image's stamp is 0, so no message on {self.topic} can be told to belong to it")
        stamped = [msg for msg in recent if stamp_ns(msg.header) != 0]
        if not stamped:
            raise NoReading(f"stamps on {self.topic} are 0, so no message can be told to belong to the image")
        nearest = min(stamped, key=off_s)
        if off_s(nearest) > window_s:
            raise NoReading(
                f"no message on {self.topic} near the image's stamp: the nearest is {readable(off_s(nearest))} s away, "
                f"and range_window_s is {window_s:g}"
            )
        return nearest

    def compare(
        self,
        msg: Any,
        values: NDArray[np.float32],
        kind: Kind,
        header: Header,
        camera: CameraModel,
        settings: CameraSettings,
        raw_camera: CameraModel | None = None,
    ) -> Pairs:
        """Compare what a message measured with an image's depth (H, W), as the model gives it.

        Args:
            raw_camera: of an image that was rectified here, that of what came: a depth image is registered to that.

        Raises:
            InputError: the message cannot be read, or the sensor's pose is not known.
        """
        try:
            if isinstance(msg, Image):
                self._check_frame(msg.header, header, settings)
                return _compare_registered(depth_of(msg), values, kind, camera, raw_camera)
            return compare(msg, values, self._extrinsics(msg.header, header, settings), camera, kind)
        except InputError:
            raise
        except Exception as error:  # a message from outside, whatever is in it, must not cost the picture its depth
            raise RangeError(f"a message on {self.topic} cannot be read: {describe(error)}") from error

    def _check_frame(self, sensor: Header, camera: Header, settings: CameraSettings) -> None:
        """Raise RangeError for a depth image of another camera's frame: its pixels are not those of the picture."""
        frames = frame_of(sensor), frame_of(camera)
        if not is_same_frame(*frames) and not settings.camera_info_any_frame:
            raise RangeError(
                f"depth images on {self.topic} are of frame {quoted(frames[0])}, the images of {quoted(frames[1])}: "
                "give depth that is registered to the image, or set camera_info_any_frame if it is"
            )

    def _extrinsics(self, sensor: Header, camera: Header, settings: CameraSettings) -> Transform:
        if settings.range_extrinsics:
            return Transform.from_xyz_rpy(settings.range_extrinsics)
        return self._transforms.pose(frame_of(camera), sensor)


def _compare_registered(
    reference: NDArray[np.float32],
    values: NDArray[np.float32],
    kind: Kind,
    camera: CameraModel,
    raw_camera: CameraModel | None,
) -> Pairs:
    """Compare a depth camera's image (h, w) of the picture that came; what was rectified has its pixels elsewhere."""
    if raw_camera is None:
        return compare_image(reference, values, camera, kind)
    height, width = reference.shape
    seen_by = raw_camera.scaled_to(width, height)
    return compare_image(reference, values, camera, kind, reference_camera=seen_by, T_camera_reference=SAME_FRAME)
