"""Furnished rooms drawn from a seed, and the way a camera takes through them. NumPy only.

The world is metric: x and y along the walls from a corner, z up from the floor. Every number comes from
`SceneRanges`, so what a network can learn from these rooms is exactly what those ranges leave open: tiles,
bricks, doors and furniture have fixed sizes, and a camera's height, pitch and focal length vary little.
Without such known sizes, metric depth cannot be told from one picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32, or int64 for indices

CHECKS, STRIPES, BRICKS, NOISE = range(4)
# Surfaces with a material of their own, before the objects: floor, ceiling, and the walls at x=0, x=max, y=0, y=max.
FLOOR, CEILING, FIRST_WALL = 0, 1, 2
SURFACES = 6
BOXES, SPHERES, CYLINDERS = 5, 2, 2
OBJECTS = BOXES + SPHERES + CYLINDERS
NOWHERE = (0.0, 0.0, -100.0)  # place of objects that a room does not have

BOX_SIZES_M = ((0.4, 0.4, 0.4), (0.8, 0.4, 0.8), (0.8, 0.8, 0.4), (0.4, 0.4, 1.2))
SPHERE_RADII_M = (0.2, 0.35)
CYLINDER_SIZES_M = ((0.2, 1.0), (0.3, 0.5))  # radius, height
FLOOR_TILE_M = 0.25
WALL_PATTERNS = ((STRIPES, 0.2), (BRICKS, 0.2), (NOISE, 0.4))
OBJECT_PATTERNS = ((CHECKS, 0.1), (STRIPES, 0.1), (BRICKS, 0.1), (NOISE, 0.1))
PLACING_ATTEMPTS = 40


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one uniformly."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class SceneRanges:
    """What scenes and cameras are drawn from. The demonstration model is made for these and no others.

    Attributes:
        room_m: length of each wall. room_height_m: the ceiling's height.
        camera_height_m: above the floor. pitch_deg: below the horizon.
        focal_ratio: focal length over image width (0.8: 64 degrees across).
        wander_m: how far the camera's way leads from the room's middle.
        clearance_m: from that way to the nearest object.
        objects: how many stand in a room, of `OBJECTS` at most.
    """

    room_m: Range = Range(5.0, 9.0)
    room_height_m: float = 2.6
    camera_height_m: Range = Range(0.9, 1.1)
    pitch_deg: Range = Range(8.0, 16.0)
    focal_ratio: Range = Range(0.74, 0.86)
    wander_m: float = 0.8
    clearance_m: float = 0.7
    objects: tuple[int, int] = (6, OBJECTS)


RANGES = SceneRanges()


@dataclass(frozen=True)
class Materials:
    """How surfaces look: float32 (S,) and (S, 3) in the order of `SURFACES`, boxes, spheres, cylinders.

    Attributes:
        pattern: int64, one of CHECKS, STRIPES, BRICKS, NOISE. size_m: of the pattern's unit.
        first, second: the pattern's two colours, BGR in [0, 1].
    """

    pattern: Array
    size_m: Array
    first: Array
    second: Array


@dataclass(frozen=True)
class Scene:
    """One furnished room.

    Attributes:
        size: float32 (3,), the room's extent in metres.
        centers: float32 (OBJECTS, 3), the objects' centres in metres; `NOWHERE` for those that are not there.
        halves: float32 (OBJECTS, 3), half of their extents: a sphere's are its radius, a cylinder's its radius
            and half its height.
        yaws: float32 (OBJECTS,), turn about z in radians; boxes only.
        materials: of all surfaces.
        doors: float32 (4,), where along each wall the middle of its door is, in metres.
        door_color, skirting_color: float32 (3,), BGR.
        lamp: float32 (3,), position in metres. ambient: share of the light that comes from everywhere.
    """

    size: Array
    centers: Array
    halves: Array
    yaws: Array
    materials: Materials
    doors: Array
    door_color: Array
    skirting_color: Array
    lamp: Array
    ambient: float


@dataclass(frozen=True)
class Way:
    """A camera's smooth path through a room: a sum of circles with different periods.

    Attributes:
        middle: (x, y) in metres. radius_m: how far from it the way leads.
        height_m, pitch_rad: of the camera. heading_rad: where it looks at the start, from x to y.
        phases: three starting angles in radians. turn_rad_per_s, pace_rad_per_s: of the heading and along the way.
    """

    middle: tuple[float, float]
    radius_m: float
    height_m: float
    pitch_rad: float
    heading_rad: float
    phases: tuple[float, float, float]
    turn_rad_per_s: float
    pace_rad_per_s: float

    def pose(self, time_s: float) -> tuple[Array, Array]:
        """Return position (3,) and rotation (3, 3), camera's optical frame to world, float32."""
        along = self.pace_rad_per_s * time_s
        x = self.middle[0] + self.radius_m * math.sin(along + self.phases[0]) * 0.7
        y = self.middle[1] + self.radius_m * math.sin(1.3 * along + self.phases[1]) * 0.7
        heading = self.heading_rad + self.turn_rad_per_s * time_s + 0.2 * math.sin(1.7 * along + self.phases[2])
        return np.array([x, y, self.height_m], np.float32), optical_rotation(heading, self.pitch_rad)


def optical_rotation(heading_rad: float, pitch_rad: float) -> Array:
    """Rotation (3, 3) from the optical frame (REP 103: x right, y down, z ahead) to the world, without roll."""
    ahead = (math.cos(heading_rad) * math.cos(pitch_rad), math.sin(heading_rad) * math.cos(pitch_rad))
    z = np.array([*ahead, -math.sin(pitch_rad)])
    x = np.array([math.sin(heading_rad), -math.cos(heading_rad), 0.0])
    return np.stack([x, np.cross(z, x), z], axis=1).astype(np.float32)


def draw_scene(rng: np.random.Generator, ranges: SceneRanges = RANGES) -> Scene:
    """Draw a room with a free space of `wander_m + clearance_m` around its middle, and what stands in it."""
    size = np.array([ranges.room_m.draw(rng), ranges.room_m.draw(rng), ranges.room_height_m], np.float32)
    centers, halves, yaws = _place_objects(rng, size, ranges)
    lamp = [size[0] / 2 + rng.uniform(-1.5, 1.5), size[1] / 2 + rng.uniform(-1.5, 1.5), size[2] - 0.2]
    return Scene(
        size=size,
        centers=centers,
        halves=halves,
        yaws=yaws,
        materials=_draw_materials(rng),
        doors=np.array([rng.uniform(0.6, length - 0.6) for length in size[[1, 1, 0, 0]]], np.float32),
        door_color=_color(rng, 0.15, 0.6),
        skirting_color=_color(rng, 0.1, 0.9),
        lamp=np.array(lamp, np.float32),
        ambient=float(rng.uniform(0.35, 0.6)),
    )


def draw_way(rng: np.random.Generator, scene: Scene, ranges: SceneRanges = RANGES) -> Way:
    """Draw a camera's way around the middle of a room."""
    return Way(
        middle=(float(scene.size[0]) / 2, float(scene.size[1]) / 2),
        radius_m=float(rng.uniform(0.3, 1.0)) * ranges.wander_m,
        height_m=ranges.camera_height_m.draw(rng),
        pitch_rad=math.radians(ranges.pitch_deg.draw(rng)),
        heading_rad=float(rng.uniform(-math.pi, math.pi)),
        phases=tuple(rng.uniform(-math.pi, math.pi, 3).tolist()),
        turn_rad_per_s=float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.25)),
        pace_rad_per_s=float(rng.uniform(0.2, 0.5)),
    )


def _place_objects(rng: np.random.Generator, size: Array, ranges: SceneRanges) -> tuple[Array, Array, Array]:
    """Place objects on the floor, clear of each other, of the walls and of the camera's path."""
    centers = np.tile(np.array(NOWHERE, np.float32), (OBJECTS, 1))
    halves, yaws = _draw_sizes(rng), rng.uniform(-math.pi, math.pi, OBJECTS).astype(np.float32)
    yaws[BOXES:] = 0
    footprints = np.hypot(halves[:, 0], halves[:, 1])
    taken = [(size[0] / 2, size[1] / 2, ranges.wander_m + ranges.clearance_m)]
    count = int(rng.integers(ranges.objects[0], ranges.objects[1] + 1))
    for index in rng.permutation(OBJECTS)[:count]:
        reach = float(footprints[index])
        for _ in range(PLACING_ATTEMPTS):
            x, y = rng.uniform(reach, size[:2] - reach)
            if all(math.hypot(x - tx, y - ty) > reach + other for tx, ty, other in taken):
                centers[index] = x, y, halves[index, 2]
                taken.append((x, y, reach))
                break
    return centers, halves, yaws


def _draw_sizes(rng: np.random.Generator) -> Array:
    boxes = [np.array(BOX_SIZES_M[i]) / 2 for i in rng.integers(len(BOX_SIZES_M), size=BOXES)]
    spheres = [np.full(3, SPHERE_RADII_M[i]) for i in rng.integers(len(SPHERE_RADII_M), size=SPHERES)]
    sizes = [CYLINDER_SIZES_M[i] for i in rng.integers(len(CYLINDER_SIZES_M), size=CYLINDERS)]
    cylinders = [np.array([radius, radius, height / 2]) for radius, height in sizes]
    return np.array([*boxes, *spheres, *cylinders], np.float32)


def _draw_materials(rng: np.random.Generator) -> Materials:
    wall = WALL_PATTERNS[rng.integers(len(WALL_PATTERNS))]
    objects = [OBJECT_PATTERNS[i] for i in rng.integers(len(OBJECT_PATTERNS), size=OBJECTS)]
    patterns = [(CHECKS, FLOOR_TILE_M), (NOISE, 0.5), wall, wall, wall, wall, *objects]
    firsts = [_color(rng, 0.45, 0.95), _color(rng, 0.8, 0.95), *[_color(rng, 0.45, 0.95)] * 4]
    firsts += [_color(rng, 0.1, 0.95) for _ in range(OBJECTS)]
    # The second colour is the first one darker or lighter, or for objects any other.
    seconds = [np.clip(color * rng.uniform(0.45, 0.8), 0, 1) for color in firsts[:SURFACES]]
    seconds[CEILING] = firsts[CEILING] * 0.95
    seconds[FIRST_WALL:SURFACES] = [firsts[FIRST_WALL] * rng.uniform(0.6, 0.9)] * 4
    seconds += [_color(rng, 0.1, 0.95) for _ in range(OBJECTS)]
    return Materials(
        pattern=np.array([pattern for pattern, _ in patterns]),
        size_m=np.array([size for _, size in patterns], np.float32),
        first=np.array(firsts, np.float32),
        second=np.array(seconds, np.float32),
    )


def _color(rng: np.random.Generator, low: float, high: float) -> Array:
    """A colour of a drawn brightness with a moderate tint."""
    grey = rng.uniform(low, high)
    return np.clip(grey * rng.uniform(0.7, 1.3, 3), 0, 1).astype(np.float32)
