"""Fit the scale of metric depth to the ground, of which the camera's height is known.

A plane that does not go through the camera is `m . p = 1` for its points p, at the distance 1 / |m|. For any point,
`m . p - 1` is how far its depth is off the plane, as a share of the plane's depth on that ray. That is the right error
to fit, because a network's error grows with depth. RANSAC over planes through three points, then least squares.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, SettingsError
from depth_anything_ros.scale.fit import ScaleFit, check_fit
from depth_anything_ros.scale.robust_line import SCORED_SAMPLES, STEPS, biweight
from depth_anything_ros.settings import GroundPlaneSettings

Array = NDArray[np.float64]
REMARK = "the ground gives the scale alone"


def ground_settings(kind: Kind) -> GroundPlaneSettings:
    """Return the settings for a kind of depth: the scale of one without a unit may have any size."""
    settings = GroundPlaneSettings()
    if kind == "metric":
        return settings
    return replace(settings, fit=replace(settings.fit, min_scale=0.0, max_scale=math.inf))


def fit_ground_plane(
    depth: NDArray[np.floating[Any]],
    camera: CameraModel,
    height_m: float,
    settings: GroundPlaneSettings | None = None,
    *,
    pitch_rad: float = 0.0,
    roll_rad: float = 0.0,
) -> ScaleFit:
    """Fit the scale that puts the ground `height_m` below the camera.

    Args:
        depth: (H, W), metres, or up to a factor, as the model gives it.
        height_m: height of the camera's optical centre above the ground, along the ground's normal.
        pitch_rad, roll_rad: how the camera is mounted (REP 103, body frame). Positive pitch looks down, positive roll
            is clockwise as seen from behind.

    Raises:
        FitRefused: no plane near the expected direction holds enough points of the picture's lower half.
        SettingsError: a height that is not a positive number, or angles that are not finite.
        CameraError: depth of another size than the camera's pictures.
    """
    settings = settings or GroundPlaneSettings()
    if not 0 < height_m < math.inf:
        raise SettingsError(f"the camera's height must be a positive number of metres, got {height_m}")
    down = down_direction(pitch_rad, roll_rad)
    points = _lower_half(depth, camera, settings)
    m = _refined(points, _best_plane(points, down, settings), settings)
    tilt = math.degrees(math.acos(min(1.0, float(down @ m) / float(np.linalg.norm(m)))))
    if tilt > settings.max_tilt_deg:
        raise FitRefused(f"the plane found is tilted by {tilt:.0f} degrees; {settings.max_tilt_deg:g} are allowed")
    off = points @ m - 1
    on_plane = np.abs(off) <= settings.fit.tolerance
    scale, share = height_m * float(np.linalg.norm(m)), float(on_plane.mean())
    residual = math.sqrt(np.mean(off[on_plane] ** 2)) if on_plane.any() else math.inf
    check_fit(scale, share, residual, len(points), settings.fit)
    residual_m = scale * math.sqrt(np.mean((off * points[:, 2])[on_plane] ** 2))
    return ScaleFit(scale, 0.0, residual_m, share, len(points), REMARK)


def down_direction(pitch_rad: float, roll_rad: float) -> Array:
    """Return the unit vector (3,) towards the ground in the optical frame: +y for a camera that is level."""
    if not math.isfinite(pitch_rad + roll_rad):
        raise SettingsError(f"pitch and roll must be finite, got {pitch_rad} and {roll_rad}")
    level = math.cos(pitch_rad)
    return np.array([math.sin(roll_rad) * level, math.cos(roll_rad) * level, math.sin(pitch_rad)])


def _lower_half(depth: NDArray[np.floating[Any]], camera: CameraModel, settings: GroundPlaneSettings) -> Array:
    """Return points (N, 3) of the picture's lower half, evenly thinned, without those that have no depth."""
    half = camera.height // 2
    step = max(1, math.ceil(math.sqrt((camera.height - half) * camera.width / settings.max_points)))
    thin = camera.back_project(np.where(np.isfinite(depth) & (depth > 0), depth, np.nan), stride=step)
    points = thin[math.ceil(half / step) :].reshape(-1, 3).astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < max(3, settings.fit.min_samples):
        raise FitRefused(f"only {len(points)} points in the lower half; {max(3, settings.fit.min_samples)} are needed")
    return points


def _best_plane(points: Array, down: Array, settings: GroundPlaneSettings) -> Array:
    """Return the plane m with the least truncated square error, of planes through three points below the camera."""
    rng = np.random.default_rng(settings.fit.seed)
    triples = points[rng.integers(len(points), size=(settings.fit.trials, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    offsets = (normals * triples[:, 0]).sum(axis=1)
    # Three points in a line, or a plane through the camera, make no m.
    solid = np.abs(offsets) > 1e-9 * np.linalg.norm(triples[:, 0], axis=1) ** 3
    planes = normals[solid] / offsets[solid, None]
    steepest = math.cos(math.radians(settings.max_tilt_deg))
    planes = planes[planes @ down >= steepest * np.linalg.norm(planes, axis=1)]
    if not len(planes):
        raise FitRefused(f"no plane within {settings.max_tilt_deg:g} degrees of the ground's direction")
    scored = points[:: math.ceil(len(points) / SCORED_SAMPLES)]
    off = (planes @ scored.T - 1) / settings.fit.tolerance
    best: Array = planes[int(np.minimum(off * off, 1.0).sum(axis=1).argmin())]
    return best


def _refined(points: Array, m: Array, settings: GroundPlaneSettings) -> Array:
    for _ in range(STEPS):
        weighted = points * biweight((points @ m - 1) / settings.fit.tolerance)[:, None]
        try:
            m = np.linalg.solve(weighted.T @ points, weighted.sum(axis=0))
        except np.linalg.LinAlgError:
            break
    return m
