"""DPT head (Ranftl et al. 2021, arXiv:2103.13413): what the heads of all networks here share.

Parameter names are those of the official checkpoints. What follows `output_conv1` is each network's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.model.registry import PATCH_SIZE, EncoderSpec

BRANCH_WIDTH = 32


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize (B, C, h, w) -> (B, C, *size) with aligned corners, as everywhere in the official head."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))  # type: ignore[no-any-return]


class CoarsestBlock(nn.Module):
    """Refine the coarsest level, resize to the next finer one."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, kernel_size=1)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        # A 1x1 convolution and a resize commute; before the resize it costs a quarter.
        return resize(self.out_conv(self.resConfUnit2(x)), size)


class FusionBlock(CoarsestBlock):
    """Add the finer level, refine, resize to the next finer one."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.resConfUnit1 = ResidualConvUnit(features)

    def fuse(self, coarse: Tensor, fine: Tensor, size: Sequence[int]) -> Tensor:
        return self(coarse + self.resConfUnit1(fine), size)  # type: ignore[no-any-return]


def output_branch(features: int, channels: int) -> nn.Sequential:
    """The last two convolutions, (B, features / 2, h, w) -> (B, channels, h, w), before the activation."""
    return nn.Sequential(
        nn.Conv2d(features // 2, BRANCH_WIDTH, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(BRANCH_WIDTH, channels, kernel_size=1),
    )


def run_branch(branch: nn.Sequential, x: Tensor) -> Tensor:
    """Run an `output_branch`; its last convolution computes in float32, whatever came before."""
    return branch[2](F.relu(branch[0](x)).float())  # type: ignore[no-any-return]


class Scratch(nn.Module):
    """Convolutions after the tokens have become maps. `output_conv2` gives `channels` maps."""

    def __init__(self, features: int, out_channels: tuple[int, int, int, int], channels: int) -> None:
        super().__init__()
        level1, level2, level3, level4 = out_channels
        self.layer1_rn = nn.Conv2d(level1, features, kernel_size=3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(level2, features, kernel_size=3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(level3, features, kernel_size=3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(level4, features, kernel_size=3, padding=1, bias=False)
        self.refinenet1 = FusionBlock(features)
        self.refinenet2 = FusionBlock(features)
        self.refinenet3 = FusionBlock(features)
        self.refinenet4 = CoarsestBlock(features)
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        self.output_conv2 = output_branch(features, channels)


class DPTHead(nn.Module):
    """Tokens of four blocks -> maps at the network's input size, before the activation.

    Args:
        token_width: of the tokens; not always the encoder's.
        channels: maps that `output_conv2` gives.
    """

    def __init__(self, spec: EncoderSpec, token_width: int, channels: int = 1) -> None:
        super().__init__()
        level1, level2, _, level4 = spec.out_channels
        self.projects = nn.ModuleList(nn.Conv2d(token_width, width, kernel_size=1) for width in spec.out_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(level1, level1, kernel_size=4, stride=4),
                nn.ConvTranspose2d(level2, level2, kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(level4, level4, kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(spec.features, spec.out_channels, channels)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens 4 x (B, rows * columns, token_width) -> float32 (B, channels, rows * 14, columns * 14)."""
        return run_branch(self.scratch.output_conv2, self.features(tokens, rows, columns))

    def features(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens -> what the output branches read, (B, features / 2, rows * 14, columns * 14)."""
        maps = [self.project(x, project, rows, columns) for x, project in zip(tokens, self.projects, strict=True)]
        path = self.scratch.output_conv1(self.fuse(*self.pyramid(maps)))
        return resize(path, (rows * PATCH_SIZE, columns * PATCH_SIZE))

    def project(self, tokens: Tensor, project: nn.Module, rows: int, columns: int) -> Tensor:
        """Tokens (B, rows * columns, token_width) -> map (B, width, rows, columns) of one level."""
        # Tokens seen as (B, C, rows, columns) are channels_last without a copy.
        return project(tokens.reshape(tokens.shape[0], rows, columns, -1).permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of the four levels -> the same at 4, 2, 1 and 1/2 times the patch grid, each `features` wide."""
        scratch = self.scratch
        narrow = (scratch.layer1_rn, scratch.layer2_rn, scratch.layer3_rn, scratch.layer4_rn)
        stages = zip(maps, self.resize_layers, narrow, strict=True)
        return [to_features(resized(x)) for x, resized, to_features in stages]

    def fuse(self, level1: Tensor, level2: Tensor, level3: Tensor, level4: Tensor) -> Tensor:
        """Merge the pyramid from coarse to fine -> (B, features, rows * 8, columns * 8)."""
        path = self.scratch.refinenet4(level4, level3.shape[-2:])
        path = self.scratch.refinenet3.fuse(path, level3, level2.shape[-2:])
        path = self.scratch.refinenet2.fuse(path, level2, level1.shape[-2:])
        finest = (2 * level1.shape[-2], 2 * level1.shape[-1])
        return self.scratch.refinenet1.fuse(path, level1, finest)
