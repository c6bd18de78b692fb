"""Readings meet the pixels that look at the same thing, by the renderer's exact depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError, FitRefused, SettingsError
from depth_anything_ros.scale.fit import fit_inverse, fit_scale
from depth_anything_ros.scale.projection import project
from depth_anything_ros.scale.range_samples import compare, compare_image, pairs_at, sample_depth
from depth_anything_ros.scale.transform import SAME_FRAME, Transform
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame
from depth_anything_ros.synthetic.ray_caster import nearest, stack_scenes

SAME_VIEW = Transform.from_xyz_rpy([0, 0, 0, math.pi / 2, -math.pi / 2, 0])
PINHOLE = CameraModel(50.0, 60.0, 31.5, 23.25, 64, 48)
LENSES = {
    "pinhole": PINHOLE,
    "plumb_bob": replace(PINHOLE, distortion_model="plumb_bob", distortion=(-0.12, 0.03, 0.001, -0.002, 0.004)),
    "rational_polynomial": replace(
        PINHOLE,
        distortion_model="rational_polynomial",
        distortion=(0.3, -0.1, 0.001, 0.0005, 0.01, 0.5, -0.05, 0.02),
    ),
    "equidistant": replace(PINHOLE, distortion_model="equidistant", distortion=(0.05, -0.01, 0.003, -0.0005)),
}


@dataclass
class Scan:
    """The fields of sensor_msgs/LaserScan that are read."""

    ranges: Sequence[float]
    angle_min: float
    angle_increment: float
    range_min: float = 0.05
    range_max: float = 30.0


def cone(distance_m: float, field_of_view: float) -> Any:
    return SimpleNamespace(range=distance_m, field_of_view=field_of_view, min_range=0.02, max_range=20.0)


@lru_cache
def view(seed: int, distortion: str = "none") -> tuple[SyntheticCamera, SyntheticFrame]:
    camera = SyntheticCamera(seed, width=320, height=240, distortion=distortion)
    return camera, camera.frame(1.0)


def distances(
    camera: SyntheticCamera, frame: SyntheticFrame, T_camera_sensor: Transform, directions: NDArray[Any]
) -> NDArray[np.float64]:
    """Distance (N,) to the first surface from a sensor, along unit vectors (N, 3) in its frame; exact."""
    rotation = frame.rotation.astype(np.float64) @ T_camera_sensor.rotation
    origin = frame.rotation @ T_camera_sensor.translation + frame.position
    world = torch.as_tensor((directions @ rotation.T).T[:, None], dtype=torch.float32)
    start = torch.as_tensor(origin, dtype=torch.float32)[:, None, None]
    return nearest(stack_scenes([camera.scene]), start, world)[0][0].double().numpy()


def scan_of(camera: SyntheticCamera, frame: SyntheticFrame, T_camera_sensor: Transform, count: int = 360) -> Scan:
    """A scan over all directions of the sensor's plane."""
    angles = -math.pi + np.arange(count) * 2 * math.pi / count
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=-1)
    ranges = distances(camera, frame, T_camera_sensor, directions)
    return Scan(list(ranges), -math.pi, 2 * math.pi / count)


# A scanner 10 cm beside and 15 cm above the camera, level with it or tilted.
MOUNTS = {
    "level": Transform.from_xyz_rpy([0.1, -0.15, 0.02, math.pi / 2, -math.pi / 2, 0]),
    "tilted": Transform.from_xyz_rpy([-0.1, 0.05, 0.0, math.pi / 2 + 0.05, -math.pi / 2 + 0.1, 0.2]),
}


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_a_scan_meets_the_depth_of_the_pixels_it_falls_on(mount: str, distortion: str) -> None:
    camera, frame = view(7, distortion)
    scan = scan_of(camera, frame, MOUNTS[mount])
    pairs = compare(scan, frame.depth, MOUNTS[mount], camera.model)
    assert pairs.measured.size > 20
    off = np.abs(pairs.predicted / pairs.measured - 1)
    assert np.median(off) < 0.01
    assert np.quantile(off, 0.8) < 0.03  # what is hidden from the one and seen by the other remains


@pytest.mark.parametrize("seed", range(6))
def test_a_scan_tells_a_known_scale(seed: int) -> None:
    camera, frame = view(seed)
    scan = scan_of(camera, frame, MOUNTS["level"], count=1440)
    pairs = compare(scan, frame.depth / np.float32(1.3), MOUNTS["level"], camera.model)
    fit = fit_scale(pairs.predicted, pairs.measured)
    assert fit.apply(np.float64(3.0 / 1.3).reshape(1))[0] == pytest.approx(3.0, rel=0.01)


def test_a_scan_tells_the_scale_with_40_percent_wrong_readings() -> None:
    camera, frame = view(7)
    scan = scan_of(camera, frame, MOUNTS["level"], count=1440)
    rng = np.random.default_rng(0)
    ranges = np.array(scan.ranges)
    wrong = rng.permutation(ranges.size)[: int(0.4 * ranges.size)]
    ranges[wrong] = rng.uniform(0.1, 10, wrong.size)
    pairs = compare(replace(scan, ranges=ranges.tolist()), frame.depth * 0.6, MOUNTS["level"], camera.model)
    fit = fit_scale(pairs.predicted, pairs.measured)
    assert pytest.approx(fit.scale * 1.8 + fit.shift_m, rel=0.02) == 3.0


def test_two_scans_make_metres_of_a_relative_model() -> None:
    """One level and one that also sees the floor: walls alone are all about as far."""
    camera, frame = view(7)
    relative = (1 / frame.depth - 0.05) * 7
    mounts = MOUNTS["level"], Transform.from_xyz_rpy([0, 0, 0, 0, -math.pi / 2 + 0.3, math.pi / 2])
    scans = [scan_of(camera, frame, mount, count=1440) for mount in mounts]
    pairs = [compare(s, relative, m, camera.model, "relative") for s, m in zip(scans, mounts, strict=True)]
    fit = fit_inverse(*np.concatenate(pairs, axis=1))
    assert np.median(np.abs(fit.apply(relative) / frame.depth - 1)) < 0.01


# ---- one reading for a cone


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["metric", "relative"])
def test_a_range_meets_the_nearest_thing_in_its_cone(seed: int, kind: Any) -> None:
    camera, frame = view(seed)
    mount = Transform.from_xyz_rpy([0.05, 0.05, 0.0, math.pi / 2, -math.pi / 2, 0])
    field_of_view = 0.35
    rng = np.random.default_rng(0)
    off, around = field_of_view / 2 * np.sqrt(rng.random(4000)), 2 * math.pi * rng.random(4000)
    side = np.sin(off)
    inside = np.stack([np.cos(off), side * np.cos(around), side * np.sin(around)], axis=-1)
    reading = cone(float(distances(camera, frame, mount, inside).min()), field_of_view)
    depth = frame.depth if kind == "metric" else 1 / frame.depth
    [predicted], [measured] = compare(reading, depth, mount, camera.model, kind)
    assert (predicted if kind == "metric" else 1 / predicted) == pytest.approx(measured, rel=0.1)


def test_a_range_before_a_wall_is_exact() -> None:
    camera = CameraModel(200.0, 200.0, 159.5, 119.5, 320, 240)
    wall = np.full((240, 320), 2.0, np.float32)
    [predicted], [measured] = compare(cone(2.0, 0.3), wall, SAME_VIEW, camera)
    assert (predicted, measured) == (2.0, pytest.approx(2.0, rel=2e-3))


@pytest.mark.parametrize("field_of_view", [0.0, math.radians(0.5), math.radians(2)])
def test_a_single_beam_is_paired_with_the_pixel_it_falls_on(field_of_view: float) -> None:
    camera = CameraModel(500.0, 500.0, 319.5, 239.5, 640, 480)
    depth = np.full((480, 640), 4.0, np.float32)
    depth[230:300, 350:420] = 2.0  # what a beam 20 cm to the right of the lens sees 2 m ahead
    beside = Transform.from_xyz_rpy([0.2, 0.1, 0, math.pi / 2, -math.pi / 2, 0])
    [predicted], [measured] = compare(cone(2.0, field_of_view), depth, beside, camera)
    assert (predicted, measured) == (2.0, pytest.approx(2.0, rel=1e-3))
    aside = Transform.from_xyz_rpy([0, 0, 0, math.pi / 2, -math.pi / 2 + 0.8, 0])
    assert compare(cone(2.0, field_of_view), depth, aside, camera).predicted.size == 0


def test_a_range_that_is_not_wholly_seen_or_has_no_reading_is_no_sample() -> None:
    wall = np.full((48, 64), 2.0, np.float32)
    aside = Transform.from_xyz_rpy([0, 0, 0, math.pi / 2, -math.pi / 2 + 0.5, 0])
    assert compare(cone(2.0, 0.4), wall, SAME_VIEW, PINHOLE).predicted.size == 1
    assert compare(cone(2.0, 0.4), wall, aside, PINHOLE).predicted.size == 0
    assert compare(cone(2.0, 2.0), wall, SAME_VIEW, PINHOLE).predicted.size == 0
    assert compare(cone(math.inf, 0.4), wall, SAME_VIEW, PINHOLE).predicted.size == 0
    assert compare(cone(2.0, 0.4), np.full_like(wall, np.nan), SAME_VIEW, PINHOLE).predicted.size == 0


# ---- depth cameras


def test_a_depth_image_of_the_same_camera_may_have_another_size() -> None:
    camera, frame = view(3)
    reference = frame.depth[::2, ::2].copy()
    reference[:20] = np.nan
    pairs = compare_image(reference, frame.depth * 0.5, camera.model)
    assert fit_scale(*pairs).scale == pytest.approx(2.0, rel=0.01)
    with pytest.raises(CameraError, match="not the same picture"):
        compare_image(reference[:, :100], frame.depth, camera.model)


def test_a_depth_camera_beside_the_camera_is_compared_through_its_transform() -> None:
    camera, frame = view(3)
    shift = Transform.from_xyz_rpy([0.08, 0.0, 0.0, 0, 0, 0])
    rays = camera.model.back_project(np.ones_like(frame.depth)).reshape(-1, 3).astype(np.float64)
    reference = distances(camera, frame, shift, rays).reshape(240, 320).astype(np.float32)
    given_camera = {"reference_camera": camera.model, "T_camera_reference": shift}
    pairs = compare_image(reference, frame.depth, camera.model, **given_camera)  # type: ignore[arg-type]
    assert np.quantile(np.abs(pairs.predicted / pairs.measured - 1), 0.8) < 0.01
    with pytest.raises(CameraError, match="of another size"):
        compare_image(reference[::2], frame.depth, camera.model, **given_camera)  # type: ignore[arg-type]


# ---- projecting


@pytest.mark.parametrize("lens", LENSES)
def test_points_fall_on_the_pixels_they_were_back_projected_from(lens: str) -> None:
    camera = LENSES[lens]
    depth = np.random.default_rng(0).uniform(1, 5, (48, 64)).astype(np.float32)
    points = camera.back_project(depth).reshape(-1, 3)
    samples = project(points, camera)
    assert samples.u.size == 48 * 64
    u, v = np.meshgrid(np.arange(64), np.arange(48))
    np.testing.assert_allclose(samples.u, u.ravel(), atol=0.11)
    np.testing.assert_allclose(samples.v, v.ravel(), atol=0.11)
    np.testing.assert_allclose(samples.depth_m, depth.ravel())


def test_points_that_are_not_seen_are_left_out() -> None:
    unseen = [
        [0, 0, -1],
        [0, 0, 0],
        [0, 0, 0.01],
        [5, 0, 1],
        [0, -5, 1],
        [np.nan, 0, 1],
        [np.inf, 0, 1],
        [1, 1, np.inf],
    ]
    assert project(np.array(unseen), PINHOLE).u.size == 0
    assert project(np.empty((0, 3)), LENSES["plumb_bob"]).u.size == 0


@pytest.mark.parametrize("lens", LENSES)
def test_directions_outside_the_picture_are_not_folded_back_into_it(lens: str) -> None:
    """A strong barrel polynomial sends directions far off the axis back to the middle."""
    camera = LENSES[lens]
    if lens == "plumb_bob":
        camera = replace(camera, distortion=(-0.3, 0.0, 0.0, 0.0, 0.0))
    angles = np.radians(np.arange(0, 89.9, 0.25))
    x = np.tan(angles)
    points = np.stack([x, np.zeros_like(x), np.ones_like(x)], axis=-1)
    seen = project(points, camera)
    assert 0 < seen.u.size < x.size
    np.testing.assert_allclose(seen.u, np.sort(seen.u))  # further off is further right, never back


# ---- sampling


def test_the_nearest_pixel_is_taken_and_missing_depth_is_nan() -> None:
    depth = np.full((4, 5), 2.0, np.float32)
    depth[1, 2] = 2.1
    depth[3, 4] = np.nan
    depth[0, 0] = 0.0
    u, v = np.array([2.4, 1.6, 2.0, 4.0, 0.0]), np.array([1.0, 0.6, 2.6, 3.0, 0.0])
    np.testing.assert_allclose(sample_depth(depth, u, v), [2.1, 2.1, 2.0, np.nan, np.nan])


def test_samples_at_edges_of_depth_are_dropped() -> None:
    depth = np.full((6, 10), 2.0, np.float32)
    depth[:, 5:] = 3.0
    u, v = np.arange(10.0), np.full(10, 3.0)
    assert np.flatnonzero(np.isnan(sample_depth(depth, u, v))).tolist() == [4, 5]
    assert np.flatnonzero(np.isnan(sample_depth(1 / depth, u, v, "relative"))).tolist() == [4, 5]
    slope = np.tile(2.0 * 1.03 ** np.arange(10), (6, 1))
    assert np.isfinite(sample_depth(slope, u, v)).all()


def test_depth_of_another_size_than_the_cameras_is_an_error() -> None:
    with pytest.raises(CameraError, match=r"depth is \(4, 5\)"):
        compare(Scan([1.0], 0.0, 0.0), np.ones((4, 5)), SAME_VIEW, PINHOLE)


def test_a_scan_that_sees_nothing_in_the_picture_gives_no_fit() -> None:
    behind = Transform.from_xyz_rpy([0, 0, 0, math.pi / 2, math.pi / 2, 0])
    pairs = compare(Scan([1.0] * 20, -0.1, 0.01), np.ones((48, 64)), behind, PINHOLE)
    with pytest.raises(FitRefused, match="only 0 samples"):
        fit_scale(*pairs)
    assert pairs_at(project(np.empty((0, 3)), PINHOLE), np.ones((48, 64))).measured.size == 0


# ---- transforms


def test_a_sensor_that_looks_with_the_camera_has_its_axes_turned() -> None:
    np.testing.assert_allclose(SAME_VIEW.apply(np.eye(3)), [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)
    np.testing.assert_array_equal(SAME_FRAME.apply(np.eye(3)), np.eye(3))


angles = st.floats(-math.pi, math.pi)


@given(roll=angles, pitch=angles, yaw=angles)
def test_angles_and_quaternions_agree(roll: float, pitch: float, yaw: float) -> None:
    """The quaternion of fixed-axis roll, pitch and yaw is the product of the three."""

    def times(a: Sequence[float], b: Sequence[float]) -> list[float]:
        (ax, ay, az, aw), (bx, by, bz, bw) = a, b
        return [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]

    parts = [[0.0, 0.0, 0.0, math.cos(angle / 2)] for angle in (roll, pitch, yaw)]
    for axis, angle in enumerate((roll, pitch, yaw)):
        parts[axis][axis] = math.sin(angle / 2)
    quaternion = [3.0 * number for number in times(parts[2], times(parts[1], parts[0]))]
    by_quaternion = Transform.from_quaternion([1, 2, 3], quaternion)
    by_angles = Transform.from_xyz_rpy([1, 2, 3, roll, pitch, yaw])
    np.testing.assert_allclose(by_quaternion.rotation, by_angles.rotation, atol=1e-9)
    np.testing.assert_array_equal(by_quaternion.translation, by_angles.translation)


@pytest.mark.parametrize("numbers", [[0.0] * 5, [0.0] * 7, [0, 0, 0, 0, 0, math.nan], [math.inf, 0, 0, 0, 0, 0]])
def test_extrinsics_must_be_six_finite_numbers(numbers: list[float]) -> None:
    with pytest.raises(SettingsError, match="six finite numbers"):
        Transform.from_xyz_rpy(numbers)


@pytest.mark.parametrize("xyzw", [[0.0] * 4, [math.nan, 0, 0, 1], [0, 0, 1], [math.inf, 0, 0, 1]])
def test_a_quaternion_that_is_none_is_refused(xyzw: list[float]) -> None:
    with pytest.raises(SettingsError, match="quaternion"):
        Transform.from_quaternion([0, 0, 0], xyzw)
