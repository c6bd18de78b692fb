"""What one image costs a network in operations and in memory traffic, counted without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from depth_anything_ros.model.build import build_model


@dataclass(frozen=True)
class Cost:
    """Of one image.

    Attributes:
        flop: a multiplication and an addition are two.
        weights: parameters that are read.
        activations: values that operations write; each is read about once more.
    """

    flop: float
    weights: int
    activations: int

    def bytes(self, bytes_per_value: int) -> int:
        """Memory traffic if nothing stays in a cache: weights once, activations twice."""
        return bytes_per_value * (self.weights + 2 * self.activations)


class WrittenValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations write; views write nothing."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count its results."""
        found = func(*args, **(kwargs or {}))
        if not any(argument.alias_info for argument in func._schema.returns):
            self.count += sum(value.numel() for value in _tensors(found))
        return found


def _tensors(found: Any) -> list[Tensor]:
    values = found if isinstance(found, (tuple, list)) else [found]
    return [value for value in values if isinstance(value, Tensor)]


def cost_of(encoder: str, height: int, width: int, dataset: str = "hypersim") -> Cost:
    """Count one image of the network's input size, float32 (1, 3, height, width)."""
    counter, written = FlopCounterMode(display=False), WrittenValues()  # type: ignore[no-untyped-call]
    with torch.no_grad(), torch.device("meta"), counter:  # attention as two products, which the counter knows
        _run(encoder, height, width, dataset)
    with torch.no_grad(), FakeTensorMode(), written:  # attention as on a CPU: its matrix of scores is never written
        weights = _run(encoder, height, width, dataset)
    return Cost(counter.get_total_flops(), weights, written.count)


def _run(encoder: str, height: int, width: int, dataset: str) -> int:
    network = build_model(encoder, dataset).eval()
    network(torch.empty(1, 3, height, width))
    return sum(weights.numel() for weights in network.parameters())
