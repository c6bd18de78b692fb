"""Which topics of a bag are cameras, and where their depth goes.

The depth of `/front/image_raw` and of `/front/image_raw/compressed` lies in `/front/depth_anything/`, as that of
a node `depth_anything` in the camera's namespace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rosbags.interfaces import Connection

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import DamagedMessage, InputError, SettingsError
from depth_anything_ros.offline.bag.files import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, Bag
from depth_anything_ros.settings import BagSettings

COMPRESSED = "/compressed"  # what image_transport puts behind a topic
DEPTH_ENCODINGS = ("32FC1", "16UC1")


@dataclass(frozen=True)
class Camera:
    """An image topic, and the topics that belong to it."""

    topic: str

    @property
    def namespace(self) -> str:
        """Where the camera's topics lie, without a slash at the end."""
        return self.topic.removesuffix(COMPRESSED).rpartition("/")[0]

    @property
    def info_topic(self) -> str:
        """Topic of its CameraInfo, as image_transport has it."""
        return f"{self.namespace}/camera_info"

    def outputs(self, kind: Kind, settings: BagSettings) -> dict[str, tuple[str, str]]:
        """Return topic and type of everything that is written, by a short name."""
        prefix = f"{self.namespace}/depth_anything"
        if kind == "relative":
            return {"depth": (f"{prefix}/relative/image", IMAGE)}
        topics = {"depth": (f"{prefix}/depth/image", IMAGE), "info": (f"{prefix}/depth/camera_info", CAMERA_INFO)}
        return {**topics, "points": (f"{prefix}/points", POINT_CLOUD)} if settings.cloud else topics


def choose_cameras(bag: Bag, wanted: Sequence[str] = ()) -> list[Camera]:
    """Return the cameras of these topics; without any, all that have a CameraInfo beside them and are no depth.

    Raises:
        InputError: no such image topic, none at all, or no image on any of them.
    """
    there = sorted({connection.topic for connection in bag.images()})
    everything = ", ".join(sorted({connection.topic for connection in bag.connections})) or "none"
    unknown = [topic for topic in wanted if topic not in there]
    if unknown:
        known = ", ".join(there) or f"none, but {everything}"
        raise InputError(f"no images on {', '.join(unknown)} in {bag.path}; topics with images: {known}")
    topics = list(dict.fromkeys(wanted)) or [topic for topic in there if _is_camera(bag, topic, there)]
    if not topics:
        raise InputError(
            f"no camera in {bag.path}: no image topic with a camera_info beside it. "
            f"--camera takes one without; topics: {everything}"
        )
    if all(_first_image(bag, topic) is None for topic in topics):
        raise InputError(f"no frames in {bag.path} on {', '.join(topics)}")
    return [Camera(topic) for topic in topics]


def _is_camera(bag: Bag, topic: str, images: Sequence[str]) -> bool:
    """Whether a topic has a CameraInfo, is not another one's compressed twin, and no depth camera's."""
    raw = topic.removesuffix(COMPRESSED)
    if raw != topic and raw in images:
        return False
    has_info = any(connection.topic == Camera(topic).info_topic for connection in bag.of_type(CAMERA_INFO))
    return has_info and not _holds_depth(bag, topic)


def _first_image(bag: Bag, topic: str) -> tuple[Connection, bytes] | None:
    connections = [connection for connection in bag.images() if connection.topic == topic]
    return next(((connection, data) for connection, _, data in bag.messages(connections)), None)


def _holds_depth(bag: Bag, topic: str) -> bool:
    """Whether a topic's first message is of a depth camera."""
    first = _first_image(bag, topic)
    if first is None:
        return False
    connection, data = first
    try:
        message = bag.read(connection, data)
    except DamagedMessage:
        return False
    if connection.msgtype == COMPRESSED_IMAGE:
        return "compressedDepth" in message.format
    return message.encoding in DEPTH_ENCODINGS


def check_outputs(bag: Bag, cameras: Sequence[Camera], kind: Kind, settings: BagSettings) -> None:
    """See that what is asked for can be written.

    Raises:
        SettingsError: metres of relative depth, a stride below 1, an unknown encoding.
        InputError: a topic would be written twice, or is in the bag already.
    """
    if settings.cloud_stride < 1:
        raise SettingsError(f"the stride must be 1 or more, got {settings.cloud_stride}")
    if settings.depth_encoding not in DEPTH_ENCODINGS:
        raise SettingsError(f"unknown depth encoding {settings.depth_encoding!r}; known: {', '.join(DEPTH_ENCODINGS)}")
    if kind == "relative" and (settings.cloud or settings.depth_encoding == "16UC1"):
        raise SettingsError("relative depth has no metres: neither clouds nor 16UC1")
    taken = {} if settings.only_depth else {connection.topic: "the bag itself" for connection in bag.connections}
    for camera in cameras:
        for topic, _ in camera.outputs(kind, settings).values():
            if topic in taken:
                raise InputError(
                    f"{topic} would hold the depth of {camera.topic}, and is a topic of {taken[topic]}; "
                    "choose with --camera, or leave the originals out with --only-depth"
                )
            taken[topic] = camera.topic
