"""How torch computes linear layers in float32 on a CPU: as matrix products or as 1x1 convolutions, by measurement.

MKL computes the products and oneDNN the convolutions. On AMD's processors MKL takes twice as long, on
Intel's it is the faster one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.runtime.hardware import hardware_name

MATMUL, CONVOLUTION = "matmul", "1x1 convolution"
LAYOUTS = (MATMUL, CONVOLUTION)
TOKENS = 1024  # as of a small picture
ROUNDS = 5
CLEARLY = 0.95  # the convolution is taken if it needs at most this share of the product's time


class PointwiseLinear(nn.Linear):
    """A linear layer computed as a 1x1 convolution, which oneDNN runs on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, tokens, in_features) -> (B, tokens, out_features)."""
        row = x.transpose(1, 2).unsqueeze(2)  # a view (B, in_features, 1, tokens), channels-last: no copy
        return F.conv2d(row, self.weight[:, :, None, None], self.bias).squeeze(2).transpose(1, 2)


def use_layout(network: nn.Module, layout: str) -> None:
    """Make every linear layer compute so, in place: parameters and their names stay as they are."""
    if layout == CONVOLUTION:
        for module in network.modules():
            if type(module) is nn.Linear:
                module.__class__ = PointwiseLinear


def fastest_layout(network: DepthNetwork, cache_folder: Path | None = None) -> str:
    """Return the layout that is faster here for layers of this network's width. Kept, so it is measured once."""
    width = network.pretrained.pos_embed.shape[-1]
    kept = BlobCache(None if cache_folder is None else cache_folder / "plans")
    key = ("layout", width, hardware_name(torch.device("cpu")), torch.get_num_threads(), torch.__version__)
    said = (kept.load(*key) or b"").decode(errors="replace")
    if said in LAYOUTS:
        return said
    layout = faster_of(width)
    kept.store(layout.encode(), *key)
    return layout


def faster_of(width: int, clock: Callable[[], float] = time.perf_counter) -> str:
    """Time one layer both ways, in turn."""
    x = torch.zeros(1, TOKENS, width)
    layers = {MATMUL: nn.Linear(width, 4 * width), CONVOLUTION: PointwiseLinear(width, 4 * width)}
    times_s: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    with torch.inference_mode():
        for _ in range(1 + ROUNDS):
            for layout, layer in layers.items():
                start = clock()
                layer(x)
                times_s[layout].append(clock() - start)
    product_s, convolution_s = (statistics.median(times_s[layout][1:]) for layout in LAYOUTS)
    return CONVOLUTION if convolution_s < CLEARLY * product_s else MATMUL
