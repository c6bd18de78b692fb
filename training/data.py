"""Batches of rendered rooms, drawn fresh for every step: no picture is used twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.model.preprocess import normalise
from depth_anything_ros.synthetic.ray_caster import SceneBatch, cast, stack_scenes
from depth_anything_ros.synthetic.scenes import Range, SceneRanges, draw_scene, draw_way

# Every random stream starts with its own number, so the seeds of two streams never coincide.
TRAINING_STREAM = 1
FRAME_ASPECT = 640 / 480
# A little wider than the ranges that the model card states: a network is worst at the edges of its training data.
RANGES = SceneRanges(
    room_m=Range(4.8, 9.5), camera_height_m=Range(0.88, 1.12), pitch_deg=Range(7.0, 17.0), focal_ratio=Range(0.72, 0.88)
)
MAX_TIME_S = 120.0

Caster = Callable[[SceneBatch, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """Normalised RGB pictures (B, 3, h, w) and their depth in metres (B, h, w), float32."""

    images: Tensor
    depth: Tensor


class RenderedRooms:
    """Draws batches of a size from a seed; `caster` is `ray_caster.cast`, compiled or not."""

    def __init__(self, seed: int, device: torch.device, caster: Caster = cast) -> None:
        self._seed = seed
        self._device = device
        self._caster = caster

    def batch(self, step: int, count: int, size: tuple[int, int]) -> Batch:
        """Render `count` pictures of (h, w) for a step; the same step always gives the same ones."""
        rng = np.random.default_rng([TRAINING_STREAM, self._seed, step])
        generator = torch.Generator(self._device).manual_seed(int(rng.integers(2**62)))
        scenes = [draw_scene(rng, RANGES) for _ in range(count)]
        ways = [draw_way(rng, scene, RANGES) for scene in scenes]
        positions, rotations = zip(*(way.pose(rng.uniform(0, MAX_TIME_S)) for way in ways), strict=True)
        colors, depth = self._caster(
            stack_scenes(scenes, self._device),
            torch.as_tensor(np.stack(positions), device=self._device),
            torch.as_tensor(np.stack(rotations), device=self._device),
            camera_rays(rng, count, size).to(self._device),
        )
        images = photograph(colors.transpose(0, 1).reshape(count, 3, *size), generator)
        return Batch(normalise(images), depth.reshape(count, *size))


def camera_rays(rng: np.random.Generator, count: int, size: tuple[int, int]) -> Tensor:
    """Rays (3, count, h * w), z = 1, of drawn cameras: focal length, principal point, and a little lens distortion.

    They pass where the resize of a 4:3 picture to (h, w) takes its samples.
    """
    height, width = size
    focal = rng.uniform(RANGES.focal_ratio.low, RANGES.focal_ratio.high, count) * width
    focal_y = focal * height / width * FRAME_ASPECT
    cx = (width - 1) / 2 + rng.normal(0, 0.01, count) * width
    cy = (height - 1) / 2 + rng.normal(0, 0.01, count) * height
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    x = (u.reshape(1, -1) - cx[:, None]) / focal[:, None]
    y = (v.reshape(1, -1) - cy[:, None]) / focal_y[:, None]
    k1 = (rng.uniform(-0.2, 0.05, count) * (rng.random(count) < 0.4))[:, None]
    ray_x, ray_y = x, y
    for _ in range(6):  # the fixed point of x = ray_x * (1 + k1 r^2)
        stretch = 1 + k1 * (ray_x**2 + ray_y**2)
        ray_x, ray_y = x / stretch, y / stretch
    return torch.from_numpy(np.stack([ray_x, ray_y, np.ones_like(ray_x)]).astype(np.float32))


def photograph(colors: Tensor, generator: torch.Generator) -> Tensor:
    """Simulate cameras on BGR (B, 3, h, w) in [0, 1]: exposure, white balance, gamma, blur, grain, 8 bits."""

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        uniform = torch.rand(shape, generator=generator, device=colors.device)
        return low + (high - low) * uniform

    count = colors.shape[0]
    images = colors * drawn(0.7, 1.2, count, 1, 1, 1) * drawn(0.92, 1.08, count, 3, 1, 1)
    images = images.clamp(0, 1) ** drawn(0.8, 1.25, count, 1, 1, 1)
    blur = drawn(0.0, 0.2, count, 1, 1, 1) * (drawn(0, 1, count, 1, 1, 1) < 0.5)
    around = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    images = torch.lerp(images, around, blur * 3)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return ((images + noise * drawn(0.0, 0.03, count, 1, 1, 1)).clamp(0, 1) * 255).round()
