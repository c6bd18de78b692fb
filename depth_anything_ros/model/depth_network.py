"""The interface of every network, for code that loads, converts and runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from depth_anything_ros.model.dinov2 import DINOv2
from depth_anything_ros.model.dpt import DPTHead

Outputs = dict[str, Tensor]  # by the names in `DepthNetwork`


class DepthNetwork(nn.Module):
    """Normalised image (B, 3, h, w), h and w multiples of 14 -> maps and other outputs.

    `forward` returns a tuple in the order of `outputs`, all of it float32. The names:

    * `depth` (B, h, w): unit scale, of the dataset's kind. The caller multiplies.
    * `sky` (B, h, w): 0 or more; sky where it is at least `registry.SKY_THRESHOLD`.
    * `confidence` (B, h, w): 1 or more, larger = surer.
    * `field_of_view` (B, 2): vertical and horizontal, radians.

    Attributes:
        pretrained: the encoder; its name and the head's are those of the official checkpoints.
        depth_head: the head.
        any_size: whether one export holds for every size, given the position embedding of that size.
    """

    outputs: ClassVar[tuple[str, ...]]
    any_size: ClassVar[bool] = True
    pretrained: DINOv2
    depth_head: DPTHead

    def named(self, found: Sequence[Tensor]) -> Outputs:
        """What `forward` returned, by name."""
        return dict(zip(self.outputs, found, strict=True))

    def before_activation(self, x: Tensor) -> Tensor:
        """Input of the activations, float32 (B, channels, h, w). An overflow shows here, but not after them."""
        raise NotImplementedError

    def in_single_precision(self) -> list[nn.Module]:
        """Parts that stay float32 in every precision: a bfloat16 step at 8 to 16 m would be 6 cm."""
        return [self.depth_head.scratch.output_conv2[2]]

    def set_precision(self, dtype: torch.dtype) -> DepthNetwork:
        """Convert the weights to `dtype`, all but the parts that stay float32."""
        self.to(dtype)
        for part in self.in_single_precision():
            part.float()
        return self
