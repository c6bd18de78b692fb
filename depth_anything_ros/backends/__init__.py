"""How a network is executed: one file a backend, all with the same small interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from depth_anything_ros.errors import BackendError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from depth_anything_ros.model.dpt import DepthAnythingV2

BACKENDS = ("auto", "torch")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Backend(Protocol):
    """Runs one network on one device.

    Attributes:
        name: as in `BACKENDS`.
        device: where input and output live.
        precision: `fp32`, `bf16` or `fp16`.
        weight_bytes: memory the weights take.
    """

    name: str
    device: torch.device
    precision: str
    weight_bytes: int

    def __call__(self, x: Tensor) -> Tensor:
        """Normalised image, float32 (1, 3, h, w) on `device` -> float32 (1, h, w), unit scale."""
        ...


def create_backend(name: str, network: DepthAnythingV2, device: torch.device, precision: str) -> Backend:
    """Put a network on a device. The backend owns the network from here on.

    Raises:
        BackendError: unknown backend.
        SettingsError: a precision the backend does not have.
    """
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    from depth_anything_ros.backends.torch_backend import TorchBackend

    return TorchBackend(network, device, precision)
