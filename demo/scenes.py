"""Pictures for a machine without photographs: three scenes, ray-traced in NumPy.

Coordinates are the camera's optical frame: metres, x right, y down, z ahead. Colours are BGR, 0 to 1.
Vectors and colours are columns, (3, N): NumPy adds rows up much faster than columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 640, 480
FOCAL_LENGTH_PX = 480.0
OVERSAMPLING = 2
FAR_M = 1e6
NUDGE_M = 1e-3  # keeps a shadow ray off the surface it starts from
AMBIENT = 0.45
DARK_TILE = 0.72

Array = NDArray[Any]  # float32
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """An axis-aligned box with one corner at `low` and the opposite one at `high`."""

    low: Triple
    high: Triple
    color: Triple
    tile_m: float = 0.0  # chequered with tiles of this size; 0: plain

    def distance(self, origin: Array, rays: Array) -> Array:
        """Distance (N,) along rays (3, N) of unit length to where they enter; FAR_M where they miss."""
        with np.errstate(divide="ignore", invalid="ignore"):
            to_low, to_high = (_column(self.low) - origin) / rays, (_column(self.high) - origin) / rays
        enter, leave = np.fmin(to_low, to_high).max(axis=0), np.fmax(to_low, to_high).min(axis=0)
        return _array(np.where((enter < leave) & (enter > 0), enter, FAR_M))

    def normals(self, points: Array) -> Array:
        """Outward unit normals (3, N) at points (3, N) on the surface."""
        low, high = _column(self.low), _column(self.high)
        offset = (2 * points - low - high) / (high - low)
        return _array(np.eye(3)[:, np.abs(offset).argmax(axis=0)] * np.sign(offset))


@dataclass(frozen=True)
class Ball:
    """A ball."""

    center: Triple
    radius: float
    color: Triple
    tile_m: float = 0.0

    def distance(self, origin: Array, rays: Array) -> Array:
        """As `Box.distance`."""
        offset = origin - _column(self.center)
        along = (rays * offset).sum(axis=0)
        root = along**2 - (offset**2).sum(axis=0) + self.radius**2
        enter = -along - np.sqrt(np.maximum(root, 0))
        return _array(np.where((root > 0) & (enter > 0), enter, FAR_M))

    def normals(self, points: Array) -> Array:
        """As `Box.normals`."""
        return _array((points - _column(self.center)) / self.radius)


@dataclass(frozen=True)
class Scene:
    """Solids under one lamp."""

    solids: tuple[Box | Ball, ...]
    lamp: Triple
    sky: Triple = (0.95, 0.82, 0.66)


def corridor() -> Scene:
    """A tiled corridor with crates, a ball and a door at its end."""
    wall, wood, door = (0.72, 0.80, 0.84), (0.30, 0.50, 0.70), (0.55, 0.35, 0.25)
    return Scene(
        (
            Box((-1.7, 1.3, 0), (1.7, 1.4, 12), (0.75, 0.78, 0.80), tile_m=0.6),
            Box((-1.7, -1.4, 0), (1.7, -1.3, 12), (0.90, 0.90, 0.90)),
            Box((-1.8, -1.3, 0), (-1.6, 1.3, 12), wall),
            Box((1.6, -1.3, 0), (1.8, 1.3, 12), wall),
            Box((-1.7, -1.3, 11), (1.7, 1.3, 12), (0.62, 0.70, 0.66)),
            Box((-0.5, -0.8, 10.9), (0.5, 1.3, 11), door),
            Box((-1.6, 0.5, 3.4), (-0.9, 1.3, 4.2), wood),
            Box((-1.5, 0.1, 3.6), (-1.1, 0.5, 4.0), (0.45, 0.62, 0.35)),
            Box((1.0, 0.3, 5.6), (1.6, 1.3, 6.6), wood),
            Ball((0.75, 0.95, 3.6), 0.35, (0.25, 0.25, 0.85)),
            Ball((-0.6, 1.05, 6.5), 0.25, (0.20, 0.75, 0.90)),
        ),
        lamp=(0.2, -1.0, 2.2),
    )


def room() -> Scene:
    """A room with a table, balls on it, a cupboard and a chequered floor."""
    wood, leg = (0.35, 0.55, 0.75), (0.20, 0.32, 0.45)
    legs = tuple(Box((x, 0.35, z), (x + 0.1, 1.2, z + 0.1), leg) for x in (-0.9, 0.6) for z in (2.5, 3.3))
    return Scene(
        (
            Box((-2.5, 1.2, 0), (2.5, 1.3, 5.2), (0.70, 0.74, 0.78), tile_m=0.5),
            Box((-2.5, -1.6, 0), (2.5, -1.5, 5.2), (0.92, 0.92, 0.92)),
            Box((-2.6, -1.5, 0), (-2.4, 1.2, 5.2), (0.80, 0.70, 0.55)),
            Box((2.4, -1.5, 0), (2.6, 1.2, 5.2), (0.62, 0.75, 0.85)),
            Box((-2.5, -1.5, 5), (2.5, 1.2, 5.2), (0.78, 0.82, 0.80)),
            Box((-1.0, 0.25, 2.4), (0.8, 0.35, 3.5), wood),
            *legs,
            Box((1.3, -0.7, 4.2), (2.2, 1.2, 5.0), (0.40, 0.42, 0.62)),
            Box((-2.1, 0.6, 3.9), (-1.4, 1.2, 4.6), (0.35, 0.60, 0.45), tile_m=0.2),
            Box((-1.3, -0.9, 4.95), (-0.2, -0.2, 5.0), (0.75, 0.55, 0.25)),
            Ball((-0.5, 0.0, 2.9), 0.25, (0.25, 0.30, 0.85)),
            Ball((0.15, 0.1, 2.7), 0.15, (0.85, 0.55, 0.25)),
            Ball((0.45, 0.1, 3.1), 0.15, (0.30, 0.75, 0.35)),
            Ball((1.5, 0.9, 2.9), 0.3, (0.25, 0.75, 0.90)),
        ),
        lamp=(-0.4, -1.3, 2.0),
    )


def yard() -> Scene:
    """A paved yard under the sky: buildings, bushes, a kerb and posts that recede."""
    posts = tuple(Box((1.9, 0.2, z), (2.05, 1.5, z + 0.15), (0.30, 0.30, 0.80)) for z in range(4, 16, 2))
    return Scene(
        (
            Box((-40, 1.5, 0), (40, 1.6, 90), (0.66, 0.70, 0.70), tile_m=1.0),
            Box((-9, -3.5, 14), (-4, 1.5, 24), (0.50, 0.62, 0.80)),
            Box((3.5, -1.8, 18), (9, 1.5, 28), (0.72, 0.72, 0.62)),
            Box((-3, -6.0, 34), (3, 1.5, 40), (0.55, 0.50, 0.58)),
            Box((-3.4, 1.35, 3), (-3.1, 1.5, 30), (0.85, 0.85, 0.85)),
            *posts,
            Box((-1.3, 0.6, 5.2), (-0.2, 1.5, 6.4), (0.30, 0.50, 0.72)),
            Ball((-2.2, 0.8, 8.5), 0.7, (0.25, 0.58, 0.30)),
            Ball((0.9, 1.1, 7.0), 0.4, (0.20, 0.62, 0.85)),
            Ball((3.4, 0.3, 12.0), 1.2, (0.22, 0.50, 0.26)),
        ),
        lamp=(-25, -40, -10),
    )


SCENES = {"corridor": corridor, "room": room, "yard": yard}


def render(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Draw a scene as a pinhole camera sees it, uint8 BGR (height, width, 3)."""
    size = (width * OVERSAMPLING, height * OVERSAMPLING)
    rays = camera_rays(*size, focal_length_px=FOCAL_LENGTH_PX * size[0] / WIDTH)
    colors = np.hstack([shade(scene, some) for some in np.array_split(rays, 100, axis=1)])  # each fits in the cache
    picture = cv2.resize(colors.T.reshape(size[1], size[0], 3), (width, height), interpolation=cv2.INTER_AREA)
    grain = np.random.default_rng(0).normal(0, 0.01, picture.shape)
    return np.asarray(np.clip((picture + grain) * 255, 0, 255), np.uint8)


def camera_rays(width: int, height: int, focal_length_px: float) -> Array:
    """Unit vectors (3, height * width) through the pixels, row by row."""
    v, u = np.mgrid[0:height, 0:width]
    x, y = (u - (width - 1) / 2) / focal_length_px, (v - (height - 1) / 2) / focal_length_px
    rays = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    return _array(rays / np.linalg.norm(rays, axis=0))


def shade(scene: Scene, rays: Array) -> Array:
    """Colours (3, N) of what the rays (3, N) from the camera meet: diffuse light from the lamp, with shadows."""
    distance, first = nearest(scene, np.zeros((3, 1), np.float32), rays)
    points = rays * distance
    normals, colors = np.zeros_like(points), np.zeros_like(points)
    for index, solid in enumerate(scene.solids):
        there = first == index
        normals[:, there] = solid.normals(points[:, there])
        colors[:, there] = _column(solid.color) * _tiles(points[:, there] - NUDGE_M * normals[:, there], solid.tile_m)
    light = AMBIENT + (1 - AMBIENT) * _from_lamp(scene, points + NUDGE_M * normals, normals)
    horizon = np.clip(1 + rays[1] * 2, 0, 1)
    sky = _column(scene.sky) * (1 - horizon) + 0.95 * horizon
    return _array(np.where(distance < FAR_M, colors * light, sky))


def nearest(scene: Scene, origin: Array, rays: Array) -> tuple[Array, NDArray[np.intp]]:
    """Distance (N,) to the first solid on each ray, and its index."""
    distances = np.stack([solid.distance(origin, rays) for solid in scene.solids])
    return distances.min(axis=0), np.where(distances.min(axis=0) < FAR_M, distances.argmin(axis=0), -1)


def _from_lamp(scene: Scene, points: Array, normals: Array) -> Array:
    """Share of the lamp's light (N,) that surfaces at the points send back."""
    to_lamp = _column(scene.lamp) - points
    lamp_m = np.linalg.norm(to_lamp, axis=0)
    to_lamp /= lamp_m
    reached = nearest(scene, points, to_lamp)[0] >= lamp_m
    return _array(np.maximum((normals * to_lamp).sum(axis=0), 0) * reached)


def _tiles(points: Array, tile_m: float) -> Array:
    """Brightness (N,) of a chequered pattern in space."""
    if not tile_m:
        return np.ones(1, np.float32)
    return _array(np.where(np.floor(points / tile_m).sum(axis=0) % 2, DARK_TILE, 1.0))


def _array(values: ArrayLike) -> Array:
    return np.asarray(values, np.float32)


def _column(values: Triple) -> Array:
    return np.array(values, np.float32)[:, None]
