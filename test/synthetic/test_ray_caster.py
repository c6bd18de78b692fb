"""Rays meet what geometry says they meet: every pixel against closed forms, in double precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from depth_anything_ros.synthetic.ray_caster import (
    SceneBatch,
    cast,
    lamp_light,
    nearest,
    stack_scenes,
    surface_coordinates,
)
from depth_anything_ros.synthetic.scenes import (
    BOXES,
    FLOOR,
    FLOOR_TILE_M,
    NOWHERE,
    OBJECTS,
    SPHERES,
    SURFACES,
    Scene,
    draw_scene,
    draw_way,
    optical_rotation,
)

WIDTH, HEIGHT, FOCAL_LENGTH_PX = 96, 72, 75.0
FIRST_SPHERE, FIRST_CYLINDER = BOXES, BOXES + SPHERES
# Of the depth; float32 loses digits where a ray grazes a surface.
TOLERANCE = 2e-5

Array = NDArray[np.float64]
EYE = np.array([3.0, 2.5, 1.0], np.float32)
SIZE = np.array([6.0, 5.0, 2.6], np.float32)


def pixel_rays() -> Array:
    """(P, 3) in the optical frame, z = 1."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].reshape(2, -1)
    x, y = (u - (WIDTH - 1) / 2) / FOCAL_LENGTH_PX, (v - (HEIGHT - 1) / 2) / FOCAL_LENGTH_PX
    return np.stack([x, y, np.ones_like(x)], axis=1)


def look(scene: Scene, rotation: NDArray[np.float32], eye: NDArray[np.float32] = EYE) -> tuple[Array, Array, Array]:
    """Depth (P,), colours (P, 3), and the rays' directions in the world (P, 3)."""
    rays = torch.from_numpy(pixel_rays().T[:, None].astype(np.float32))
    colors, depth = cast(stack_scenes([scene]), torch.from_numpy(eye)[None], torch.from_numpy(rotation)[None], rays)
    directions = pixel_rays() @ rotation.astype(np.float64).T
    return depth[0].numpy().astype(np.float64), colors[:, 0].numpy().T, directions


def room(**placed: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Scene:
    """A room of `SIZE`, empty but for a box, sphere or cylinder: center and halves, in metres."""
    scene = draw_scene(np.random.default_rng(5))
    centers, halves = np.tile(np.array(NOWHERE, np.float32), (OBJECTS, 1)), scene.halves.copy()
    for kind, (center, half) in placed.items():
        index = {"box": 0, "sphere": FIRST_SPHERE, "cylinder": FIRST_CYLINDER}[kind]
        centers[index], halves[index] = center, half
    lamp = np.array([3.0, 2.5, 2.4], np.float32)
    return replace(scene, size=SIZE, centers=centers, halves=halves, yaws=scene.yaws * 0, lamp=lamp)


def room_depth(directions: Array, eye: NDArray[np.float32] = EYE) -> Array:
    """Depth of the room's six planes: the nearest one ahead."""
    with np.errstate(divide="ignore"):
        planes = np.concatenate([(0 - eye) / directions, (SIZE - eye) / directions], axis=1)
    return np.asarray(np.where(planes > 0, planes, np.inf).min(axis=1))


ANGLES = [(0.3, 0.2), (2.0, 0.0), (-1.2, 0.6), (4.0, -0.5)]  # heading and pitch, radians


@pytest.mark.parametrize(("heading", "pitch"), ANGLES)
def test_walls_floor_and_ceiling_are_where_their_planes_are_in_every_pixel(heading: float, pitch: float) -> None:
    depth, _, directions = look(room(), optical_rotation(heading, pitch))
    np.testing.assert_allclose(depth, room_depth(directions), rtol=TOLERANCE)


def test_a_ray_along_a_wall_meets_the_wall_ahead() -> None:
    rotation = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], np.float32)  # straight along x, level, exactly
    rays = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1)
    _, depth = cast(stack_scenes([room()]), torch.from_numpy(EYE)[None], torch.from_numpy(rotation)[None], rays)
    assert depth.item() == pytest.approx(SIZE[0] - EYE[0])


@pytest.mark.parametrize(("heading", "pitch"), ANGLES)
def test_a_sphere_is_where_its_equation_says_in_every_pixel(heading: float, pitch: float) -> None:
    rotation = optical_rotation(heading, pitch)
    center = EYE + 1.4 * rotation[:, 2] + 0.2 * rotation[:, 0]
    radius = 0.45
    depth, _, directions = look(room(sphere=(tuple(center.tolist()), (radius,) * 3)), rotation)
    offset = EYE.astype(np.float64) - center
    a, b, c = (directions**2).sum(1), directions @ offset, offset @ offset - radius**2
    root = b * b - a * c
    entering = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    expected = np.minimum(entering, room_depth(directions))
    at_rim = np.abs(root) < 1e-5  # there, a rounding error decides between hit and miss
    assert at_rim.mean() < 0.005
    assert (entering < np.inf).mean() > 0.1
    np.testing.assert_allclose(depth[~at_rim], expected[~at_rim], rtol=1e-4)


@pytest.mark.parametrize("kind", ["box", "cylinder"])
@pytest.mark.parametrize(("heading", "pitch"), ANGLES)
def test_boxes_and_cylinders_are_entered_at_their_surface_and_not_before(
    kind: str, heading: float, pitch: float
) -> None:
    rotation = optical_rotation(heading, pitch)
    center, half = EYE + 1.3 * rotation[:, 2], (0.3, 0.3, 0.4)
    depth, _, directions = look(room(**{kind: (tuple(center.tolist()), half)}), rotation)

    def outside(t: Array) -> Array:
        """1 on the solid's surface, more outside of it."""
        x, y, z = ((EYE + t[:, None] * directions - center) / half).T
        return np.asarray(np.maximum(np.maximum(abs(x), abs(y)) if kind == "box" else np.hypot(x, y), abs(z)))

    on_it = depth < room_depth(directions) * (1 - 1e-4)
    assert on_it.mean() > 0.05
    np.testing.assert_allclose(outside(depth)[on_it], 1.0, atol=2e-4)
    np.testing.assert_allclose(depth[~on_it], room_depth(directions)[~on_it], rtol=TOLERANCE)
    for share in np.linspace(0.02, 0.98, 25):  # nothing on the way there was inside
        assert outside(depth * share).min() > 1 - 1e-3


def test_a_turned_box_is_the_same_box_seen_from_the_other_side() -> None:
    rotation, turn = optical_rotation(0.4, 0.2), 0.7
    center = EYE + 1.3 * rotation[:, 2]
    scene = room(box=(tuple(center.tolist()), (0.3, 0.2, 0.4)))
    yaws = scene.yaws.copy()
    yaws[0] = turn
    turned, _, _ = look(replace(scene, yaws=yaws), rotation)
    about = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    eye = (about @ (EYE - center) + center).astype(np.float32)
    plain, _, directions = look(scene, (about @ rotation).astype(np.float32), eye)
    on_it = plain < room_depth(directions, eye) * (1 - 1e-4)
    assert on_it.mean() > 0.05
    np.testing.assert_allclose(turned[on_it], plain[on_it], rtol=1e-3)


def surfaces(scene: Scene, rotation: NDArray[np.float32]) -> tuple[SceneBatch, torch.Tensor, torch.Tensor]:
    """The batch, and each pixel's point (3, 1, P) and surface (1, P)."""
    batch, origin = stack_scenes([scene]), torch.from_numpy(EYE)[:, None, None]
    direction = torch.from_numpy((pixel_rays() @ rotation.T).T[:, None].astype(np.float32))
    depth, surface = nearest(batch, origin, direction)
    return batch, origin + depth * direction, surface


@pytest.mark.parametrize("seed", range(4))
def test_normals_are_unit_vectors_that_face_the_camera(seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed))
    position, rotation = draw_way(np.random.default_rng(seed), scene).pose(0.0)
    batch, origin = stack_scenes([scene]), torch.from_numpy(position)[:, None, None]
    direction = torch.from_numpy((pixel_rays() @ rotation.T).T[:, None].astype(np.float32))
    depth, surface = nearest(batch, origin, direction)
    normals, _, _ = surface_coordinates(batch, origin + depth * direction, surface)
    torch.testing.assert_close(normals.norm(dim=0), torch.ones_like(depth), rtol=0, atol=2e-3)
    assert ((normals * direction).sum(dim=0) < 1e-3).all()
    assert (surface >= SURFACES).any()


def test_floor_tiles_have_their_stated_size() -> None:
    rotation = optical_rotation(0.3, 0.5)
    scene = room()
    batch, points, surface = surfaces(scene, rotation)
    _, colors, _ = look(scene, rotation)
    floor = (surface[0] == FLOOR).numpy()
    x, y, _ = points[:, 0].numpy()
    light = lamp_light(batch, points, torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand_as(points))[0].numpy()
    odd = (np.floor(x / FLOOR_TILE_M) + np.floor(y / FLOOR_TILE_M)) % 2 == 1
    expected = np.where(odd[:, None], scene.materials.second[FLOOR], scene.materials.first[FLOOR]) * light[:, None]
    assert 0.3 < odd[floor].mean() < 0.7
    np.testing.assert_allclose(colors[floor], expected[floor], atol=1e-5)


def test_the_lamp_does_not_reach_what_lies_behind_a_sphere() -> None:
    center, radius = np.array([2.6, 2.4, 1.2]), 0.3
    scene = room(sphere=(tuple(center.tolist()), (radius,) * 3))
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(0.5, 5.5, 60), np.linspace(0.5, 4.5, 60)))
    points = np.stack([x, y, np.zeros_like(x)])
    upward = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 1, x.size)
    light = lamp_light(stack_scenes([scene]), torch.from_numpy(points[:, None].astype(np.float32)), upward)[0].numpy()
    to_lamp = scene.lamp[:, None] - points
    along = (to_lamp * (center[:, None] - points)).sum(0) / (to_lamp**2).sum(0)
    miss = np.linalg.norm(points + along * to_lamp - center[:, None], axis=0)
    hidden, clear = miss < 0.98 * radius, miss > 1.02 * radius
    assert hidden.sum() > 20
    np.testing.assert_allclose(light[hidden], scene.ambient, rtol=1e-6)
    assert (light[clear] > scene.ambient).all()


def test_a_batch_is_its_scenes_one_by_one() -> None:
    scenes = [draw_scene(np.random.default_rng(seed)) for seed in range(3)]
    poses = [draw_way(np.random.default_rng(9), scene).pose(2.0) for scene in scenes]
    positions, rotations = (torch.from_numpy(np.stack(parts)) for parts in zip(*poses, strict=True))
    rays = torch.from_numpy(pixel_rays().T[:, None].astype(np.float32)).expand(-1, 3, -1)
    colors, depth = cast(stack_scenes(scenes), positions, rotations, rays)
    for i, scene in enumerate(scenes):
        alone = cast(stack_scenes([scene]), positions[i : i + 1], rotations[i : i + 1], rays[:, :1])
        torch.testing.assert_close((colors[:, i], depth[i]), (alone[0][:, 0], alone[1][0]))
