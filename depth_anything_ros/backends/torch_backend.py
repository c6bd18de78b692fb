"""PyTorch, eager: runs everywhere, and is the reference for every other backend."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.model.dpt import DepthAnythingV2

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """See `backends.Backend`."""

    name = "torch"

    def __init__(self, network: DepthAnythingV2, device: torch.device, precision: str) -> None:
        if precision == "auto":
            precision = "fp16" if device.type == "cuda" else "fp32"
        self.device = device
        self.precision = precision
        self.network = network.set_precision(DTYPES[precision]).to(device)
        # The head is convolutions on tokens that arrive channels-last anyway: half its time on a CPU.
        self.network.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        if device.type == "cpu" and precision == "fp32" and has_mkl:
            use_onednn(network)
        self.weight_bytes = sum(p.numel() * p.element_size() for p in network.parameters())

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]


class PointwiseLinear(nn.Linear):
    """A linear layer as a 1x1 convolution, which on a CPU oneDNN does.

    In float32 torch gives matrix products to MKL, which takes twice as long on AMD's processors.
    """

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, tokens, in_features) -> (B, tokens, out_features)."""
        row = x.transpose(1, 2).unsqueeze(2)  # seen as (B, in_features, 1, tokens), channels-last: no copy
        return F.conv2d(row, self.weight[:, :, None, None], self.bias).squeeze(2).transpose(1, 2)


def use_onednn(network: nn.Module) -> None:
    """Make every linear layer a PointwiseLinear, in place: parameters and their names stay as they are."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = PointwiseLinear
