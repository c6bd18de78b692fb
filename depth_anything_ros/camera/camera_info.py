"""The part of sensor_msgs/CameraInfo that is read, and which image it describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from depth_anything_ros.errors import CameraError


class RegionOfInterest(Protocol):
    """The part of sensor_msgs/RegionOfInterest that is read."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfo(Protocol):
    """The part of sensor_msgs/CameraInfo (ROS 2 field names) that is read."""

    width: int
    height: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: Any  # RegionOfInterest; generated message classes do not satisfy nested protocols


def image_center(width: int, height: int) -> tuple[float, float]:
    """Return (u, v) of the middle of a picture: (W - 1) / 2 and (H - 1) / 2, as `CameraModel` counts pixels."""
    return (width - 1) / 2, (height - 1) / 2


def binning(info: CameraInfo) -> tuple[int, int]:
    """Return (binning_x, binning_y), with 1 for 0 (sensor_msgs/CameraInfo)."""
    return max(1, info.binning_x), max(1, info.binning_y)


def image_size(info: CameraInfo, actual: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return (width, height) of the image a CameraInfo describes, after region of interest and binning.

    Args:
        actual: (width, height) of the image, used where the message leaves its own at 0.
    """
    binning_x, binning_y = binning(info)
    width, height = (info.roi.width or info.width) // binning_x, (info.roi.height or info.height) // binning_y
    return width or actual[0], height or actual[1]


def resize_factors(described: tuple[int, int], actual: tuple[int, int]) -> tuple[float, float]:
    """Return the factors in x and y by which an image was resized from one (width, height) to another.

    A difference of one pixel is rounded binning, not a resize: the factors are 1.

    Raises:
        CameraError: the sizes do not differ by a single factor (within a pixel). Then the image was cropped, and its
            intrinsics are not known.
    """
    (width, height), (actual_width, actual_height) = described, actual
    if abs(actual_width - width) <= 1 and abs(actual_height - height) <= 1:
        return 1.0, 1.0
    if actual_width <= 0 or abs(actual_height - height * actual_width / width) >= 1.0:
        raise CameraError(
            f"the image is {actual_width}x{actual_height}, but its CameraInfo describes {width}x{height}: "
            "not the same picture at another scale"
        )
    return actual_width / width, actual_height / height
