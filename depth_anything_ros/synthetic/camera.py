"""A camera in a rendered room: pictures with the exact depth of every pixel, from a seed.

    camera = SyntheticCamera(seed=7)
    frame = camera.frame(time_s=1.5)       # frame.image_bgr, frame.depth, camera.model

Rooms, furniture and cameras are drawn from `scenes.SceneRanges`; the same seed gives the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.synthetic.ray_caster import SceneBatch, cast, stack_scenes
from depth_anything_ros.synthetic.scenes import RANGES, SceneRanges, draw_scene, draw_way

# Camera, training and validation each have a random stream: no camera's seed draws a room that training saw.
CAMERA_STREAM = 0
DISTORTIONS: dict[str, tuple[float, ...]] = {"none": (), "plumb_bob": (-0.12, 0.02, 0.0005, -0.0005, 0.0)}
BLUR_SIGMA_PX = 0.6
NOISE = 0.01  # standard deviation, of full scale
CHUNK_PIXELS = 1 << 15  # small enough for the processor's cache


@dataclass(frozen=True)
class SyntheticFrame:
    """One picture and the truth about it.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        depth: float32 (H, W), metres along the optical axis (REP 118), exact; finite everywhere.
        position: float32 (3,), rotation: float32 (3, 3): camera's optical frame to world, metres.
    """

    image_bgr: NDArray[np.uint8]
    depth: NDArray[np.float32]
    position: NDArray[np.float32]
    rotation: NDArray[np.float32]


class SyntheticCamera:
    """A camera that moves through one room.

    Args:
        seed: draws the room, the camera's height, pitch, focal length and way. Not negative.
        width, height: of the pictures, in pixels.
        distortion: name in `DISTORTIONS`.
        device: where the rays are cast.
        ranges: what is drawn from.

    Attributes:
        model: CameraModel of the pictures, lens distortion included.
        scene, way: the room, and the camera's way through it.

    Raises:
        SettingsError: a negative seed, a size that is not positive, or an unknown distortion.
    """

    def __init__(
        self,
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        distortion: str = "none",
        device: torch.device | str = "cpu",
        ranges: SceneRanges = RANGES,
    ) -> None:
        if seed < 0:
            raise SettingsError(f"the seed of a synthetic camera must not be negative, got {seed}")
        if width < 1 or height < 1:
            raise SettingsError(f"pictures must have at least one pixel, got {width}x{height}")
        if distortion not in DISTORTIONS:
            raise SettingsError(f"unknown distortion {distortion!r}; known: {', '.join(DISTORTIONS)}")
        rng = np.random.default_rng([CAMERA_STREAM, seed])
        self.scene = draw_scene(rng, ranges)
        self.way = draw_way(rng, self.scene, ranges)
        focal_length_px = ranges.focal_ratio.draw(rng) * width
        coefficients = DISTORTIONS[distortion]
        self.model = CameraModel(
            focal_length_px,
            focal_length_px,
            *image_center(width, height),
            width,
            height,
            distortion_model="plumb_bob" if coefficients else "",
            distortion=coefficients,
        )
        self._seed = seed
        self._device = torch.device(device)
        self._scenes = stack_scenes([self.scene], self._device)
        self._rays = camera_rays(self.model).to(self._device)

    def frame(self, time_s: float = 0.0) -> SyntheticFrame:
        """Take a picture at a time on the camera's way; the same time always gives the same picture."""
        position, rotation = self.way.pose(time_s)
        generator = torch.Generator(self._device).manual_seed(self._seed * 1_000_003 + round(time_s * 1000))
        with torch.inference_mode():
            colors, depth = render(self._scenes, position, rotation, self._rays)
            shape = (self.model.height, self.model.width)
            image = expose(colors.reshape(3, *shape), generator)
        return SyntheticFrame(image.cpu().numpy(), depth.reshape(shape).cpu().numpy(), position, rotation)


def camera_rays(camera: CameraModel) -> Tensor:
    """Rays (3, H * W) of a camera's pixels, row by row, in its optical frame, z = 1."""
    x, y = np.broadcast_arrays(*camera.rays())
    return torch.from_numpy(np.stack([x, y, np.ones_like(x)]).reshape(3, -1))


def render(
    scenes: SceneBatch, position: NDArray[np.float32], rotation: NDArray[np.float32], rays: Tensor
) -> tuple[Tensor, Tensor]:
    """Cast rays (3, P) into a batch of one scene, some at a time -> colours (3, P) and depth (P)."""
    where = (torch.from_numpy(position).to(rays.device)[None], torch.from_numpy(rotation).to(rays.device)[None])
    parts = [cast(scenes, *where, chunk[:, None]) for chunk in torch.split(rays, CHUNK_PIXELS, dim=1)]
    colors, depth = zip(*parts, strict=True)
    return torch.cat(colors, dim=2)[:, 0], torch.cat(depth, dim=1)[0]


def expose(colors: Tensor, generator: torch.Generator) -> Tensor:
    """Colours (3, H, W), BGR, 0 is black -> a sensor's image: blurred, noisy, uint8 (H, W, 3)."""
    offsets = torch.arange(-1, 2, device=colors.device)
    weights = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA_PX**2))
    kernel = torch.outer(weights, weights)
    kernel = (kernel / kernel.sum()).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(colors[None], (1, 1, 1, 1), mode="replicate"), kernel, groups=3)[0]
    noise = torch.randn(blurred.shape, generator=generator, device=colors.device)
    return ((blurred + NOISE * noise).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
