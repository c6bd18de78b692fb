"""Small bags, made and read with `rosbags`: cameras that see stand-in images, and messages of other kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.convert.converter import migrate_message
from rosbags.interfaces import Connection
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from stand_in import stand_in_image

STORE = get_typestore(Stores.ROS2_KILTED)
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
HEIGHT, WIDTH = 48, 64
PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000


class Message(NamedTuple):
    """A message of a bag, as it lies there."""

    topic: str
    type: str
    time_ns: int
    data: bytes

    def read(self) -> Any:
        return STORE.deserialize_cdr(self.data, self.type)


def make(type_: str, **fields: Any) -> Any:
    return STORE.types[type_](**fields)


def header(index: int, frame_id: str = "front_optical") -> Any:
    """Header of picture `index`: its stamp is a little before its log time, as that of a camera is."""
    stamp_ns = START_NS + index * PERIOD_NS - 7_000_001
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(index: int, pixels: NDArray[Any], encoding: str = "bgr8", **changes: Any) -> Any:
    fields = {
        "header": header(index),
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "is_bigendian": 0,
        "step": pixels[0].nbytes,
        "data": np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
    }
    return make("sensor_msgs/msg/Image", **{**fields, **changes})


def compressed(index: int, pixels: NDArray[np.uint8]) -> Any:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return make("sensor_msgs/msg/CompressedImage", header=header(index), format="bgr8; png compressed bgr8", data=data)


def camera_info(index: int, *, fx: float = 50.0, width: int = WIDTH, height: int = HEIGHT, **changes: Any) -> Any:
    cx, cy = (width - 1) / 2, (height - 1) / 2
    fields = {
        "header": header(index),
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([fx, 0, cx, 0, fx, cy, 0, 0, 1.0]),
        "r": np.eye(3).ravel(),
        "p": np.array([fx, 0, cx, 0, 0, fx, cy, 0, 0, 0, 1.0, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }
    return make("sensor_msgs/msg/CameraInfo", **{**fields, **changes})


def text(words: str) -> Any:
    return make("std_msgs/msg/String", data=words)


def picture(index: int) -> NDArray[np.uint8]:
    return stand_in_image(HEIGHT, WIDTH, index)


@dataclass
class Recording:
    """Messages in the order they are to be recorded."""

    messages: list[Message] = field(default_factory=list)

    def add(self, topic: str, index: int, message: Any, *, delay_ns: int = 0) -> None:
        type_ = message.__msgtype__
        data = bytes(STORE.serialize_cdr(message, type_))
        self.messages.append(Message(topic, type_, START_NS + index * PERIOD_NS + delay_ns, data))

    def damage(self, number: int, data: bytes) -> None:
        """Replace what a message holds."""
        self.messages[number] = self.messages[number]._replace(data=data)

    def save(
        self,
        path: Path,
        storage: str = "mcap",
        empty: tuple[tuple[str, str], ...] = (),
        compression: CompressionMode = CompressionMode.NONE,
    ) -> Path:
        """Write the bag; `empty` are topics and types without a message."""
        writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
        writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            topics: dict[str, Connection] = {}
            for topic, type_ in [*((m.topic, m.type) for m in self.messages), *empty]:
                if topic not in topics:
                    topics[topic] = writer.add_connection(topic, type_, typestore=STORE)
            for message in self.messages:
                writer.write(topics[message.topic], message.time_ns, message.data)
        return path

    def save_ros1(self, path: Path) -> Path:
        """Write the messages as a ROS 1 bag; their types are the same there, but for names of fields."""
        store = get_typestore(Stores.ROS1_NOETIC)
        with Ros1Writer(path) as writer:
            topics: dict[str, Connection] = {}
            for message in self.messages:
                if message.topic not in topics:
                    topics[message.topic] = writer.add_connection(message.topic, message.type, typestore=store)
                old = migrate_message(STORE, store, message.type, message.type, {}, message.read())
                writer.write(topics[message.topic], message.time_ns, store.serialize_ros1(old, message.type))
        return path


def front_camera(frames: int = 3) -> Recording:
    """A camera whose CameraInfo is recorded behind its images, and somebody who talks in between."""
    recording = Recording()
    for index in range(frames):
        recording.add("/chatter", index, text(f"before {index}"))
        recording.add("/front/image_raw", index, image(index, picture(index)))
        recording.add("/chatter", index, text(f"behind {index}"))
        recording.add("/front/camera_info", index, camera_info(index, fx=50.0 + index), delay_ns=2_000_000)
    return recording


def messages_of(path: Path) -> list[Message]:
    """Read a whole bag."""
    with Reader(path) as reader:
        return [Message(c.topic, c.msgtype, time_ns, bytes(data)) for c, time_ns, data in reader.messages()]


def on(messages: list[Message], topic: str) -> list[Message]:
    return [message for message in messages if message.topic == topic]
