"""Which topics of a bag are cameras, and the topics of their depth.

Depth of `/front/image_raw` and of `/front/image_raw/compressed` is written below `/front/depth_anything/`, as a node
`depth_anything` in the camera's namespace would do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import DamagedMessage, ImageError, InputError, SettingsError
from depth_anything_ros.io.image_header import ALL_FORMATS, read_header
from depth_anything_ros.offline.bag.files import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, POINT_CLOUD, Bag
from depth_anything_ros.settings import BagSettings

COMPRESSED = "/compressed"  # what image_transport puts behind a topic
DEPTH_ENCODINGS = ("32FC1", "16UC1")
# What depth cameras send; a camera with one grey channel of 16 bits can be named.
MAYBE_DEPTH = ("16uc1", "16sc1", "32fc1", "64fc1", "mono16")
PNG_COLOR_TYPE, PNG_GREY = 25, 0  # offset of the byte, and its value


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
        topics = {"depth": (f"{prefix}/{'depth' if kind == 'metric' else kind}/image", IMAGE)}
        if kind == "metric" or settings.undistort:  # a rectified image has a camera that nobody else tells
            topics["info"] = (f"{prefix}/depth/camera_info", CAMERA_INFO)
        return {**topics, "points": (f"{prefix}/points", POINT_CLOUD)} if settings.cloud else topics


def choose_cameras(bag: Bag, wanted: Sequence[str], say: Callable[[str], None]) -> list[Camera]:
    """Return the cameras of these topics; without any, all that have a CameraInfo beside them and hold no depth.

    Args:
        say: told which topics are left out because they may hold depth.

    Raises:
        InputError: no such image topic, none at all, or no image on any of them.
    """
    there = sorted({connection.topic for connection in bag.images()})
    everything = ", ".join(sorted({connection.topic for connection in bag.connections})) or "none"
    unknown = [topic for topic in wanted if topic not in there]
    if unknown:
        known = ", ".join(there) or f"none, but {everything}"
        raise InputError(f"no images on {', '.join(unknown)} in {bag.path}; topics with images: {known}")
    topics = list(dict.fromkeys(wanted)) or _find_cameras(bag, there, say)
    if not topics:
        raise InputError(
            f"no camera in {bag.path}: no image topic has a camera_info beside it and holds no depth. "
            f"Name one with --camera; topics: {everything}"
        )
    if all(_first_image(bag, topic) is None for topic in topics):
        raise InputError(f"no frames in {bag.path} on {', '.join(topics)}")
    return [Camera(topic) for topic in topics]


def _find_cameras(bag: Bag, images: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Return the topics with a CameraInfo that are neither another one's compressed twin nor depth."""
    infos = {connection.topic for connection in bag.of_type(CAMERA_INFO)}
    cameras = []
    for topic in images:
        is_twin = topic.endswith(COMPRESSED) and topic.removesuffix(COMPRESSED) in images
        if is_twin or Camera(topic).info_topic not in infos:
            continue
        if _may_hold_depth(bag, topic):
            say(f"{topic} is left out: its images have one channel of 16 bits or more, as depth has; --camera takes it")
        else:
            cameras.append(topic)
    return cameras


def _first_image(bag: Bag, topic: str) -> tuple[Connection, bytes] | None:
    connections = [connection for connection in bag.images() if connection.topic == topic]
    return next(((connection, data) for connection, _, data in bag.messages(connections)), None)


def _may_hold_depth(bag: Bag, topic: str) -> bool:
    """Whether a topic's first message is as a depth camera's: compressedDepth, or one channel of 16 bits or more."""
    first = _first_image(bag, topic)
    if first is None:
        return False
    connection, data = first
    try:
        message = bag.read(connection, data)
    except DamagedMessage:
        return False
    if connection.msgtype != COMPRESSED_IMAGE:
        return message.encoding.strip().lower() in MAYBE_DEPTH
    encoding = message.format.partition(";")[0].strip().lower()
    return "compressedDepth" in message.format or encoding in MAYBE_DEPTH or _is_deep_grey(message.data)


def _is_deep_grey(data: NDArray[np.uint8]) -> bool:
    """Whether an encoded picture is a PNG with one channel of 16 bits, whatever its message calls it."""
    try:
        header = read_header(data.tobytes(), ALL_FORMATS)
    except ImageError:
        return False
    return header.format == "png" and header.bits == 16 and int(data[PNG_COLOR_TYPE]) == PNG_GREY


def check_outputs(bag: Bag, cameras: Sequence[Camera], kind: Kind, settings: BagSettings) -> None:
    """Check that what is asked for can be written.

    Raises:
        SettingsError: metres of depth that has none, a stride below 1, an unknown encoding, images that are to be
            rectified twice.
        InputError: a topic would be written twice, or is in the bag already.
    """
    if settings.cloud_stride < 1:
        raise SettingsError(f"the stride must be 1 or more, got {settings.cloud_stride}")
    if settings.depth_encoding not in DEPTH_ENCODINGS:
        raise SettingsError(f"unknown depth encoding {settings.depth_encoding!r}; known: {', '.join(DEPTH_ENCODINGS)}")
    if settings.undistort and settings.rectified:
        raise SettingsError("--undistort is for raw images, and --rectified says that they are rectified: give one")
    if settings.undistort_focal_px is not None and not settings.undistort:
        raise SettingsError("--undistort-focal needs --undistort")
    if settings.undistort_focal_px is not None and not 0 < settings.undistort_focal_px < math.inf:
        raise SettingsError(f"--undistort-focal must be a positive number of pixels, got {settings.undistort_focal_px}")
    if kind != "metric" and (settings.cloud or settings.depth_encoding == "16UC1"):
        raise SettingsError(f"{kind} depth has no metres, so there are neither clouds nor 16UC1")
    taken = {} if settings.only_depth else {connection.topic: "the bag itself" for connection in bag.connections}
    for camera in cameras:
        for topic, _ in camera.outputs(kind, settings).values():
            if topic in taken:
                advice = "" if settings.only_depth else ", or leave the originals out with --only-depth"
                raise InputError(
                    f"{topic} would hold the depth of {camera.topic}, but is already a topic of {taken[topic]}. "
                    f"Choose cameras with --camera{advice}"
                )
            taken[topic] = camera.topic
