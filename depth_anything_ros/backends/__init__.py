"""How a network is executed: one file for each backend. `protocol` has their common interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_ros.backends.protocol import BACKENDS, PRECISIONS, Backend
from depth_anything_ros.errors import BackendError, SettingsError

if TYPE_CHECKING:
    import torch

    from depth_anything_ros.backends.network_source import NetworkSource
    from depth_anything_ros.model.depth_network import DepthNetwork


def create_backend(
    name: str,
    network: DepthNetwork,
    device: torch.device,
    precision: str,
    cache_folder: Path | None = None,
    *,
    compile: bool = False,
    reload: Callable[[], DepthNetwork] | None = None,
    background: bool = False,
) -> Backend:
    """Put a network on a device. The backend owns the network from here on.

    Args:
        name: as in `BACKENDS`.
        cache_folder: where plans and compiled networks are kept; None keeps nothing.
        compile: torch.compile rewrites the network; `auto` then chooses torch.
        reload: loads the network again. It is then let go while a converted one runs.
        background: build for new sizes in a thread, and answer by torch meanwhile.

    Raises:
        BackendError: unknown backend, its library is missing, or it cannot use the device.
        SettingsError: an unknown precision, or one the backend does not have; `compile` without torch.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
    kind, _, target = name.partition(":")
    if compile and kind in ("openvino", "onnxruntime"):
        raise SettingsError(f"compile is torch.compile, for backend torch; backend {name} compiles by itself")
    if kind == "torch" or (kind == "auto" and (device.type != "cpu" or precision == "fp16" or compile)):
        from depth_anything_ros.backends.torch_backend import TorchBackend

        return TorchBackend(network, device, precision, compile=compile, cache_folder=cache_folder)
    from depth_anything_ros.backends.network_source import NetworkSource

    if kind == "onnxruntime":
        from depth_anything_ros.backends.onnx_backend import OnnxBackend

        return OnnxBackend(NetworkSource(network, reload), device, precision, cache_folder)
    if kind == "openvino":
        return _openvino(NetworkSource(network, reload), target, device, precision, cache_folder, background)
    return _planned("auto", NetworkSource(network, reload), precision, cache_folder, background)


def _openvino(
    source: NetworkSource,
    target: str,
    device: torch.device,
    precision: str,
    cache_folder: Path | None,
    background: bool,
) -> Backend:
    from depth_anything_ros.backends.openvino_backend import OpenVinoBackend

    if device.type != "cpu":
        raise BackendError(f"backend openvino runs on the CPU, not on {device}: use backend torch there")
    running = OpenVinoBackend(source, precision, cache_folder, device=target or "CPU", background=background)
    if target or precision != "auto":
        return running
    return _planned("openvino", source, precision, cache_folder, background)


def _planned(name: str, source: NetworkSource, precision: str, cache_folder: Path | None, background: bool) -> Backend:
    import torch

    from depth_anything_ros.backends.planned_backend import PlannedBackend, candidates_for

    threads = torch.get_num_threads()
    return PlannedBackend(
        source,
        candidates_for(name, precision, threads),
        cache_folder,
        more=candidates_for(name, precision, threads, thorough=True),
        asked=(name, precision),
        named=precision != "auto",
        falls_back=name == "auto",
        background=background,
    )
