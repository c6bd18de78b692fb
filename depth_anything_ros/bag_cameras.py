"""Which topics of a bag are cameras, and where their depth goes.

The depth of `/front/image_raw` and of `/front/image_raw/compressed` lies in `/front/depth_anything/`, as that of
a node `depth_anything` in the camera's namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rosbags.interfaces import Connection

from depth_anything_ros.bag_files import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, Bag, DamagedMessage
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import InputError, SettingsError
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
    images = {connection.topic: connection for connection in bag.images()}
    unknown = [topic for topic in wanted if topic not in images]
    if unknown:
        there = ", ".join(images) or f"none, but {_listed(c.topic for c in bag.connections)}"
        raise InputError(f"no images on {', '.join(unknown)} in {bag.path}; topics with images: {there}")
    infos = {connection.topic for connection in bag.of_type(CAMERA_INFO)}
    topics = list(dict.fromkeys(wanted)) or [
        topic
        for topic, connection in images.items()
        if Camera(topic).info_topic in infos
        and (topic.removesuffix(COMPRESSED) == topic or topic.removesuffix(COMPRESSED) not in images)
        and not _holds_depth(bag, connection)
    ]
    if not topics:
        raise InputError(
            f"no camera in {bag.path}: no image topic with a camera_info beside it. "
            f"--camera takes one without; topics: {_listed(c.topic for c in bag.connections)}"
        )
    if all(next(bag.messages([images[topic]]), None) is None for topic in topics):
        raise InputError(f"no frames in {bag.path} on {', '.join(topics)}")
    return [Camera(topic) for topic in topics]


def _listed(topics: Iterable[str]) -> str:
    return ", ".join(sorted(set(topics))) or "none"


def _holds_depth(bag: Bag, connection: Connection) -> bool:
    """Whether a topic's first message is of a depth camera."""
    for _, _, data in bag.messages([connection]):
        try:
            message = bag.read(connection, data)
        except DamagedMessage:
            return False
        if connection.msgtype == COMPRESSED_IMAGE:
            return "compressedDepth" in message.format
        return message.encoding in DEPTH_ENCODINGS
    return False


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
