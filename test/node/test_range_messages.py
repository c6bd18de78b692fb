"""Real LaserScan, Range, PointCloud2, Image and Transform messages, sound and hostile."""

from __future__ import annotations

import array
import math
import struct
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Vector3
from geometry_msgs.msg import Transform as TransformMessage
from harness import cloud_message, image_message, new_header
from numpy.typing import NDArray
from sensor_msgs.msg import Image, LaserScan, PointCloud2, PointField, Range

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import DepthAnythingError, ImageError, RangeError
from depth_anything_ros.messages.ranges import depth_of, points_of, range_reading
from depth_anything_ros.node.conversions import depth_to_image
from depth_anything_ros.scale.fit import fit_scale
from depth_anything_ros.scale.range_samples import compare
from depth_anything_ros.scale.transform import SAME_FRAME, Transform

POINTS = np.random.default_rng(0).uniform(-5, 5, (6, 4, 3)).astype(np.float32)


def scan(ranges: list[float], **changes: Any) -> LaserScan:
    fields: dict[str, Any] = {"angle_min": -math.pi / 2, "angle_increment": math.pi / 2, "range_min": 0.1}
    return LaserScan(header=new_header(), ranges=ranges, **{**fields, "range_max": 10.0, **changes})


def distance(reading: float, **changes: Any) -> Range:
    fields: dict[str, Any] = {"field_of_view": 0.4, "min_range": 0.1, "max_range": 4.0}
    return Range(header=new_header(), range=reading, **{**fields, **changes})


def cloud(
    points: NDArray[Any], *, big: bool = False, double: bool = False, offset: int = 0, pad: int = 0
) -> PointCloud2:
    """A cloud whose points begin at `offset`, z first, with an unused field behind and `pad` bytes after each row."""
    height, width = points.shape[:2]
    letter, size, datatype = ("d", 8, PointField.FLOAT64) if double else ("f", 4, PointField.FLOAT32)
    step = offset + 3 * size + 2
    data = bytearray()
    for row in points:
        for x, y, z in row:
            data += b"\xab" * offset + struct.pack(f"{'>' if big else '<'}3{letter}", z, x, y) + b"\xcd\xcd"
        data += b"\xef" * pad
    names = {"intensity": (0, PointField.UINT8), "z": (offset, datatype)}
    names |= {"x": (offset + size, datatype), "y": (offset + 2 * size, datatype)}
    fields = [PointField(name=n, offset=o, datatype=d, count=1) for n, (o, d) in names.items()]
    msg = PointCloud2(height=height, width=width, fields=fields, is_bigendian=big, point_step=step)
    msg.row_step, msg.data = step * width + pad, array.array("B", bytes(data))
    return msg


# ---- LaserScan


def test_a_scan_becomes_points_in_its_plane() -> None:
    points = points_of(scan([1.0, 2.0, 3.0]))
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, [[0, -1, 0], [2, 0, 0], [0, 3, 0]], atol=1e-6)


def test_a_scan_that_turns_the_other_way_is_read_as_it_says() -> None:
    points = points_of(scan([1.0, 2.0, 3.0], angle_min=math.pi / 2, angle_increment=-math.pi / 2))
    np.testing.assert_allclose(points, [[0, 1, 0], [2, 0, 0], [0, -3, 0]], atol=1e-6)


def test_readings_outside_the_limits_or_not_finite_are_none() -> None:
    ranges = [math.nan, math.inf, -math.inf, 0.05, 10.5, -1.0, 0.0, 5.0]
    points = points_of(scan(ranges, angle_min=0.0, angle_increment=0.1))
    assert points.shape == (1, 3)
    np.testing.assert_allclose(points, [[5 * math.cos(0.7), 5 * math.sin(0.7), 0]], rtol=1e-5)
    assert points_of(scan([])).shape == (0, 3)
    assert points_of(scan([50.0], range_max=math.inf)).shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"angle_increment": 0.0}, "angle_increment of 0"),
        ({"angle_increment": math.nan}, "must be finite"),
        ({"angle_min": math.inf}, "must be finite"),
        ({"range_min": -1.0}, "limits of a scan"),
        ({"range_min": math.nan}, "limits of a scan"),
        ({"range_max": math.nan}, "limits of a scan"),
        ({"range_min": 5.0, "range_max": 1.0}, "limits of a scan"),
    ],
)
def test_a_scan_that_contradicts_itself_is_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(RangeError, match=words):
        points_of(scan([1.0, 2.0], **changes))


# ---- Range


@pytest.mark.parametrize(
    ("reading", "expected"),
    [(2.0, 2.0), (4.0, 4.0), (0.05, None), (4.5, None), (math.nan, None), (math.inf, None), (-math.inf, None)],
)
def test_a_range_within_its_limits_is_a_reading(reading: float, expected: float | None) -> None:
    assert range_reading(distance(reading)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("field_of_view", -0.1),
        ("field_of_view", math.nan),
        ("field_of_view", 4.0),
        ("min_range", 5.0),
        ("max_range", math.nan),
    ],
)
def test_a_range_that_contradicts_itself_is_refused(name: str, value: float) -> None:
    with pytest.raises(RangeError):
        range_reading(distance(1.0, **{name: value}))


@pytest.mark.parametrize("field_of_view", [0.0, math.radians(0.5), math.radians(2)])
@pytest.mark.parametrize("max_range", [0.0, math.inf])
def test_a_single_beam_and_an_unknown_maximum_are_usual(field_of_view: float, max_range: float) -> None:
    changes = {"field_of_view": field_of_view, "min_range": 0.0, "max_range": max_range}
    assert range_reading(distance(3.0, **changes)) == 3.0
    assert range_reading(distance(0.0, **changes)) is None
    assert range_reading(distance(-1.0, **changes)) is None


def test_a_scan_that_leaves_its_maximum_at_0_has_none() -> None:
    assert points_of(scan([1.0, 50.0, 0.0], range_max=0.0)).shape == (2, 3)


# ---- PointCloud2


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("offset", "pad"), [(0, 0), (3, 0), (16, 5)])
def test_clouds_of_any_layout_are_read(big: bool, double: bool, offset: int, pad: int) -> None:
    points = points_of(cloud(POINTS, big=big, double=double, offset=offset, pad=pad))
    np.testing.assert_array_equal(points, POINTS.reshape(-1, 3))


def test_our_own_clouds_are_read_without_what_is_not_finite() -> None:
    depth = np.full((6, 4), 2.0, np.float32)
    depth[0, 0], depth[1, 1] = np.nan, np.inf
    camera = CameraModel(5.0, 5.0, 1.5, 2.5, 4, 6)
    msg = cloud_message(depth, np.zeros((6, 4, 3), np.uint8), new_header(), camera)
    assert len(points_of(msg)) == 22
    assert points_of(cloud(POINTS[:0])).shape == (0, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"point_step": 13}, "does not fit into points of 13 bytes"),
        ({"point_step": 0}, "does not fit into points of 0 bytes"),
        ({"point_step": 1000}, "does not fit into rows"),
        ({"point_step": 2**31}, "does not fit into rows"),
        ({"point_step": 2**32 - 1}, "does not fit into rows"),
        ({"point_step": 2**31, "row_step": 0}, "does not fit into rows"),
        ({"row_step": 0, "height": 5}, "does not fit into rows"),
        ({"row_step": 8}, "does not fit into rows"),
        ({"row_step": 2**32 - 1}, "does not fit into rows"),
        ({"height": 2**32 - 1}, "does not fit into rows"),
        ({"width": 2**32 - 1}, "does not fit into rows"),
        ({"data": array.array("B", [0] * 7)}, "does not fit into rows"),
        ({"fields": []}, "without x, y, z; it has no fields"),
        ({"fields": [PointField(name="x", datatype=7, count=1)]}, "without y, z; it has 'x'"),
        ({"fields": [PointField(name=n, datatype=9, count=1) for n in "xyz"]}, "datatype 9"),
        ({"fields": [PointField(name=n, datatype=7, count=3) for n in "xyz"]}, "count 3"),
        ({"fields": [PointField(name=n, datatype=7, count=1, offset=2**32 - 1) for n in "xyz"]}, "does not fit"),
    ],
)
def test_a_cloud_that_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    msg = cloud(POINTS, offset=2)
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(RangeError, match=words):
        points_of(msg)


@pytest.mark.parametrize("row_step", [0, POINTS.shape[0] * POINTS.shape[1] * 16])
def test_rows_of_a_cloud_are_found_where_its_size_leaves_no_doubt(row_step: int) -> None:
    msg = cloud(POINTS, offset=2)
    assert msg.point_step == 16
    msg.row_step = row_step
    np.testing.assert_array_equal(points_of(msg), POINTS.reshape(-1, 3))


@pytest.mark.parametrize("none", [0.0, -0.0, 1e-6, math.nan, math.inf, -math.inf])
def test_points_at_the_sensors_origin_are_no_readings(none: float) -> None:
    points = np.full((2, 3, 3), none, np.float32)
    points[0, 1] = [0.0, 0.0, 2.0]
    points[1, 2] = [-3.0, 0.0, 0.0]
    np.testing.assert_array_equal(points_of(cloud(points)), [[0, 0, 2], [-3, 0, 0]])


def test_a_lidars_missing_returns_do_not_become_the_scale() -> None:
    """Moved into the camera's frame, (0, 0, 0) is where the lidar is: a point in view, at one depth."""
    camera = CameraModel(50.0, 50.0, 31.5, 23.5, 64, 48)
    truth = np.tile(np.linspace(2, 6, 64, dtype=np.float32), (48, 1))
    mount = Transform(np.eye(3), np.array([0.0, 0.05, 0.9]))  # ahead of the camera
    points = camera.back_project(truth).astype(np.float64) - mount.translation
    points.reshape(-1, 3)[np.random.default_rng(0).random(48 * 64) < 0.7] = 0.0
    pairs = compare(cloud(points.astype(np.float32)), truth / 2, mount, camera)
    assert pairs.measured.min() > 1.9
    assert fit_scale(*pairs).numbers == pytest.approx((2.0, 0.0), abs=1e-3)


def test_doubles_beyond_single_precision_are_no_points() -> None:
    points = np.full((1, 3, 3), 1.0)
    points[0, 1] = 1e300
    assert len(points_of(cloud(points, double=True))) == 2


def test_a_cloud_in_the_cameras_frame_tells_the_scale() -> None:
    camera = CameraModel(50.0, 50.0, 31.5, 23.5, 64, 48)
    depth = np.tile(np.linspace(1, 5, 64, dtype=np.float32), (48, 1))
    msg = cloud_message(depth, np.zeros((48, 64, 3), np.uint8), new_header(), camera)
    fit = fit_scale(*compare(msg, depth / 2, SAME_FRAME, camera))
    assert fit.numbers == pytest.approx((2.0, 0.0), abs=1e-4)


# ---- depth images


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_depth_images_are_read_in_metres_with_nan_for_none(encoding: str) -> None:
    depth = np.array([[1.5, 2.25, np.nan], [0.5, 7.0, 3.0]], np.float32)
    np.testing.assert_array_equal(depth_of(depth_to_image(depth, new_header(), encoding)), depth)


def test_depth_images_of_the_other_byte_order_and_with_padding_are_read() -> None:
    rows = np.zeros((2, 5), ">u2")
    rows[:, :3] = [[1500, 0, 2000], [250, 65535, 1]]
    msg = Image(height=2, width=3, encoding="16UC1", is_bigendian=1, step=10, data=array.array("B", rows.tobytes()))
    np.testing.assert_allclose(depth_of(msg), [[1.5, np.nan, 2.0], [0.25, 65.535, 0.001]])


def test_a_depth_image_without_a_step_is_read_where_its_size_leaves_no_doubt() -> None:
    msg = image_message(np.ones((4, 5), np.float32), "32FC1")
    msg.step = 0
    np.testing.assert_array_equal(depth_of(msg), np.ones((4, 5)))


def test_infinite_and_negative_depth_is_none() -> None:
    raw = np.array([[np.inf, -np.inf, -1.0, 0.0, 2.0]], np.float32)
    np.testing.assert_array_equal(depth_of(image_message(raw, "32FC1")), [[np.nan] * 4 + [2.0]])


@pytest.mark.parametrize(
    "changes", [{"encoding": "bgr8"}, {"step": 3}, {"height": 2**32 - 1}, {"width": 0}, {"step": 2**32 - 1}]
)
def test_a_depth_image_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    msg = image_message(np.ones((4, 5), np.float32), "32FC1")
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError):
        depth_of(msg)


# ---- all of them


def test_a_transform_message_is_read_like_any_transform() -> None:
    half = math.sqrt(0.5)
    msg = TransformMessage(translation=Vector3(x=1.0, y=2.0, z=3.0), rotation=Quaternion(x=0.0, y=0.0, z=half, w=half))
    np.testing.assert_allclose(
        Transform.from_message(msg).apply(np.eye(3)), [[1, 3, 3], [0, 2, 3], [1, 2, 4]], atol=1e-9
    )
    with pytest.raises(DepthAnythingError):
        Transform.from_message(TransformMessage(rotation=Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)))


def test_messages_as_they_are_made_are_no_crash() -> None:
    camera = CameraModel(50.0, 50.0, 31.5, 23.5, 64, 48)
    depth = np.ones((48, 64), np.float32)
    for msg in (LaserScan(), PointCloud2(), Range()):
        assert compare(msg, depth, SAME_FRAME, camera).measured.size == 0
    with pytest.raises(ImageError):
        depth_of(Image())
