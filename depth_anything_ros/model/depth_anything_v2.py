"""Depth Anything V2 (Yang et al. 2024, arXiv:2406.09414): metric depth of one dataset, or relative depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import DINOv2
from depth_anything_ros.model.dpt import DPTHead, FusionBlock
from depth_anything_ros.model.registry import NETWORKS, PATCH_SIZE, EncoderSpec


class MaskableDINOv2(DINOv2):
    """DINOv2 with the token of masked patches: it is in every checkpoint, but unused here."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self.mask_token = nn.Parameter(torch.zeros(1, spec.embed_dim))


class DepthAnythingV2(DepthNetwork):
    """Gives depth alone.

    Metric: depth / max_depth in [0, 1], by a sigmoid. Relative: affine-invariant inverse depth, 0 or more, by a ReLU.
    """

    outputs = NETWORKS["v2"].outputs

    def __init__(self, spec: EncoderSpec, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.pretrained = MaskableDINOv2(spec)
        self.depth_head = DPTHead(spec, spec.embed_dim)
        # A whole fusion block in every checkpoint, though the coarsest level has nothing to add.
        self.depth_head.scratch.refinenet4 = FusionBlock(spec.features)

    def extra_repr(self) -> str:
        """What distinguishes two of these networks whose weights have the same names and shapes."""
        return self.kind

    def forward(self, x: Tensor) -> tuple[Tensor]:
        out = self.before_activation(x).squeeze(1)
        return (out.sigmoid() if self.kind == "metric" else out.relu(),)

    def before_activation(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2] // PATCH_SIZE, x.shape[-1] // PATCH_SIZE
        tokens = self.pretrained(x.to(self.pretrained.pos_embed.dtype))
        return self.depth_head(tokens, rows, columns)  # type: ignore[no-any-return]
