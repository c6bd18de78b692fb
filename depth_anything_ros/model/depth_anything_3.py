"""Depth Anything 3 (Lin et al. 2025, arXiv:2511.10647) for one picture: DA3METRIC-LARGE and DA3MONO-LARGE.

Both have one architecture: V2's, with a second output branch for the sky, and depth by an exponential. The
small models with confidence and a field of view are in `depth_anything_3_views`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import DINOv2
from depth_anything_ros.model.dpt import DPTHead, output_branch, run_branch
from depth_anything_ros.model.registry import NETWORKS, PATCH_SIZE, EncoderSpec

LAST_NORM_EPS = 1e-5


class SkyHead(DPTHead):
    """DPT head with two branches: channel 0 is depth, channel 1 is sky."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec, spec.embed_dim)
        self.scratch.sky_output_conv2 = output_branch(spec.features, 1)

    def forward(self, tokens: list[Tensor], rows: int, columns: int) -> Tensor:
        """Tokens 4 x (B, rows * columns, embed_dim) -> float32 (B, 2, rows * 14, columns * 14)."""
        x = self.features(tokens, rows, columns)
        return torch.cat((run_branch(self.scratch.output_conv2, x), run_branch(self.sky_branch, x)), dim=1)

    @property
    def sky_branch(self) -> nn.Sequential:
        """The output branch for the sky."""
        return self.scratch.sky_output_conv2  # type: ignore[return-value]


class DepthAnything3(DepthNetwork):
    """Gives depth, more than 0, and sky, 0 or more.

    DA3METRIC-LARGE's depth is in metres for a camera whose focal length is 300 pixels of the network's input;
    DA3MONO-LARGE's is right up to a factor.
    """

    outputs = NETWORKS["da3"].outputs

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.pretrained = DINOv2(spec, LAST_NORM_EPS)
        self.depth_head: SkyHead = SkyHead(spec)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        depth, sky = self.before_activation(x).unbind(1)
        return depth.exp(), F.relu(sky)

    def before_activation(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        tokens = self.pretrained(x.to(self.pretrained.pos_embed.dtype))
        return self.depth_head(tokens, rows, columns)  # type: ignore[no-any-return]

    def in_single_precision(self) -> list[nn.Module]:
        return [*super().in_single_precision(), self.depth_head.sky_branch[2]]
