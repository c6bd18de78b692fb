"""DPT head (Ranftl et al. 2021, arXiv:2103.13413) and Depth Anything V2 (Yang et al. 2024, arXiv:2406.09414).

Parameter names are those of the official checkpoints. The metric head ends in a sigmoid and is
kept at unit scale: the caller multiplies by max_depth. The relative head ends in a ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.model.dinov2 import DINOv2
from depth_anything_ros.model.registry import PATCH_SIZE, EncoderSpec, encoder_spec


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize (B, C, h, w) -> (B, C, *size) with aligned corners, as everywhere in the official head."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))  # type: ignore[no-any-return]


class FeatureFusionBlock(nn.Module):
    """Add the finer level, refine, resize to the next finer level."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, kernel_size=1)
        self.resConfUnit1 = ResidualConvUnit(features)  # refinenet4's is in every checkpoint and unused
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: tuple[int, int]) -> Tensor:
        x = coarse if fine is None else coarse + self.resConfUnit1(fine)
        # A 1x1 convolution and a resize commute; before the resize it costs a quarter.
        return resize(self.out_conv(self.resConfUnit2(x)), size)


class Scratch(nn.Module):
    def __init__(self, features: int, out_channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        level1, level2, level3, level4 = out_channels
        self.layer1_rn = nn.Conv2d(level1, features, kernel_size=3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(level2, features, kernel_size=3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(level3, features, kernel_size=3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(level4, features, kernel_size=3, padding=1, bias=False)
        self.refinenet1 = FeatureFusionBlock(features)
        self.refinenet2 = FeatureFusionBlock(features)
        self.refinenet3 = FeatureFusionBlock(features)
        self.refinenet4 = FeatureFusionBlock(features)
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        # Indices 0 and 2 hold the weights; the activation after them depends on the kind of depth.
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, kernel_size=3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, kernel_size=1)
        )


class DPTHead(nn.Module):
    """Tokens of four blocks -> one channel at the network's input size, before the activation."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        level1, level2, _, level4 = spec.out_channels
        self.projects = nn.ModuleList(nn.Conv2d(spec.embed_dim, width, kernel_size=1) for width in spec.out_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(level1, level1, kernel_size=4, stride=4),
                nn.ConvTranspose2d(level2, level2, kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(level4, level4, kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(spec.features, spec.out_channels)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens 4 x (B, rows * columns, embed_dim) -> float32 (B, 1, rows * 14, columns * 14)."""
        level1, level2, level3, level4 = self.reassemble(tokens, rows, columns)
        path = self.fuse(level1, level2, level3, level4)
        x = resize(self.scratch.output_conv1(path), (rows * PATCH_SIZE, columns * PATCH_SIZE))
        x = F.relu(self.scratch.output_conv2[0](x))
        return self.scratch.output_conv2[2](x.float())  # type: ignore[no-any-return]

    def reassemble(self, tokens: list[Tensor], rows: int, columns: int) -> list[Tensor]:
        """Tokens -> a pyramid at 4, 2, 1 and 1/2 times the patch grid, each level `features` wide."""
        scratch = self.scratch
        narrow = (scratch.layer1_rn, scratch.layer2_rn, scratch.layer3_rn, scratch.layer4_rn)
        # (B, N, C) tokens seen as (B, C, rows, columns) are channels_last without a copy.
        maps = [x.reshape(x.shape[0], rows, columns, -1).permute(0, 3, 1, 2) for x in tokens]
        stages = zip(maps, self.projects, self.resize_layers, narrow, strict=True)
        return [to_features(resized(project(x))) for x, project, resized, to_features in stages]

    def fuse(self, level1: Tensor, level2: Tensor, level3: Tensor, level4: Tensor) -> Tensor:
        """Merge the pyramid from coarse to fine -> (B, features, rows * 8, columns * 8)."""
        path = self.scratch.refinenet4(level4, None, level3.shape[-2:])
        path = self.scratch.refinenet3(path, level3, level2.shape[-2:])
        path = self.scratch.refinenet2(path, level2, level1.shape[-2:])
        finest = (2 * level1.shape[-2], 2 * level1.shape[-1])
        return self.scratch.refinenet1(path, level1, finest)  # type: ignore[no-any-return]


class DepthAnythingV2(nn.Module):
    """Normalised image (B, 3, h, w), h and w multiples of 14 -> float32 (B, h, w).

    Metric: depth / max_depth in [0, 1]. Relative: affine-invariant inverse depth, 0 or more.
    """

    def __init__(self, spec: EncoderSpec, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.pretrained = DINOv2(spec)
        self.depth_head = DPTHead(spec)

    def forward(self, x: Tensor) -> Tensor:
        out = self.before_activation(x)
        return out.sigmoid() if self.kind == "metric" else out.relu()

    def before_activation(self, x: Tensor) -> Tensor:
        """What the activation is given, float32 (B, h, w): an overflow shows here, and not behind it."""
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        tokens = self.pretrained(x.to(self.pretrained.pos_embed.dtype))
        return self.depth_head(tokens, rows, columns).squeeze(1)  # type: ignore[no-any-return]

    def set_precision(self, dtype: torch.dtype) -> DepthAnythingV2:
        """Convert the weights to `dtype`, all but the last convolution.

        That one and the activation stay float32: a bfloat16 step at 8 to 16 m would be 6 cm.
        """
        self.to(dtype)
        self.depth_head.scratch.output_conv2[2].float()
        return self


def build_model(encoder: str, kind: Kind) -> DepthAnythingV2:
    """Build the network for an encoder, its weights not yet set, on torch's current default device.

    Raises:
        SettingsError: unknown encoder.
    """
    return DepthAnythingV2(encoder_spec(encoder), kind)
