"""PyTorch, eager: runs everywhere, and is the reference for every other backend."""

from __future__ import annotations

import torch
from torch import Tensor

from depth_anything_ros.backends import PRECISIONS
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.dpt import DepthAnythingV2

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """See `backends.Backend`."""

    name = "torch"

    def __init__(self, network: DepthAnythingV2, device: torch.device, precision: str) -> None:
        if precision == "auto":
            precision = "fp16" if device.type == "cuda" else "fp32"
        if precision not in DTYPES:
            raise SettingsError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
        self.device = device
        self.precision = precision
        self.network = network.set_precision(DTYPES[precision]).to(device)
        # The head is convolutions on tokens that arrive channels-last anyway: half its time on a CPU.
        self.network.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weight_bytes = sum(p.numel() * p.element_size() for p in network.parameters())

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]
