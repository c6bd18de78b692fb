"""The interface of every backend, and the names of backends and precisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from depth_anything_ros.model.depth_network import Outputs

BACKENDS = ("auto", "torch", "openvino", "openvino:GPU", "openvino:NPU", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Backend(Protocol):
    """Runs one network on one device. May be shared by threads.

    Attributes may change while it runs: what `auto` chose is final only after the first image.

    Attributes:
        name: of the backend that runs: `torch`, `openvino` or `onnxruntime`.
        device: where input and output live.
        precision: `fp32`, `bf16`, `fp16`, or `int8` of a file in int8.
        weight_bytes: memory taken by the weights.
        max_batch: largest number of images in one call.
    """

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> str: ...

    @property
    def weight_bytes(self) -> int: ...

    @property
    def max_batch(self) -> int: ...

    def __call__(self, x: Tensor) -> Outputs:
        """Normalised images, float32 (B, 3, h, w) on `device`, B up to `max_batch` -> what the network says of them."""
        ...
