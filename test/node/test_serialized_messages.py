"""What is serialised here is what ROS serialises, byte for byte, and what subscribers get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from harness import Peer, cloud_message, eventually
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.messages.cdr import ALIGNMENT, CdrBuffer
from depth_anything_ros.messages.clouds import SerialCloud
from depth_anything_ros.messages.images import SerialImage, image_fields
from depth_anything_ros.node.serial_publisher import publish_serialized, rcl_publish


def header(seconds: int, nanoseconds: int, frame: str) -> Any:
    made = Header(frame_id=frame)
    made.stamp.sec, made.stamp.nanosec = seconds, nanoseconds
    return made


headers = st.builds(
    header,
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 10**9 - 1),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)
sides = st.integers(1, 9)
PIXELS = {"mono8": (np.uint8, ()), "bgr8": (np.uint8, (3,)), "16UC1": (np.uint16, ()), "32FC1": (np.float32, ())}


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_same_but_padding(serialize: Callable[[], NDArray[np.uint8]], expected: bytes) -> None:
    ours = serialize()
    with mock.patch("depth_anything_ros.messages.cdr.PADDING", b"\xff"):
        is_padding = serialize() != ours
    assert len(ours) == len(expected)
    np.testing.assert_array_equal(ours[~is_padding], np.frombuffer(expected, np.uint8)[~is_padding])


@given(headers, sides, sides, st.sampled_from(sorted(PIXELS)), st.integers(1, 2))
def test_an_image_has_the_bytes_that_ros_gives_it(made: Any, rows: int, columns: int, encoding: str, step: int) -> None:
    dtype, channels = PIXELS[encoding]
    pixels = noise(rows * step, columns, *channels).astype(dtype)[::step]
    message = Image(header=made, **image_fields(pixels, encoding))
    message.data.frombytes(pixels.tobytes())
    assert_same_but_padding(lambda: SerialImage().fill(pixels, made, encoding), serialize_message(message))


@given(headers, sides, sides, st.integers(1, 3), st.booleans())
def test_a_cloud_has_the_bytes_that_ros_gives_it(made: Any, rows: int, columns: int, stride: int, hole: bool) -> None:
    depth = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    depth[0, 0] = np.nan if hole else 1.0
    camera = CameraModel(5.0, 6.0, 2.0, 3.0, columns, rows)
    read = cloud_message(depth, noise(rows, columns, 3), made, camera, stride)
    assert (read.header, read.is_dense) == (made, not hole)
    assert_same_but_padding(
        lambda: SerialCloud().fill(depth, noise(rows, columns, 3), made, camera, stride), serialize_message(read)
    )
    points = np.frombuffer(read.data, np.float32).reshape(read.height, read.width, 4)[..., :3]
    np.testing.assert_array_equal(points, camera.back_project(depth, stride=stride))


def test_messages_of_any_size_share_memory_that_only_grows() -> None:
    image, buffer = SerialImage(), CdrBuffer()
    for rows in (3, 900, 4):
        pixels = noise(rows, 640)
        made = header(1, 2, "camera")
        read = deserialize_message(image.fill(pixels, made, "mono8").tobytes(), Image)
        assert bytes(read.data) == pixels.tobytes()
        assert buffer.begin(b"head" * rows, 100 * rows).ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize("is_direct", [True, False])
def test_what_is_published_serialised_arrives_as_a_message(
    is_direct: bool, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_direct:  # as where the function of rcl cannot be reached
        monkeypatch.setattr("depth_anything_ros.node.serial_publisher.rcl_publish", lambda: None)
    pixels, made = noise(5, 7, 3), header(3, 4, "camera")
    with peer.listen(Image, "serialised") as inbox, peer.publisher(Image, "serialised") as publisher:
        eventually(publisher.get_subscription_count, "the listener")
        publisher.is_activated = True
        publish_serialized(publisher, SerialImage().fill(pixels, made, "bgr8"))
        [received] = eventually(lambda: inbox.messages, "the image")
    assert (received.header, received.encoding, bytes(received.data)) == (made, "bgr8", pixels.tobytes())


def test_the_function_of_rcl_is_found_here() -> None:
    assert rcl_publish() is not None
