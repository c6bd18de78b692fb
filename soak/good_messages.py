"""A good message for every topic that a camera of the node listens to, all of one moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2, PointField, Range
from std_msgs.msg import Header

from depth_anything_ros.node.conversions import bgr_to_image

WIDTH, HEIGHT = 64, 48
PICTURE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
HEADER = Header(frame_id="optical", stamp=Time(sec=1_700_000_000))
NEAR_M = 2.0


def inputs_of(camera: str, own: Mapping[str, str]) -> list[tuple[str, Any]]:
    """Return the topics of a camera below the namespace, each with a good message.

    Args:
        own: the camera's parameters: its `image_transport`, its `range_type`.
    """
    is_compressed = own.get("image_transport") == "compressed"
    image = f"{camera}/image/compressed" if is_compressed else f"{camera}/image"
    topics = [(image, picture(HEADER, is_compressed)), (f"{camera}/camera_info", camera_info(HEADER))]
    if "range_type" in own:
        topics.append((f"{camera}/range", RANGES[own["range_type"]]()))
    return topics


def picture(header: Header, is_compressed: bool) -> Image | CompressedImage:
    """Return the known picture, as PNG if compressed."""
    if not is_compressed:
        return bgr_to_image(PICTURE, header)
    message = CompressedImage(header=header, format="bgr8; png compressed bgr8")
    message.data.frombytes(cv2.imencode(".png", PICTURE)[1].tobytes())
    return message


def camera_info(header: Header) -> CameraInfo:
    """Return the camera's."""
    info = CameraInfo(header=header, width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def _scan() -> LaserScan:
    angles = {"angle_min": -0.4, "angle_max": 0.4, "angle_increment": 0.02}
    return LaserScan(header=HEADER, range_min=0.1, range_max=30.0, ranges=[NEAR_M] * 41, **angles)


def _cloud() -> PointCloud2:
    points = np.full((40, 3), NEAR_M, np.float32)
    points[:, 0] = np.linspace(-0.8, 0.8, 40)
    fields = [PointField(name=axis, offset=4 * place, datatype=7, count=1) for place, axis in enumerate("xyz")]
    cloud = PointCloud2(header=HEADER, height=1, width=40, fields=fields, point_step=12, row_step=480)
    cloud.data.frombytes(points.tobytes())
    return cloud


def _beam() -> Range:
    return Range(header=HEADER, field_of_view=0.1, min_range=0.1, max_range=30.0, range=NEAR_M)


def _registered() -> Image:
    image = Image(header=HEADER, height=HEIGHT, width=WIDTH, encoding="16UC1", step=2 * WIDTH)
    image.data.frombytes(np.full((HEIGHT, WIDTH), 1000 * NEAR_M, np.uint16).tobytes())
    return image


RANGES = {"LaserScan": _scan, "PointCloud2": _cloud, "Range": _beam, "Image": _registered}
