"""Depth as a laser scanner would see it: the nearest thing in each direction, in a band of rows or of heights.

The scan lies in the level plane through the camera's optical centre: x forward, y left, z up (REP 103). Beams are as
far apart as neighbouring pixels are where those are farthest apart, so every beam inside the view has a pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError

FloatArray = NDArray[np.float32]
ROUNDING_PX = 0.01  # a horizon between two rows belongs to both
STEEPEST = 1.0  # rise over run: pixels that look up or down more steeply do not decide how far apart the beams are


@dataclass(frozen=True)
class ScanBand:
    """Which part of the view counts.

    Attributes:
        down: unit vector towards the ground in the optical frame.
        rows: as many rows of pixels around the horizon; used without `heights_m`.
        heights_m: lowest and highest height above the ground.
        camera_height_m: of the optical centre above the ground; used with `heights_m`.
    """

    down: tuple[float, float, float] = (0.0, 1.0, 0.0)
    rows: int = 1
    heights_m: tuple[float, float] | None = None
    camera_height_m: float = 0.0


@dataclass(frozen=True)
class Scan:
    """One scan: beam i looks `angle_min_rad + i * angle_increment_rad` to the left.

    Attributes:
        ranges: float32 (N,), metres in the level plane. REP 117: +Inf beyond `range_max_m`, -Inf nearer than
            `range_min_m`, NaN where the view does not tell.
    """

    angle_min_rad: float
    angle_increment_rad: float
    range_min_m: float
    range_max_m: float
    ranges: FloatArray

    @property
    def angle_max_rad(self) -> float:
        """Direction of the last beam."""
        return self.angle_min_rad + (len(self.ranges) - 1) * self.angle_increment_rad


def scan_of(depth: FloatArray, camera: CameraModel, band: ScanBand, range_min_m: float, range_max_m: float) -> Scan:
    """Return the nearest thing in each direction.

    A pixel counts with the point it sees. One that sees nothing up to `range_max_m` counts if its ray is inside the
    band there. So a beam that sees nothing but the floor is NaN: it does not say that the way is free.

    Args:
        depth: (H, W), metres along the optical axis, infinite outside its limits (REP 117).
        camera: of the image; lens distortion is taken into account.

    Raises:
        CameraError: depth of another size than the camera's pictures, or no pixel looks into the band.
    """
    if depth.shape != (camera.height, camera.width):
        raise CameraError(f"depth is {depth.shape}, this camera's images are {(camera.height, camera.width)}")
    beams = _beams(camera, band.down, band.rows if band.heights_m is None else None)
    ranges = depth.ravel()[beams.pixels] * beams.range_of_depth
    if band.heights_m is not None:
        lowest_m, highest_m = band.heights_m
        height_m = band.camera_height_m - np.clip(ranges, range_min_m, range_max_m) * beams.fall
        ranges[~((height_m >= lowest_m) & (height_m <= highest_m))] = np.nan
    ranges[ranges > range_max_m] = np.inf
    ranges[ranges < range_min_m] = -np.inf
    scan = np.full(beams.count, np.nan, np.float32)
    scan[beams.filled] = np.fmin.reduceat(ranges, beams.starts)  # fmin: what is known wins over NaN
    return Scan(beams.angle_min_rad, beams.increment_rad, range_min_m, range_max_m, scan)


@dataclass(frozen=True)
class _Beams:
    """Which pixels each beam has: `pixels[starts[i] : starts[i + 1]]` are those of beam `filled[i]`.

    Attributes:
        pixels: int64 (M,), of the picture, row by row.
        range_of_depth: float32 (M,), metres in the level plane for each metre of depth.
        fall: float32 (M,), metres towards the ground for each metre in the level plane.
    """

    angle_min_rad: float
    increment_rad: float
    count: int
    pixels: NDArray[np.int64]
    range_of_depth: FloatArray
    fall: FloatArray
    starts: NDArray[np.int64]
    filled: NDArray[np.int64]


@lru_cache(maxsize=8)
def _beams(camera: CameraModel, down: tuple[float, float, float], rows: int | None) -> _Beams:
    forward, left, below = _level_rays(camera, np.array(down, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        azimuth, run = np.arctan2(left, forward), np.hypot(forward, left)
        counts = forward > 0
        if rows is not None:
            slope = below / forward
            reach = (rows / 2 + ROUNDING_PX) * _step_per_pixel(slope)
            counts &= np.abs(slope) <= np.minimum(reach, STEEPEST)  # in a fisheye's corners the steps grow endlessly
        steep = np.abs(below) > STEEPEST * run
    if not counts.any():
        raise CameraError("no scan: no pixel of the image looks into the band; look at the camera's pitch and roll")
    azimuth[~counts] = np.nan
    increment = _largest_step(np.where(steep, np.nan, azimuth)) or 1 / camera.fx
    angle_min = float(np.nanmin(azimuth))
    pixels = np.flatnonzero(counts)
    beam = np.rint((azimuth.ravel()[pixels] - angle_min) / increment).astype(np.int64)
    order = np.argsort(beam, kind="stable")
    filled, starts = np.unique(beam[order], return_index=True)
    pixels = pixels[order]
    range_of_depth, fall = run.ravel()[pixels], (below / run).ravel()[pixels]
    return _Beams(
        angle_min,
        increment,
        int(filled[-1]) + 1,
        pixels,
        range_of_depth.astype(np.float32),
        fall.astype(np.float32),
        starts,
        filled,
    )


def _level_rays(camera: CameraModel, down: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Each pixel's ray at a depth of one metre, along forward, left and down: three arrays (H, W)."""
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down  # the optical axis, laid into the level plane
    forward = ahead / np.linalg.norm(ahead)
    left = np.cross(-down, forward)
    ray_x, ray_y = camera.rays()
    parts = [axis[0] * ray_x + axis[1] * ray_y + axis[2] for axis in (forward, left, down)]
    return [np.array(np.broadcast_to(part, (camera.height, camera.width)), np.float64) for part in parts]


def _step_per_pixel(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much (H, W) values change from a pixel to the next, in the direction in which they change most."""
    return np.hypot(np.diff(values, axis=0, append=values[-1:]), np.diff(values, axis=1, append=values[:, -1:]))


def _largest_step(azimuth: NDArray[np.float64]) -> float:
    """Largest difference between neighbouring pixels (H, W) in radians, NaN left out; 0 where there are no two."""
    steps = [np.abs(np.diff(azimuth, axis=axis)).ravel() for axis in (0, 1)]
    return float(np.max(np.concatenate(steps), initial=0.0, where=np.isfinite(np.concatenate(steps))))


def body_frame(optical_frame: str, down: tuple[float, float, float]) -> str | None:
    """Return the frame of a level camera's body, which REP 103 names like its optical frame without `_optical`.

    None where the name says nothing of it, or the camera is not level: then its body is not level either.
    """
    is_level = math.isclose(down[1], 1.0)
    return optical_frame.replace("_optical", "") if is_level and "_optical" in optical_frame else None
