"""Synthetic cameras: the same from the same seed, within the stated ranges, and true to their CameraInfo."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.synthetic.camera import DISTORTIONS, SyntheticCamera
from depth_anything_ros.synthetic.scenes import OBJECTS, RANGES, draw_scene

SEEDS = range(40)


def small_camera(seed: int, distortion: str = "none") -> SyntheticCamera:
    return SyntheticCamera(seed, width=160, height=120, distortion=distortion)


def test_the_same_seed_and_time_give_the_same_picture() -> None:
    one, two = small_camera(3).frame(1.5), small_camera(3).frame(1.5)
    np.testing.assert_array_equal(one.image_bgr, two.image_bgr)
    np.testing.assert_array_equal(one.depth, two.depth)


def test_other_seeds_and_other_times_give_other_pictures() -> None:
    camera = small_camera(3)
    pictures = [camera.frame(0.0), camera.frame(1.0), small_camera(4).frame(0.0)]
    means = [np.abs(a.depth - b.depth).mean() for a, b in zip(pictures, pictures[1:] + pictures[:1], strict=True)]
    assert min(means) > 0.05


def test_pictures_have_the_stated_types_and_fill_their_range() -> None:
    frame = small_camera(1).frame()
    assert frame.image_bgr.dtype == np.uint8
    assert frame.image_bgr.shape == (120, 160, 3)
    assert frame.depth.dtype == np.float32
    assert frame.depth.shape == (120, 160)
    assert np.isfinite(frame.depth).all()
    assert frame.image_bgr.std() > 15
    assert len(np.unique(frame.image_bgr)) > 50


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_back_projected_truth_lies_in_the_room(distortion: str) -> None:
    """The floor is at z = 0 and the walls are where the scene has them, by CameraModel's own rays."""
    camera = small_camera(11, distortion=distortion)
    frame = camera.frame(3.0)
    points = camera.model.back_project(frame.depth) @ frame.rotation.T + frame.position
    low, high = points.reshape(-1, 3).min(0), points.reshape(-1, 3).max(0)
    assert (low > -1e-3).all()
    assert (high < camera.scene.size + 1e-3).all()
    assert low[2] == pytest.approx(0.0, abs=1e-3)
    on_a_wall = np.isclose(points[..., :2], camera.scene.size[:2], atol=2e-3) | np.isclose(
        points[..., :2], 0, atol=2e-3
    )
    assert on_a_wall.any(axis=-1).mean() > 0.1


def test_distortion_bends_the_picture_and_not_the_world() -> None:
    plain, bent = (small_camera(2, distortion=name) for name in ("none", "plumb_bob"))
    assert (bent.model.fx, bent.model.cx) == (plain.model.fx, plain.model.cx)
    assert np.abs(bent.frame().depth - plain.frame().depth).max() > 0.05
    middle = (60, 80)
    assert bent.frame().depth[middle] == pytest.approx(plain.frame().depth[middle], rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_cameras_keep_to_the_stated_ranges_and_off_what_stands_around(seed: int) -> None:
    camera = small_camera(seed)
    assert RANGES.focal_ratio.low <= camera.model.fx / 160 <= RANGES.focal_ratio.high
    assert RANGES.camera_height_m.low <= camera.way.height_m <= RANGES.camera_height_m.high
    assert RANGES.pitch_deg.low <= math.degrees(camera.way.pitch_rad) <= RANGES.pitch_deg.high
    lengths = camera.scene.size[:2]
    assert ((RANGES.room_m.low <= lengths) & (lengths <= RANGES.room_m.high)).all()
    present = camera.scene.centers[:, 2] > 0
    reach = np.hypot(camera.scene.halves[:, 0], camera.scene.halves[:, 1])
    for time_s in np.arange(0.0, 120.0, 0.5):
        position, rotation = camera.way.pose(time_s)
        off = np.hypot(*(camera.scene.centers[:, :2] - position[:2]).T) - reach
        assert off[present].min() > RANGES.clearance_m
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(rotation) == pytest.approx(1.0, abs=1e-5)


def test_the_camera_moves_smoothly() -> None:
    for seed in SEEDS:
        way = small_camera(seed).way
        poses = [way.pose(time_s) for time_s in np.arange(0.0, 20.0, 0.1)]
        steps = [np.linalg.norm(b[0] - a[0]) for a, b in pairwise(poses)]
        turns = [np.arccos(np.clip((a[1][:, 2] * b[1][:, 2]).sum(), -1, 1)) for a, b in pairwise(poses)]
        assert 0 < max(steps) < 0.1  # metres in a tenth of a second
        assert 0 < max(turns) < 0.1


def test_objects_stand_on_the_floor_inside_the_room_and_apart() -> None:
    counts = set()
    for seed in SEEDS:
        scene = draw_scene(np.random.default_rng(seed))
        there = scene.centers[:, 2] > 0
        counts.add(int(there.sum()))
        centers, halves = scene.centers[there], scene.halves[there]
        np.testing.assert_allclose(centers[:, 2], halves[:, 2], rtol=1e-6)
        reach = np.hypot(halves[:, 0], halves[:, 1])[:, None]
        assert ((centers[:, :2] > reach - 1e-5) & (centers[:, :2] < scene.size[:2] - reach + 1e-5)).all()
        gaps = np.linalg.norm(centers[:, None, :2] - centers[None, :, :2], axis=-1) - reach - reach.T
        assert gaps[~np.eye(len(centers), dtype=bool)].min() > 0
    assert len(counts) > 1
    assert max(counts) <= OBJECTS


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="must not be negative, got -1"):
        SyntheticCamera(-1)
    with pytest.raises(SettingsError, match="unknown distortion 'fisheye'; known: none, plumb_bob"):
        SyntheticCamera(distortion="fisheye")
    with pytest.raises(SettingsError, match="at least one pixel, got 0x480"):
        SyntheticCamera(width=0)
