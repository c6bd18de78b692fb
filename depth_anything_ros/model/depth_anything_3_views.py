"""Depth Anything 3 (Lin et al. 2025, arXiv:2511.10647): DA3-SMALL and DA3-BASE, given one view.

The official models take several views of a scene; here there is always one. From a third of its depth on the encoder
has a camera token, normalised queries and keys, and rotary positions, and every odd block there is "global": made to
look across views, it tells patches of one view apart by content alone. The head gives depth and confidence; the camera
token gives the field of view. Parts of the checkpoints that one view does not need (rays, the camera encoder) are not
built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import Attention, Block, DINOv2
from depth_anything_ros.model.dpt import DPTHead, run_branch
from depth_anything_ros.model.registry import NETWORKS, PATCH_SIZE, EncoderSpec

NORM_EPS = 1e-5  # of all normalisations that V2 does not have
ROTARY_BASE = 100.0
EMBEDDING_BASE = 100.0
EMBEDDING_WEIGHT = 0.1
VIEWS_OF_CAMERA_TOKEN = 2  # one for the first view, one for all others

Rotation = tuple[Tensor, Tensor]  # cosines and sines, each (tokens, head_dim)


class RotaryAttention(Attention):
    """Attention with normalised queries and keys, rotated by their token's row and column."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads)
        self.q_norm = nn.LayerNorm(dim // num_heads, eps=NORM_EPS)
        self.k_norm = nn.LayerNorm(dim // num_heads, eps=NORM_EPS)

    def rotated(self, x: Tensor, rotation: Rotation) -> Tensor:
        query, key, value = self.split(x)
        query, key = rotate(self.q_norm(query), rotation), rotate(self.k_norm(key), rotation)
        return self.attend(query, key, value)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate pairs of values of (B, heads, tokens, head_dim): j with j + quarter, in each half of head_dim."""
    cosines, sines = rotation
    first, second = x.view(*x.shape[:-1], 2, 2, -1).unbind(-2)  # each (B, heads, tokens, 2, quarter)
    swapped = torch.stack((-second, first), dim=-2).flatten(-3)
    return x * cosines + swapped * sines


def rotation_by(positions: Tensor, head_dim: int) -> Rotation:
    """Positions (tokens, 2), row and column -> their rotation. The first half of head_dim turns by the row."""
    quarter = head_dim // 4
    steps = torch.arange(quarter, device=positions.device, dtype=torch.float32)
    angles = positions[:, :, None] * ROTARY_BASE ** (-steps / quarter)  # (tokens, 2, quarter)
    angles = torch.stack((angles, angles), dim=2).flatten(1)
    return angles.cos(), angles.sin()


class RotaryBlock(Block):
    """A block of the encoder with `RotaryAttention`."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads)
        self.attn: RotaryAttention = RotaryAttention(dim, num_heads)

    def rotated(self, x: Tensor, rotation: Rotation) -> Tensor:
        x = x + self.ls1(self.attn.rotated(self.norm1(x), rotation))
        return x + self.ls2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class ViewEncoder(DINOv2):
    """DINOv2 whose later blocks see a camera token in place of the class token, and rotary positions."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec, NORM_EPS)
        self.head_dim = spec.embed_dim // spec.num_heads
        self.rotary_from = spec.depth // 3
        for index in range(self.rotary_from, spec.depth):
            self.blocks[index] = RotaryBlock(spec.embed_dim, spec.num_heads)
        self.camera_token = nn.Parameter(torch.zeros(1, VIEWS_OF_CAMERA_TOKEN, spec.embed_dim))

    def views(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return patch tokens (B, h/14 * w/14, 2 * embed_dim) of each block in `layers`, and the camera's (B, 1, same).

        Each is two sets side by side: what the last even block gave, and what this block gave. The camera's
        are those of the last one.
        """
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        by_place, by_view = self.rotations(rows, columns, x.device, x.dtype)
        x = self.embed(x)
        local, taps = x, []
        for index, block in enumerate(self.blocks):
            if index == self.rotary_from:
                x = torch.cat((self.camera_token[:, :1].expand(x.shape[0], -1, -1), x[:, 1:]), dim=1)
            is_global = index >= self.rotary_from and index % 2 == 1
            x = block.rotated(x, by_view if is_global else by_place) if index >= self.rotary_from else block(x)  # type: ignore[operator]
            local = local if is_global else x
            if index in self.layers:
                taps.append(torch.cat((local, self.norm(x)), dim=-1)[:, 1:])
        return taps, torch.cat((local, x), dim=-1)[:, :1]

    def rotations(self, rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> tuple[Rotation, Rotation]:
        """Rotations by place in the picture, and by view: there all patches have one place. The camera's is (0, 0)."""
        down = torch.arange(1, rows + 1, device=device).repeat_interleave(columns)
        across = torch.arange(1, columns + 1, device=device).repeat(rows)
        patches = torch.stack((down, across), dim=-1)
        camera = torch.zeros_like(patches[:1])
        by_place = rotation_by(torch.cat((camera, patches)), self.head_dim)
        by_view = rotation_by(torch.cat((camera, torch.ones_like(patches))), self.head_dim)
        return _as(by_place, dtype), _as(by_view, dtype)


def _as(rotation: Rotation, dtype: torch.dtype) -> Rotation:
    return rotation[0].to(dtype), rotation[1].to(dtype)


class ConfidenceHead(DPTHead):
    """DPT head with an embedding of each value's place in the picture. Channel 0 is depth, channel 1 is confidence."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec, 2 * spec.embed_dim, channels=2)
        self.norm = nn.LayerNorm(2 * spec.embed_dim, eps=NORM_EPS)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens 4 x (B, rows * columns, 2 * embed_dim) -> float32 (B, 2, rows * 14, columns * 14)."""
        return run_branch(self.scratch.output_conv2, with_places(self.features(tokens, rows, columns), columns / rows))

    def project(self, tokens: Tensor, project: nn.Module, rows: int, columns: int) -> Tensor:
        return with_places(super().project(self.norm(tokens), project, rows, columns), columns / rows)


def with_places(x: Tensor, aspect: float) -> Tensor:
    """Add a sine embedding of each value's place to maps (B, C, h, w) of a picture `aspect` times as wide as high.

    The first half of the channels tells the column, the second the row. The picture's diagonal has the length 2.
    """
    channels, height, width = x.shape[1:]
    diagonal = (aspect**2 + 1) ** 0.5
    across = _waves(aspect / diagonal, width, channels // 4, x)[:, None, :].expand(-1, height, -1)
    down = _waves(1 / diagonal, height, channels // 4, x)[:, :, None].expand(-1, -1, width)
    return x + EMBEDDING_WEIGHT * torch.cat((across, down))


def _waves(extent: float, length: int, frequencies: int, like: Tensor) -> Tensor:
    """Sines, then cosines, (2 * frequencies, length), along a side from -extent to extent, at its pixels' centres."""
    end = extent * (length - 1) / length
    places = torch.linspace(-end, end, length, device=like.device)
    steps = torch.arange(frequencies, device=like.device, dtype=torch.float32)
    angles = places * (EMBEDDING_BASE ** (-steps / frequencies))[:, None]
    return torch.cat((angles.sin(), angles.cos())).to(like.dtype)


class CameraDecoder(nn.Module):
    """Camera tokens (B, 1, width) -> field of view (B, 2), vertical and horizontal, radians."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.fc_fov = nn.Sequential(nn.Linear(width, 2), nn.ReLU())

    def forward(self, camera: Tensor) -> Tensor:
        return self.fc_fov(self.backbone(camera.float())).squeeze(1)  # type: ignore[no-any-return]


class DepthAnything3Views(DepthNetwork):
    """Gives depth up to a factor, more than 0, confidence, more than 1, and the field of view."""

    outputs = NETWORKS["da3_views"].outputs
    any_size = False  # positions are computed from the size while it is exported

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.pretrained: ViewEncoder = ViewEncoder(spec)
        self.depth_head = ConfidenceHead(spec)
        self.cam_dec = CameraDecoder(2 * spec.embed_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps, field_of_view = self._run(x)
        depth, confidence = maps.exp().unbind(1)
        return depth, 1 + confidence, field_of_view

    def before_activation(self, x: Tensor) -> Tensor:
        return self._run(x)[0]

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        tokens, camera = self.pretrained.views(x.to(self.pretrained.pos_embed.dtype))
        return self.depth_head(tokens, rows, columns), self.cam_dec(camera)

    def in_single_precision(self) -> list[nn.Module]:
        return [*super().in_single_precision(), self.cam_dec]
