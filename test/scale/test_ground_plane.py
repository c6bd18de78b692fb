"""The ground tells the scale, by rooms whose camera height is known exactly."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError, FitRefused, SettingsError
from depth_anything_ros.scale.ground_plane import down_direction, fit_ground_plane
from depth_anything_ros.settings import FitSettings, GroundPlaneSettings
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame

FACTOR = 0.7
LEVEL = CameraModel(100.0, 100.0, 79.5, 59.5, 160, 120)


@lru_cache
def view(seed: int) -> tuple[SyntheticCamera, SyntheticFrame]:
    camera = SyntheticCamera(seed, width=160, height=120, distortion="plumb_bob" if seed % 2 else "none")
    return camera, camera.frame(1.0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("pitch_is_known", [True, False])
def test_a_known_factor_is_recovered_from_furnished_rooms(seed: int, pitch_is_known: bool) -> None:
    camera, frame = view(seed)
    pitch_rad = camera.way.pitch_rad if pitch_is_known else 0.0
    fit = fit_ground_plane(frame.depth * FACTOR, camera.model, camera.way.height_m, pitch_rad=pitch_rad)
    assert fit.scale * FACTOR == pytest.approx(1.0, abs=1e-3)
    assert fit.shift_m == 0.0
    assert fit.residual_m < 0.05


@pytest.mark.parametrize("seed", range(6))
def test_noise_and_wrong_patches_change_the_scale_little(seed: int) -> None:
    """3 % noise, and 40 % of the picture in blocks at any depth."""
    camera, frame = view(seed)
    rng = np.random.default_rng(seed)
    depth = frame.depth * (1 + 0.03 * rng.standard_normal(frame.depth.shape))
    blocks = rng.permutation(12 * 16)[: int(0.4 * 12 * 16)]
    for block in blocks:
        row, column = divmod(int(block), 16)
        depth[10 * row : 10 * row + 10, 10 * column : 10 * column + 10] = rng.uniform(0.5, 6)
    lenient = GroundPlaneSettings(fit=FitSettings(tolerance=0.08, min_inlier_share=0.25, max_residual=0.05))
    fit = fit_ground_plane(depth * FACTOR, camera.model, camera.way.height_m, lenient, pitch_rad=camera.way.pitch_rad)
    assert fit.scale * FACTOR == pytest.approx(1.0, abs=0.02)


def floor_depth(pitch: float, roll: float, height_m: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Depth of an endless floor; NaN above the horizon."""
    down = down_direction(pitch, roll)
    rays = LEVEL.back_project(np.ones((120, 160), np.float32))
    with np.errstate(divide="ignore"):
        depth = height_m / (rays @ down)
    return np.where((depth > 0) & (depth < 50), depth, np.nan).astype(np.float32)


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.5, 0.0), (0.8, 0.2), (0.3, -0.3)])
def test_pitch_and_roll_say_where_down_is(pitch: float, roll: float) -> None:
    depth = floor_depth(pitch, roll, 0.6)
    fit = fit_ground_plane(depth, LEVEL, 1.2, GroundPlaneSettings(max_tilt_deg=3), pitch_rad=pitch, roll_rad=roll)
    assert fit.scale == pytest.approx(2.0, rel=1e-4)
    if pitch > 0.4:
        with pytest.raises(FitRefused, match="degrees"):
            fit_ground_plane(depth, LEVEL, 1.2)


def test_a_camera_that_looks_down_has_the_ground_ahead_of_it() -> None:
    np.testing.assert_allclose(down_direction(0, 0), [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(down_direction(math.pi / 2, 0), [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(down_direction(0, math.pi / 2), [1, 0, 0], atol=1e-12)  # turned clockwise: down is right


def test_a_wall_is_no_ground() -> None:
    with pytest.raises(FitRefused, match="within 20 degrees"):
        fit_ground_plane(np.full((120, 160), 2.0, np.float32), LEVEL, 1.0)


def test_noise_does_not_let_a_plane_in_that_is_tilted_too_far() -> None:
    """Some of its points make planes within the angle; all of them together do not."""
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal((120, 160))
    with pytest.raises(FitRefused, match="tilted by 21 degrees; 20 are allowed"):
        fit_ground_plane(floor_depth(math.radians(20.7), 0.0, 1.0) * noise, LEVEL, 1.0)


def test_too_little_ground_is_refused() -> None:
    rng = np.random.default_rng(0)
    clutter = rng.uniform(0.5, 6, (120, 160)).astype(np.float32)
    with pytest.raises(FitRefused, match=r"agree; 30% are needed|degrees"):
        fit_ground_plane(clutter, LEVEL, 1.0)
    with pytest.raises(FitRefused, match="only 0 points in the lower half; 200 are needed"):
        fit_ground_plane(np.full((120, 160), np.nan, np.float32), LEVEL, 1.0)


def test_an_impossible_scale_is_refused() -> None:
    with pytest.raises(FitRefused, match="scale would be 20"):
        fit_ground_plane(floor_depth(0.3, 0, 0.05), LEVEL, 1.0, pitch_rad=0.3)


@pytest.mark.parametrize("height_m", [0.0, -1.0, math.nan, math.inf])
def test_a_height_must_be_a_positive_number(height_m: float) -> None:
    with pytest.raises(SettingsError, match="height must be a positive number"):
        fit_ground_plane(np.ones((120, 160)), LEVEL, height_m)


def test_angles_must_be_finite_and_depth_of_the_cameras_size() -> None:
    with pytest.raises(SettingsError, match="pitch and roll must be finite"):
        fit_ground_plane(np.ones((120, 160)), LEVEL, 1.0, pitch_rad=math.nan)
    with pytest.raises(CameraError):
        fit_ground_plane(np.ones((12, 16)), LEVEL, 1.0)
