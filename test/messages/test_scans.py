"""Scans say what a laser scanner at the camera would: true walls, through lenses, and where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.scans import Scan, ScanBand, body_frame, scan_of
from depth_anything_ros.scale.ground_plane import down_direction
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame
from depth_anything_ros.synthetic.ray_caster import nearest, stack_scenes

LEVEL = CameraModel(60.0, 60.0, 39.5, 29.5, 80, 60)
FISHEYE = CameraModel(30.0, 30.0, 39.5, 29.5, 80, 60, "equidistant", (0.01, 0.0, 0.0, 0.0))
HEIGHT_M = 0.5


def down_of(pitch_rad: float, roll_rad: float = 0.0) -> tuple[float, float, float]:
    x, y, z = down_direction(pitch_rad, roll_rad).tolist()
    return x, y, z


def beams(scan: Scan) -> NDArray[np.float64]:
    """Direction of every beam in radians, positive to the left."""
    return np.asarray(scan.angle_min_rad + scan.angle_increment_rad * np.arange(len(scan.ranges)), np.float64)


def true_ranges(camera: SyntheticCamera, frame: SyntheticFrame, angles: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a laser scanner at the camera's place, level, would measure in the rendered room."""
    ahead = frame.rotation[:, 2]
    heading = math.atan2(ahead[1], ahead[0]) + angles
    direction = np.stack([np.cos(heading), np.sin(heading), np.full_like(heading, 1e-9)]).astype(np.float32)
    origin = torch.from_numpy(frame.position)[:, None, None]
    distance, _ = nearest(stack_scenes([camera.scene]), origin, torch.from_numpy(direction)[:, None])
    return np.asarray(distance[0])


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
@pytest.mark.parametrize("seed", [0, 3, 7])
def test_a_scan_of_rows_measures_the_true_walls(seed: int, distortion: str) -> None:
    camera = SyntheticCamera(seed, distortion=distortion)
    frame = camera.frame(1.0)
    band = ScanBand(down_of(camera.way.pitch_rad), rows=2)
    scan = scan_of(frame.depth, camera.model, band, 0.0, 20.0)
    off = np.abs(scan.ranges / true_ranges(camera, frame, beams(scan)) - 1)
    assert np.isfinite(scan.ranges).all()  # no beam inside the view is without a pixel
    assert np.quantile(off, 0.95) < 0.01  # the others are on the edges of furniture
    view_rad = 2 * math.atan(camera.model.width / 2 / camera.model.fx)
    assert scan.angle_max_rad - scan.angle_min_rad == pytest.approx(view_rad, rel=0.1)


def test_a_scan_of_heights_sees_what_the_horizon_misses_and_no_floor() -> None:
    camera = SyntheticCamera(3)
    frame = camera.frame(1.0)
    heights_m = (0.1, 0.5)
    band = ScanBand(down_of(camera.way.pitch_rad), heights_m=heights_m, camera_height_m=float(frame.position[2]))
    scan = scan_of(frame.depth, camera.model, band, 0.0, 20.0)
    points = camera.model.back_project(frame.depth) @ frame.rotation.T + frame.position
    inside = (points[..., 2] >= heights_m[0]) & (points[..., 2] <= heights_m[1])
    away = points[..., :2] - frame.position[:2]
    assert np.nanmin(scan.ranges) == pytest.approx(np.hypot(*away[inside].T).min(), rel=1e-4)
    ahead = frame.rotation[:2, 2]
    left = np.arctan2(ahead[0] * away[..., 1] - ahead[1] * away[..., 0], away @ ahead)
    beam = np.rint((left - scan.angle_min_rad) / scan.angle_increment_rad).astype(int)
    for index in range(5, len(scan.ranges) - 5, 40):
        seen = np.hypot(*away[inside & (beam == index)].T)
        expected = seen.min() if seen.size else np.nan
        np.testing.assert_allclose(scan.ranges[index], expected, rtol=1e-4)


@pytest.mark.parametrize("camera", [LEVEL, FISHEYE], ids=["pinhole", "fisheye"])
def test_the_beams_of_a_wall_lie_on_the_wall(camera: CameraModel) -> None:
    scan = scan_of(np.full((60, 80), 2.0, np.float32), camera, ScanBand(rows=1), 0.0, 100.0)
    ahead = scan.ranges * np.cos(beams(scan))
    step = scan.angle_increment_rad / 2  # a pixel is up to half a beam away from its beam
    tolerance = 2.0 * np.tan(np.minimum(np.abs(beams(scan)) + step, 1.55)) * step * 1.1 + 1e-6
    assert (np.abs(ahead - 2.0) < tolerance).all()
    assert scan.angle_max_rad == pytest.approx(-scan.angle_min_rad, abs=scan.angle_increment_rad)


def test_the_left_of_the_image_is_the_end_of_the_scan() -> None:
    depth = np.full((60, 80), 5.0, np.float32)
    depth[:, :10] = 1.0  # something near on the left
    ranges = scan_of(depth, LEVEL, ScanBand(), 0.0, 20.0).ranges
    assert ranges[-1] < 2 < ranges[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([np.inf, np.inf], np.inf),
        ([np.nan, np.inf], np.inf),
        ([np.nan, np.nan], np.nan),
        ([np.inf, 3.0], 3.0),
        ([np.nan, 3.0], 3.0),
        ([-np.inf, 3.0], -np.inf),  # what is too close is nearer than anything
        ([9.0, 9.5], np.inf),
        ([0.2, 3.0], -np.inf),
    ],
)
def test_what_is_no_range_follows_rep_117(values: list[float], expected: float) -> None:
    depth = np.full((60, 80), np.nan, np.float32)
    depth[29:31] = np.array(values, np.float32)[:, None]
    scan = scan_of(depth, LEVEL, ScanBand(rows=2), 0.5, 8.0)
    np.testing.assert_allclose(scan.ranges[len(scan.ranges) // 2], expected, rtol=1e-3)
    assert (scan.range_min_m, scan.range_max_m) == (0.5, 8.0)


def floor(camera: CameraModel, pitch_rad: float, end_m: float = math.inf) -> NDArray[np.float32]:
    """Depth of a floor `HEIGHT_M` below the camera; beyond `end_m`, and above the horizon, nothing in range."""
    _, y, z = down_of(pitch_rad)
    ray_y = np.broadcast_to(camera.rays()[1], (camera.height, camera.width))
    fall = y * ray_y + z
    with np.errstate(divide="ignore"):
        depth = np.where(fall > 0, HEIGHT_M / fall, np.inf)
    return np.where(depth > end_m, np.inf, depth).astype(np.float32)


def test_a_beam_that_sees_only_floor_does_not_say_that_the_way_is_free() -> None:
    down_there = 0.6  # the whole view is below the horizon
    band = ScanBand(down_of(down_there), heights_m=(0.1, 0.6), camera_height_m=HEIGHT_M)
    assert np.isnan(scan_of(floor(LEVEL, down_there), LEVEL, band, 0.0, 10.0).ranges).all()


def test_a_free_way_is_free_where_the_view_reaches_through_the_band() -> None:
    band = ScanBand(heights_m=(0.1, 0.6), camera_height_m=HEIGHT_M)
    depth = floor(LEVEL, 0.0, end_m=8.0)
    assert np.isposinf(scan_of(depth, LEVEL, band, 0.0, 8.0).ranges).all()
    depth[25:35, 38:42] = 2.0  # a post
    ranges = scan_of(depth, LEVEL, band, 0.0, 8.0).ranges
    assert np.isfinite(ranges).sum() in (4, 5)
    assert np.nanmin(ranges) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(("pitch", "roll"), [(0.3, 0.0), (-0.2, 0.4), (0.0, 1.5708)])
def test_a_tilted_camera_gives_level_ranges(pitch: float, roll: float) -> None:
    """A round wall of 3 m around the camera is 3 m away in every direction, however the camera is held."""
    down = np.array(down_of(pitch, roll))
    x, y = np.broadcast_arrays(*LEVEL.rays())
    rays = np.stack([x, y, np.ones_like(x)], axis=-1)
    depth = 3.0 / np.linalg.norm(rays - (rays @ down)[..., None] * down, axis=-1)
    scan = scan_of(depth.astype(np.float32), LEVEL, ScanBand(down_of(pitch, roll), rows=4), 0.0, 10.0)
    np.testing.assert_allclose(scan.ranges, 3.0, rtol=1e-5)


def test_what_cannot_be_a_scan_is_refused() -> None:
    with pytest.raises(CameraError, match=r"depth is \(60, 81\)"):
        scan_of(np.ones((60, 81), np.float32), LEVEL, ScanBand(), 0.0, 1.0)
    with pytest.raises(CameraError, match="no pixel of the image looks into the band"):
        scan_of(np.ones((60, 80), np.float32), LEVEL, ScanBand(down_of(1.2), rows=10), 0.0, 1.0)


def test_the_frame_of_a_level_camera_follows_from_its_optical_frame() -> None:
    level = down_of(0.0)
    assert body_frame("camera_color_optical_frame", level) == "camera_color_frame"
    assert body_frame("camera_link_optical", level) == "camera_link"
    assert body_frame("camera", level) is None
    assert body_frame("camera_optical_frame", down_of(0.01)) is None
