"""Files of depth and points, read back by small readers of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from file_readers import read_pcd, read_ply, read_png
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stand_in import stand_in_image

from depth_anything_ros.errors import InputError
from depth_anything_ros.io.formats import colorize, depth_to_uint16, encode_pcd, encode_ply, encode_png


def cloud() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points (6, 5, 3) of which three are missing, and their colours."""
    points = np.random.default_rng(1).normal(0, 3, (6, 5, 3)).astype(np.float32)
    points[0, 0] = math.nan
    points[2, 3, 1] = math.inf
    points[5, 4, 2] = -math.inf
    return points, stand_in_image(6, 5, seed=1)


def test_ply_holds_the_finite_points_in_order_with_their_colours() -> None:
    points, colors = cloud()
    finite = np.isfinite(points).all(axis=-1)
    vertices = read_ply(encode_ply(points, colors))
    assert vertices.dtype.names == ("x", "y", "z", "red", "green", "blue")
    assert len(vertices) == 27
    np.testing.assert_array_equal(np.stack([vertices[name] for name in "xyz"], axis=-1), points[finite])
    bgr = np.stack([vertices[name] for name in ("blue", "green", "red")], axis=-1)
    np.testing.assert_array_equal(bgr, colors[finite])


def test_pcd_holds_the_finite_points_in_order_with_packed_colours() -> None:
    points, colors = cloud()
    finite = np.isfinite(points).all(axis=-1)
    header, table = read_pcd(encode_pcd(points, colors))
    assert header["FIELDS"] == "x y z rgb"
    np.testing.assert_array_equal(table[:, :3], points[finite])
    packed = np.ascontiguousarray(table[:, 3]).view("<u4")
    np.testing.assert_array_equal(np.stack([packed & 255, packed >> 8 & 255, packed >> 16], axis=-1), colors[finite])


def test_clouds_without_colour_have_coordinates_only() -> None:
    points, _ = cloud()
    finite = np.isfinite(points).all(axis=-1)
    assert read_ply(encode_ply(points)).dtype.names == ("x", "y", "z")
    header, table = read_pcd(encode_pcd(points))
    assert header["FIELDS"] == "x y z"
    np.testing.assert_array_equal(table, points[finite])


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((4, 3), math.nan)], ids=["none", "none finite"])
def test_empty_cloud_is_a_sound_file(points: NDArray[np.float64]) -> None:
    assert len(read_ply(encode_ply(points))) == 0
    assert len(read_pcd(encode_pcd(points))[1]) == 0


def test_points_of_doubles_and_strided_views_are_written_as_floats() -> None:
    points = np.arange(48, dtype=np.float64).reshape(4, 4, 3)[::2, ::-1]
    np.testing.assert_array_equal(read_pcd(encode_pcd(points))[1], points.reshape(-1, 3))


# ---- pictures


@pytest.mark.parametrize(
    "image",
    [
        np.arange(35, dtype=np.uint8).reshape(5, 7),
        np.arange(35, dtype=np.uint16).reshape(5, 7) * 1801,
        np.array([[0, 65535]], np.uint16),
        stand_in_image(9, 13, seed=2)[..., 0],
    ],
    ids=["8 bit", "16 bit", "extremes", "picture"],
)
def test_png_of_one_channel_is_read_back_bit_by_bit(image: NDArray[Any]) -> None:
    read = read_png(encode_png(image))
    assert read.dtype.itemsize == image.dtype.itemsize
    np.testing.assert_array_equal(read, image)


def test_png_of_a_colour_picture_holds_rgb() -> None:
    image = stand_in_image(9, 13, seed=2)
    np.testing.assert_array_equal(read_png(encode_png(image))[..., ::-1], image)


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2), np.complex64), np.zeros((0, 4), np.uint8), np.zeros((2, 2, 7), np.uint8)]
)
def test_array_that_no_png_holds_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="no PNG holds a"):
        encode_png(image)


# ---- depth as numbers


def test_depth_becomes_rounded_millimetres() -> None:
    depth = np.array([[0.0, 0.0004, 0.0006, 1.2344, 1.2346, 65.535]], np.float32)
    assert depth_to_uint16(depth).tolist() == [[0, 0, 1, 1234, 1235, 65535]]
    assert depth_to_uint16(depth).dtype == np.uint16


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf, -1.0, 65.6, 1e30, 3e38, -3e38])
def test_depth_without_a_millimetre_value_becomes_zero(missing: float) -> None:
    assert depth_to_uint16(np.array([missing, 2.0], np.float32)).tolist() == [0, 2000]
    assert depth_to_uint16(np.array([missing, 2.0], np.float64)).tolist() == [0, 2000]


@given(depth=st.floats(0, 65.5), scale=st.sampled_from([100.0, 256.0, 1000.0]))
def test_uint16_depth_is_off_by_half_a_step_at_most(depth: float, scale: float) -> None:
    [value] = depth_to_uint16(np.array([depth], np.float32), scale)
    assert abs(value / scale - depth) <= 0.5 / scale + 1e-5


# ---- colours


def test_near_is_red_far_is_blue_and_missing_is_black() -> None:
    [[near, far, beyond, missing]] = colorize(np.array([[0.1, 10.0, math.inf, math.nan]], np.float32), 0.0, 10.0)
    assert near[2] > near[0]  # BGR
    assert far[0] > far[2]
    assert (beyond == far).all()
    assert (missing == 0).all()


def test_relative_depth_takes_its_range_the_other_way_round() -> None:
    values = np.linspace(0, 10, 7, dtype=np.float32)[None]
    np.testing.assert_array_equal(colorize(values, 10.0, 0.0), colorize(values[:, ::-1], 0.0, 10.0))


def test_the_colour_of_a_depth_does_not_depend_on_the_rest_of_the_picture() -> None:
    alone = colorize(np.array([[3.0]], np.float32), 0.0, 10.0)
    np.testing.assert_array_equal(colorize(np.array([[3.0, 9.9, 0.2]], np.float32), 0.0, 10.0)[:, :1], alone)


def test_a_range_without_width_still_gives_a_picture() -> None:
    assert colorize(np.full((2, 3), 4.0, np.float32), 4.0, 4.0).shape == (2, 3, 3)
