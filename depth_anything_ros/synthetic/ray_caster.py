"""A ray caster in torch: many scenes and all their pixels at once, on the device of the rays.

Shapes: B scenes, N objects, P pixels. Vectors have their component first, (3, B, ..., P), so that every
operation runs over long rows. A ray is its origin plus t times its direction; camera rays have a direction
with z = 1 in the optical frame, so that t is the depth along the optical axis (REP 118), exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from depth_anything_ros.synthetic.scenes import (
    BOXES,
    CHECKS,
    CYLINDERS,
    FIRST_WALL,
    NOISE,
    OBJECTS,
    SPHERES,
    STRIPES,
    SURFACES,
    Scene,
)

NUDGE_M = 1e-3  # keeps a shadow ray off the surface it starts from
BRICK_ASPECT = 3.0
MORTAR = 0.08  # of a brick's height
DOOR_HALF_WIDTH_M, DOOR_HEIGHT_M, SKIRTING_M = 0.45, 2.0, 0.1
NOISE_TABLE = 64
NOISE_SEED = 0
TOP_TOLERANCE = 1e-4  # of a cylinder's half height
LAMP_REACH_M = 6.0  # distance at which the lamp's light has fallen to half


@dataclass(frozen=True)
class SceneBatch:
    """The fields of `scenes.Scene`, stacked: float32 (B, ...) on one device."""

    size: Tensor
    centers: Tensor
    halves: Tensor
    cos: Tensor
    sin: Tensor
    pattern: Tensor
    pattern_size: Tensor
    first: Tensor
    second: Tensor
    doors: Tensor
    door_color: Tensor
    skirting_color: Tensor
    lamp: Tensor
    ambient: Tensor
    noise: Tensor


def stack_scenes(scenes: Sequence[Scene], device: torch.device | str = "cpu") -> SceneBatch:
    """Put scenes on a device, as one batch."""

    def stacked(arrays: Sequence[ArrayLike]) -> Tensor:
        return torch.as_tensor(np.stack([np.asarray(array) for array in arrays]), device=device)

    materials, yaws = [scene.materials for scene in scenes], [scene.yaws for scene in scenes]
    noise = np.random.default_rng(NOISE_SEED).random(NOISE_TABLE * NOISE_TABLE, dtype=np.float32)
    return SceneBatch(
        size=stacked([scene.size for scene in scenes]),
        centers=stacked([scene.centers for scene in scenes]),
        halves=stacked([scene.halves for scene in scenes]),
        cos=stacked([np.cos(yaw) for yaw in yaws]),
        sin=stacked([np.sin(yaw) for yaw in yaws]),
        pattern=stacked([material.pattern for material in materials]),
        pattern_size=stacked([material.size_m for material in materials]),
        first=stacked([material.first for material in materials]),
        second=stacked([material.second for material in materials]),
        doors=stacked([scene.doors for scene in scenes]),
        door_color=stacked([scene.door_color for scene in scenes]),
        skirting_color=stacked([scene.skirting_color for scene in scenes]),
        lamp=stacked([scene.lamp for scene in scenes]),
        ambient=stacked([np.float32(scene.ambient) for scene in scenes]),
        noise=torch.as_tensor(noise, device=device),
    )


def cast(scenes: SceneBatch, positions: Tensor, rotations: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Look into scenes.

    Args:
        positions: (B, 3), of the cameras in the world, metres. rotations: (B, 3, 3), optical frame to world.
        rays: (3, B, P) in the optical frame, z = 1.

    Returns:
        Colours (3, B, P), BGR in [0, 1], lit by a lamp with shadows; and depth (B, P) in metres along the
        optical axis.
    """
    origin = positions.T[:, :, None]
    direction = torch.einsum("bij,jbp->ibp", rotations, rays)
    depth, surface = nearest(scenes, origin, direction)
    points = origin + depth * direction
    normals, u, v = surface_coordinates(scenes, points, surface)
    colors = pattern_colors(scenes, surface, u, v)
    return colors * lamp_light(scenes, points, normals), depth


def nearest(scenes: SceneBatch, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return t (B, P) to the first surface on each ray, and the surface's index, int64 (B, P)."""
    t, hit = object_distances(scenes, origin, direction).min(dim=1)
    size = scenes.size.T[:, :, None]
    # From inside, a ray leaves the room by the plane ahead; the maximum also holds for rays along a wall.
    leaving = torch.maximum(-origin / direction, (size - origin) / direction)
    room, axis = leaving.min(dim=0)
    component = torch.gather(direction, 0, axis[None])[0]
    upper = (component > 0).long()
    wall = torch.where(axis == 2, upper, FIRST_WALL + 2 * axis + upper)
    return torch.minimum(t, room), torch.where(t < room, hit + SURFACES, wall)


def object_distances(scenes: SceneBatch, origin: Tensor, direction: Tensor) -> Tensor:
    """t (B, N, P) at which rays, (3, B, P or 1) and (3, B, P), enter each object; inf where they do not."""
    offset = origin[:, :, None] - scenes.centers.permute(2, 0, 1)[..., None]
    direction = direction[:, :, None].expand(-1, -1, OBJECTS, -1)
    halves = scenes.halves.permute(2, 0, 1)[..., None]
    kinds = [BOXES, SPHERES, CYLINDERS]
    offsets, directions, sizes = (torch.split(vectors, kinds, dim=2) for vectors in (offset, direction, halves))
    cos, sin = scenes.cos[:, :BOXES, None], scenes.sin[:, :BOXES, None]
    boxes = _enter_box(_turn(offsets[0], cos, sin), _turn(directions[0], cos, sin), sizes[0])
    spheres = _enter_sphere(offsets[1], directions[1], sizes[1][0])
    cylinders = _enter_cylinder(offsets[2], directions[2], sizes[2])
    return torch.cat([boxes, spheres, cylinders], dim=1)


def _turn(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (3, ...) about z from the world into an object's frame."""
    x, y, z = vectors
    return torch.stack([cos * x + sin * y, cos * y - sin * x, z])


def _enter_box(offset: Tensor, direction: Tensor, halves: Tensor) -> Tensor:
    """Slab method (Kay and Kajiya 1986)."""
    inverse = 1.0 / direction
    middle, reach = -offset * inverse, halves * inverse.abs()
    enter = (middle - reach).amax(dim=0)
    leave = (middle + reach).amin(dim=0)
    return torch.where((enter < leave) & (enter > 0), enter, torch.inf)


def _enter_sphere(offset: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    a = (direction * direction).sum(dim=0)
    b = (offset * direction).sum(dim=0)
    c = (offset * offset).sum(dim=0) - radius * radius
    root = b * b - a * c
    enter = (-b - root.clamp(min=0).sqrt()) / a
    return torch.where((root > 0) & (enter > 0), enter, torch.inf)


def _enter_cylinder(offset: Tensor, direction: Tensor, halves: Tensor) -> Tensor:
    """An upright cylinder: a circle in the plane, cut by the slab between bottom and top."""
    (x, y, z), (dx, dy, dz), radius = offset, direction, halves[0]
    a = dx * dx + dy * dy
    b = x * dx + y * dy
    root = b * b - a * (x * x + y * y - radius * radius)
    half = root.clamp(min=0).sqrt()
    middle, reach = -z / dz, halves[2] / dz.abs()
    enter = torch.maximum((-b - half) / a, middle - reach)
    leave = torch.minimum((-b + half) / a, middle + reach)
    return torch.where((root > 0) & (enter < leave) & (enter > 0), enter, torch.inf)


def surface_coordinates(scenes: SceneBatch, points: Tensor, surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit normals (3, B, P) of points (3, B, P) on surfaces, and metric coordinates u, v (B, P) there.

    v is the height wherever a surface is upright.
    """
    index = (surface - SURFACES).clamp(min=0)
    cos, sin = torch.gather(scenes.cos, 1, index), torch.gather(scenes.sin, 1, index)
    center = torch.stack([torch.gather(scenes.centers[..., i], 1, index) for i in range(3)])
    half = torch.stack([torch.gather(scenes.halves[..., i], 1, index) for i in range(3)])
    local = _turn(points - center, cos, sin)
    is_room, is_box, is_sphere = surface < SURFACES, index < BOXES, index < BOXES + SPHERES

    # Flat faces: of boxes, of the room (seen from inside), and a cylinder's top.
    size = scenes.size.T[:, :, None]
    flat = torch.where(is_room, points - size / 2, local)
    extent = torch.where(is_room, size / 2, half)
    nearness = flat.abs() / extent
    on_top = nearness[2] > 1 - TOP_TOLERANCE
    axis = torch.where(is_room | is_box, nearness.max(dim=0).indices, 2)  # argmax takes ten times as long
    sign = torch.where(torch.gather(flat, 0, axis[None])[0] > 0, 1.0, -1.0)
    sign = torch.where(is_room, -sign, sign)
    x, y, z = (torch.where(axis == i, sign, 0.0) for i in range(3))
    turned_x, turned_y = cos * x - sin * y, sin * x + cos * y
    flat_normal = torch.stack([torch.where(is_room, x, turned_x), torch.where(is_room, y, turned_y), z])
    corner = torch.where(is_room, points, local)
    flat_u = torch.where(axis == 0, corner[1], corner[0])
    flat_v = torch.where(axis == 2, corner[1], points[2])

    # Round ones: u is the length of the arc.
    round_normal = torch.stack([local[0], local[1], torch.where(is_sphere, local[2], 0.0)]) / half[0]
    round_u = torch.atan2(local[1], local[0]) * half[0]
    is_flat = is_room | is_box | (~is_sphere & on_top)
    normals = torch.where(is_flat, flat_normal, round_normal)
    return normals, torch.where(is_flat, flat_u, round_u), torch.where(is_flat, flat_v, points[2])


def pattern_colors(scenes: SceneBatch, surface: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Colours (3, B, P) of surfaces at (u, v), before light falls on them."""
    size = torch.gather(scenes.pattern_size, 1, surface)
    pattern = torch.gather(scenes.pattern, 1, surface)
    column, row = u / size, v / size
    checks = (column.floor() + row.floor()) % 2
    stripes = column.floor() % 2
    brick = column / BRICK_ASPECT + 0.5 * (row.floor() % 2)
    mortar = ((brick - brick.floor() < MORTAR / BRICK_ASPECT) | (row - row.floor() < MORTAR)).float()
    mix = torch.where(pattern == CHECKS, checks, torch.where(pattern == STRIPES, stripes, mortar))
    mix = torch.where(pattern == NOISE, value_noise(scenes.noise, column, row), mix)
    first, second = (
        torch.stack([torch.gather(color[..., i], 1, surface) for i in range(3)])
        for color in (scenes.first, scenes.second)
    )
    return _doors_and_skirting(scenes, surface, u, v, first + mix * (second - first))


def _doors_and_skirting(scenes: SceneBatch, surface: Tensor, u: Tensor, v: Tensor, colors: Tensor) -> Tensor:
    on_wall = (surface >= FIRST_WALL) & (surface < SURFACES)
    door = torch.gather(scenes.doors, 1, (surface - FIRST_WALL).clamp(0, 3))
    in_door = on_wall & ((u - door).abs() < DOOR_HALF_WIDTH_M) & (v < DOOR_HEIGHT_M)
    colors = torch.where(on_wall & (v < SKIRTING_M), scenes.skirting_color.T[..., None], colors)
    return torch.where(in_door, scenes.door_color.T[..., None], colors)


def value_noise(table: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Smooth noise in [0, 1] between random numbers on a grid of unit size, which repeats after `NOISE_TABLE`."""
    column, row = x.floor(), y.floor()
    fx, fy = x - column, y - row
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    left, top = column.long() % NOISE_TABLE, row.long() % NOISE_TABLE
    right, bottom = (left + 1) % NOISE_TABLE, (top + 1) % NOISE_TABLE
    upper = torch.lerp(table[top * NOISE_TABLE + left], table[top * NOISE_TABLE + right], fx)
    lower = torch.lerp(table[bottom * NOISE_TABLE + left], table[bottom * NOISE_TABLE + right], fx)
    return torch.lerp(upper, lower, fy)


def lamp_light(scenes: SceneBatch, points: Tensor, normals: Tensor) -> Tensor:
    """Light (B, P) at points: ambient light, and the lamp's where nothing blocks it."""
    start = points + NUDGE_M * normals
    to_lamp = scenes.lamp.T[:, :, None] - start
    free = object_distances(scenes, start, to_lamp).amin(dim=1) > 1.0
    squared = (to_lamp * to_lamp).sum(dim=0)
    facing = (normals * to_lamp).sum(dim=0).clamp(min=0) * squared.rsqrt()
    reaching = facing * free / (1 + squared / LAMP_REACH_M**2)
    return scenes.ambient[:, None] + (1.2 - scenes.ambient[:, None]) * reaching
