"""Poses from TF, where it is installed."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from depth_anything_ros.errors import FitRefused, plain_line, quoted
from depth_anything_ros.messages.camera_infos import frame_of
from depth_anything_ros.scale.transform import SAME_FRAME, Transform


class Transforms:
    """Listens to TF from the first question on.

    Args:
        node: where it listens.
        without: what to do where tf2 is not installed.
    """

    def __init__(self, node: Node, without: str) -> None:
        self._node = node
        self._without = without
        self._buffer: Any = None
        self._listener: Any = None

    def listen(self) -> None:
        """Listen from now on, where tf2 is installed."""
        if self._listener is None:
            self._buffer, self._listener = _listen_to_tf(self._node)

    def destroy(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None

    def pose(self, target: str, header: Header) -> Transform:
        """Return the pose of a message's frame, seen from `target`, at its stamp.

        Raises:
            FitRefused: tf2 is not installed, or does not know the pose.
        """
        target, source = target.removeprefix("/"), frame_of(header)  # tf2 refuses a leading slash
        if source == target:
            return SAME_FRAME
        self.listen()
        if self._buffer is None:
            raise FitRefused(self._without)
        try:
            found = self._buffer.lookup_transform(target, source, Time.from_msg(header.stamp), Duration(seconds=0))
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
