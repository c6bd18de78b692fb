"""Pair readings of a range sensor with the depth that was predicted at the same places: what `scale.fit` takes.

    pairs = compare(scan, depth, T_camera_sensor, camera)
    fit = fit_scale(pairs.predicted, pairs.measured)

Depth is (H, W), the size of the camera's pictures. The camera's frame is its optical frame, pixels are `(u, v)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel, resize_factors
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.ranges import LaserScan, PointCloud2, Range, points_of, range_reading
from depth_anything_ros.scale.projection import MIN_DEPTH_M, Samples, nearest_pixels, project
from depth_anything_ros.scale.transform import Transform

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]

MAX_POINTS = 20_000  # of one message; of a larger one, every n-th point is used
# A pixel whose neighbours differ by more than this share of depth is at an edge, neither foreground nor background.
# For relative depth it is a share of the map's largest value.
EDGE = 0.1
RELATIVE_EDGE = 0.05
# This share of a cone's pixels may be nearer than its nearest thing: one noisy pixel must not decide.
NEAREST_SHARE = 0.05
CONE_COLUMNS = 160  # a cone is searched in a picture of about this many columns
MIN_CONE_PIXELS = 9
RIM_POINTS = 16


class Pairs(NamedTuple):
    """What the model predicted (metres, or without a unit) and what was measured there (metres): (N,) each."""

    predicted: Array
    measured: Array


NO_PAIRS = Pairs(np.empty(0), np.empty(0))


def compare(
    msg: LaserScan | PointCloud2 | Range,
    depth: NDArray[np.floating[Any]],
    T_camera_sensor: Transform,
    camera: CameraModel,
    kind: Kind = "metric",
) -> Pairs:
    """Pair what a range sensor measured with what was predicted there.

    Raises:
        RangeError: a message that contradicts itself. CameraError: depth of another size than the camera's pictures.
    """
    if depth.shape != (camera.height, camera.width):
        raise CameraError(f"depth is {depth.shape}, this camera's images are {(camera.height, camera.width)}")
    reading: Any = msg  # told apart by its fields
    if hasattr(reading, "field_of_view"):
        return cone_pair(reading, depth, T_camera_sensor, camera, kind)
    points = _thinned(points_of(reading))  # without what is no reading: moved, (0, 0, 0) would look like one
    return pairs_at(project(T_camera_sensor.apply(points), camera), depth, kind)


def compare_image(
    reference: NDArray[np.floating[Any]],
    depth: NDArray[np.floating[Any]],
    camera: CameraModel,
    kind: Kind = "metric",
    *,
    reference_camera: CameraModel | None = None,
    T_camera_reference: Transform | None = None,
) -> Pairs:
    """Pair a depth camera's image with what was predicted.

    Args:
        reference: (h, w), metres, NaN for none, as `messages.ranges.depth_of` reads it.
        reference_camera, T_camera_reference: the depth camera, and its optical frame seen from the camera's. Without
            them, `reference` is depth of the same picture, perhaps at another size.

    Raises:
        CameraError: a size that is not its camera's, or sizes that are not one picture at two scales.
    """
    samples = _grid_samples(reference)
    if reference_camera is None or T_camera_reference is None:
        factors = resize_factors((reference.shape[1], reference.shape[0]), (camera.width, camera.height))
        u, v = ((centre + 0.5) * factor - 0.5 for centre, factor in zip(samples[:2], factors, strict=True))
        return pairs_at(Samples(u, v, samples.depth_m), depth, kind)
    if reference.shape != (reference_camera.height, reference_camera.width):
        raise CameraError(f"the depth camera's image is {reference.shape}, its camera's are of another size")
    ray_x, ray_y = np.broadcast_arrays(*reference_camera.rays())
    at = samples.v.astype(np.intp), samples.u.astype(np.intp)
    points = np.stack([ray_x[at], ray_y[at], np.ones(samples.u.size)], axis=-1) * samples.depth_m[:, None]
    return pairs_at(project(T_camera_reference.apply(points), camera), depth, kind)


def pairs_at(samples: Samples, depth: NDArray[np.floating[Any]], kind: Kind = "metric") -> Pairs:
    """Pair measured depth with the prediction at the same place, without edges and places that have no value."""
    predicted = sample_depth(depth, samples.u, samples.v, kind)
    good = np.isfinite(predicted) & np.isfinite(samples.depth_m)
    return Pairs(predicted[good], samples.depth_m[good])


# ---- depth at pixels


def sample_depth(depth: NDArray[np.floating[Any]], u: Array, v: Array, kind: Kind = "metric") -> Array:
    """Return depth (H, W) at pixels (N,): that of the nearest pixel, NaN where it has none or is at an edge."""
    row, column = nearest_pixels(u, v, depth.shape)
    value = depth[row, column].astype(np.float64)
    low, high = value.copy(), value.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbour = depth[
                np.clip(row + down, 0, depth.shape[0] - 1), np.clip(column + right, 0, depth.shape[1] - 1)
            ]
            low, high = np.fmin(low, neighbour), np.fmax(high, neighbour)
    bad = ~(np.isfinite(value) & (value > 0)) | _is_edge(low, high, depth, kind)
    value[bad] = np.nan
    return value


def _is_edge(low: Array, high: Array, depth: NDArray[np.floating[Any]], kind: Kind) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):  # infinity next to infinity
        if kind == "relative":
            return np.asarray(high - low > RELATIVE_EDGE * np.fmax.reduce(depth, axis=None))
        return np.asarray(high > (1 + EDGE) * low)


def _grid_samples(reference: NDArray[np.floating[Any]]) -> Samples:
    """Return about `MAX_POINTS` pixels of a depth image at most, of those that have a value and are at no edge."""
    height, width = reference.shape
    step = max(1, math.ceil(math.sqrt(height * width / MAX_POINTS)))
    columns, rows = (np.arange(0, size, step, dtype=np.float64) for size in (width, height))
    u, v = (grid.ravel() for grid in np.meshgrid(columns, rows))
    measured = sample_depth(reference, u, v)
    good = np.isfinite(measured)
    return Samples(u[good], v[good], measured[good])


def _thinned(points: FloatArray) -> FloatArray:
    return points[:: max(1, math.ceil(len(points) / MAX_POINTS))]


# ---- one reading for a whole cone


def cone_pair(
    msg: Range, depth: NDArray[np.floating[Any]], T_camera_sensor: Transform, camera: CameraModel, kind: Kind
) -> Pairs:
    """Pair a Range with the nearest thing predicted in its cone.

    The cone looks along x and is `field_of_view` wide. A reading says that the nearest surface in it touches the
    sphere of that radius. Each pixel's ray meets the sphere at a depth of its own. Where the predicted depth is the
    smallest share of that depth, surface and sphere touch; `NEAREST_SHARE` of the pixels may be nearer. A cone of
    fewer than `MIN_CONE_PIXELS` is a single beam along x. There is no pair without a reading, or where the picture
    does not show the whole cone.

    Raises:
        RangeError: impossible limits or field of view.
    """
    radius_m = range_reading(msg)
    if radius_m is None or not _is_seen(radius_m, msg.field_of_view / 2, T_camera_sensor, camera):
        return NO_PAIRS
    step = max(1, camera.width // CONE_COLUMNS)
    ray_x, ray_y = (ray[::step, ::step].ravel() for ray in np.broadcast_arrays(*camera.rays()))
    rays = np.stack([ray_x, ray_y, np.ones_like(ray_x)], axis=-1).astype(np.float64)
    on_sphere = _sphere_depth(rays, T_camera_sensor.translation, radius_m)
    forward = (rays * on_sphere[:, None] - T_camera_sensor.translation) @ T_camera_sensor.rotation[:, 0]
    predicted = depth[::step, ::step].ravel().astype(np.float64)
    in_cone = (forward >= radius_m * math.cos(msg.field_of_view / 2)) & (on_sphere >= MIN_DEPTH_M)
    good = in_cone & np.isfinite(predicted) & (predicted > 0)
    if np.count_nonzero(in_cone) < MIN_CONE_PIXELS:
        return _beam_pair(radius_m, depth, T_camera_sensor, camera, kind)
    if np.count_nonzero(good) < MIN_CONE_PIXELS:
        return NO_PAIRS
    predicted, on_sphere = predicted[good], on_sphere[good]
    nearness = 1 / (predicted * on_sphere) if kind == "relative" else predicted / on_sphere
    rank = int(NEAREST_SHARE * nearness.size)
    touching = np.argpartition(nearness, rank)[rank]
    return Pairs(predicted[touching, None], on_sphere[touching, None])


def _beam_pair(
    radius_m: float, depth: NDArray[np.floating[Any]], T_camera_sensor: Transform, camera: CameraModel, kind: Kind
) -> Pairs:
    """Pair the reading of a cone too narrow to hold pixels, such as a laser's, with the depth where its axis ends."""
    end = T_camera_sensor.apply(np.array([[radius_m, 0.0, 0.0]]))
    return pairs_at(project(end, camera), depth, kind)


def _is_seen(radius_m: float, half_angle: float, T_camera_sensor: Transform, camera: CameraModel) -> bool:
    """Whether the whole rim of the cone at this distance is in the picture."""
    around = np.linspace(0, 2 * math.pi, RIM_POINTS, endpoint=False)
    side, ahead = radius_m * math.sin(half_angle), radius_m * math.cos(half_angle)
    rim = np.stack([np.full(RIM_POINTS, ahead), side * np.cos(around), side * np.sin(around)], axis=-1)
    return project(T_camera_sensor.apply(rim), camera).u.size == RIM_POINTS


def _sphere_depth(rays: Array, center: Array, radius_m: float) -> Array:
    """Return the depth (N,) at which rays (N, 3) with z = 1 leave a sphere; NaN where they miss it."""
    along, square = rays @ center, (rays * rays).sum(axis=-1)
    root = along**2 - square * (center @ center - radius_m**2)
    return np.asarray((along + np.sqrt(np.where(root >= 0, root, np.nan))) / square, np.float64)
