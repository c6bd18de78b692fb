"""How a network is executed: one file for each backend. `protocol` has their common interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_ros.backends.protocol import BACKENDS, PRECISIONS, Backend
from depth_anything_ros.errors import BackendError, SettingsError

if TYPE_CHECKING:
    import torch

    from depth_anything_ros.model.depth_network import DepthNetwork


def create_backend(
    name: str,
    network: DepthNetwork,
    device: torch.device,
    precision: str,
    cache_folder: Path | None = None,
    *,
    compile: bool = False,
) -> Backend:
    """Put a network on a device. The backend owns the network from here on.

    Args:
        cache_folder: where compiled networks are kept; None keeps nothing.
        compile: torch.compile rewrites the network; `auto` then chooses torch.

    Raises:
        BackendError: unknown backend, its library is missing, or it cannot use the device.
        SettingsError: an unknown precision, or one the backend does not have; `compile` without torch.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if compile and name in ("openvino", "onnxruntime"):
        raise SettingsError(f"compile is torch.compile, for backend torch; backend {name} compiles by itself")
    if name == "auto":
        from depth_anything_ros.backends.auto_backend import choose_backend

        return choose_backend(network, device, precision, cache_folder, compile=compile)
    if name == "torch":
        from depth_anything_ros.backends.torch_backend import TorchBackend

        return TorchBackend(network, device, precision, compile=compile)
    if name == "openvino":
        from depth_anything_ros.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(network, device, precision, cache_folder)
    if name == "onnxruntime":
        from depth_anything_ros.backends.onnx_backend import OnnxBackend

        return OnnxBackend(network, device, precision, cache_folder)
    raise BackendError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
