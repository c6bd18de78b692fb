"""Read the messages of range sensors as NumPy arrays, by the names of their fields, not by their class.

A reading that is not finite, not positive, or outside the sensor's own limits is none (REP 117: NaN, -Inf and +Inf).
A lidar's cloud often has its own origin, (0, 0, 0), in the place of such a reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, RangeError, quoted
from depth_anything_ros.messages.rows import row_bytes

FloatArray = NDArray[np.float32]

# sensor_msgs/PointField: datatype -> NumPy's name without the byte order.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
MILLIMETRES_PER_METRE = 1000.0
MAX_NAMED = 20  # fields that an error names
MIN_RANGE_M = 0.01  # nothing is measured nearer: such a point is the origin, in place of a reading


class LaserScan(Protocol):
    """The part of sensor_msgs/LaserScan that is read."""

    angle_min: float
    angle_increment: float
    range_min: float
    range_max: float
    ranges: Sequence[float]


class Range(Protocol):
    """The part of sensor_msgs/Range that is read."""

    field_of_view: float
    min_range: float
    max_range: float
    range: float


class PointCloud2(Protocol):
    """The part of sensor_msgs/PointCloud2 that is read."""

    height: int
    width: int
    fields: Sequence[Any]  # sensor_msgs/PointField: name, offset, datatype, count
    is_bigendian: bool
    point_step: int
    row_step: int
    data: Any


class DepthImage(Protocol):
    """The part of sensor_msgs/Image that is read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


def points_of(msg: LaserScan | PointCloud2) -> FloatArray:
    """Return the points of a scan or cloud: float32 (N, 3), metres, sensor frame, without those that are no reading.

    Raises:
        RangeError: the message contradicts itself.
    """
    reader: Callable[[Any], FloatArray] = scan_points if hasattr(msg, "ranges") else cloud_points
    return reader(msg)


def scan_points(msg: LaserScan) -> FloatArray:
    """Return the points of a scan, z = 0. Raises RangeError for impossible angles or limits."""
    ranges = np.asarray(msg.ranges, np.float64)
    if not math.isfinite(msg.angle_min) or not math.isfinite(msg.angle_increment):
        raise RangeError(f"angles of a scan must be finite, got {msg.angle_min} and steps of {msg.angle_increment}")
    if msg.angle_increment == 0 and ranges.size > 1:
        raise RangeError(f"a scan of {ranges.size} ranges has an angle_increment of 0")
    _check_limits("scan", msg.range_min, msg.range_max)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(ranges) & (ranges >= msg.range_min) & (ranges <= _upper(msg.range_max)) & (ranges > 0)
    angles = msg.angle_min + np.flatnonzero(good) * msg.angle_increment
    x, y = ranges[good] * np.cos(angles), ranges[good] * np.sin(angles)
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.float32)


def range_reading(msg: Range) -> float | None:
    """Return the distance of a Range in metres, None without one. A field of view of 0 is a single beam.

    Raises:
        RangeError: impossible limits, or a field of view outside [0, pi).
    """
    if not 0 <= msg.field_of_view < math.pi:
        raise RangeError(f"the field of view of a Range must be 0 or more and less than pi, got {msg.field_of_view}")
    _check_limits("Range", msg.min_range, msg.max_range)
    inside = math.isfinite(msg.range) and msg.range > 0 and msg.min_range <= msg.range <= _upper(msg.max_range)
    return float(msg.range) if inside else None


def _upper(limit: float) -> float:
    """A sensor's largest range; drivers that do not know it leave it at 0."""
    return limit or math.inf


def _check_limits(what: str, low: float, high: float) -> None:
    if not (0 <= low < math.inf and low <= _upper(high)):  # NaN fails too
        raise RangeError(f"the limits of a {what} must be 0 <= minimum <= maximum, got {low} and {high}")


def cloud_points(msg: PointCloud2) -> FloatArray:
    """Return the points of a cloud without those at its origin; fields other than x, y and z are ignored.

    Raises:
        RangeError: sizes, steps or fields that contradict each other.
    """
    if msg.width * msg.height == 0:
        return np.empty((0, 3), np.float32)
    cloud = cloud_view(msg)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is dropped
        points = np.stack([cloud[name].astype(np.float32).ravel() for name in "xyz"], axis=-1)
        distances = np.sqrt(np.einsum("ni,ni->n", points, points))  # NaN and infinity stay so
    return np.asarray(points[(distances > MIN_RANGE_M) & (distances < np.inf)], np.float32)


def cloud_view(msg: PointCloud2, names: str | Sequence[str] = "xyz") -> NDArray[Any]:
    """Return a view of a cloud's data: structured (H, W) with these fields, every point as it is.

    Raises:
        RangeError: sizes, steps or fields that contradict each other, or a field that is not there.
    """
    row_step = row_bytes(msg.row_step, msg.width * msg.point_step, msg.height, len(msg.data))
    if row_step is None:  # before a type is made of numbers that NumPy may not take
        raise RangeError(
            f"a cloud of {msg.width}x{msg.height} points of {msg.point_step} bytes does not fit into rows of "
            f"{msg.row_step} and {len(msg.data)} bytes"
        )
    dtype, strides = _point_dtype(msg, names), (row_step, msg.point_step)
    view: NDArray[Any] = np.ndarray((msg.height, msg.width), dtype, buffer=memoryview(msg.data), strides=strides)
    return view


def _point_dtype(msg: PointCloud2, names: Sequence[str]) -> np.dtype[Any]:
    fields = {field.name: field for field in msg.fields}
    missing = [name for name in names if name not in fields]
    if missing:
        there = ", ".join(quoted(name) for name in list(fields)[:MAX_NAMED]) or "no fields"
        raise RangeError(f"a cloud without {', '.join(missing)}; it has {there}")
    order = ">" if msg.is_bigendian else "<"
    formats, offsets = [], []
    for name in names:
        field = fields[name]
        kind = DATATYPES.get(field.datatype)
        if kind is None or field.count > 1:
            raise RangeError(f"field {name} of a cloud has datatype {field.datatype}, count {field.count}")
        if not 0 <= field.offset <= msg.point_step - int(kind[1]):
            raise RangeError(f"field {name} at byte {field.offset} does not fit into points of {msg.point_step} bytes")
        formats.append(order + kind)
        offsets.append(field.offset)
    return np.dtype({"names": list(names), "formats": formats, "offsets": offsets, "itemsize": msg.point_step})


# Encoding -> type of a pixel (REP 118; TYPE_ names are OpenCV's).
DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}


def depth_of(msg: DepthImage) -> FloatArray:
    """Read the image of a depth camera: float32 (H, W), metres along its optical axis, NaN where it has none.

    Raises:
        ImageError: as `depth_values`.
    """
    depth = depth_values(msg)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def depth_values(msg: DepthImage) -> FloatArray:
    """Read a depth image as it is, infinite depth and all: a new float32 (H, W).

    16UC1 is millimetres with 0 for none, which becomes NaN; 32FC1 is metres, or has no unit (REP 118).

    Raises:
        ImageError: another encoding, zero size, or a step or data too short for the size.
    """
    kind = DEPTH_ENCODINGS.get(msg.encoding)
    if kind is None:
        raise ImageError(f"depth image of encoding {quoted(msg.encoding)}; known: {', '.join(DEPTH_ENCODINGS)}")
    pixel_bytes = int(kind[1])
    step = row_bytes(msg.step, msg.width * pixel_bytes, msg.height, len(msg.data))
    if msg.width < 1 or msg.height < 1 or step is None:
        raise ImageError(
            f"a {msg.width}x{msg.height} {msg.encoding} depth image does not fit into rows of {msg.step} and "
            f"{len(msg.data)} bytes"
        )
    dtype = np.dtype((">" if msg.is_bigendian else "<") + kind)
    raw: NDArray[Any] = np.ndarray(
        (msg.height, msg.width), dtype, buffer=memoryview(msg.data), strides=(step, pixel_bytes)
    )
    depth: FloatArray = raw.astype(np.float32)
    if kind == "u2":
        depth /= np.float32(MILLIMETRES_PER_METRE)
        depth[raw == 0] = np.nan
    return depth
