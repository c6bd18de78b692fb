"""`auto`: torch on a GPU; on a CPU OpenVINO where it is installed and agrees with torch, else torch."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import torch
from torch import Tensor

from depth_anything_ros.backends.openvino_backend import OpenVinoBackend
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.backends.torch_backend import TorchBackend
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs

logger = logging.getLogger(__name__)


def choose_backend(
    network: DepthNetwork,
    device: torch.device,
    precision: str,
    cache_folder: Path | None = None,
    *,
    compile: bool = False,
) -> Backend:
    """Choose a backend and log why; arguments and errors as `backends.create_backend`."""
    if device.type != "cpu" or precision == "fp16" or compile:
        logger.info("backend torch: device %s, precision %s, compile %s", device, precision, compile)
        return TorchBackend(network, device, precision, compile=compile)
    try:
        openvino = OpenVinoBackend(network, device, precision, cache_folder)
    except BackendError as error:
        logger.info("backend torch: %s", error)
        return TorchBackend(network, device, precision)
    logger.info("backend openvino: on a CPU, and it is installed")
    return AutoBackend(openvino, precision)


class AutoBackend:
    """OpenVINO until it fails, then torch for good. See `backends.Backend`."""

    def __init__(self, openvino: OpenVinoBackend, precision: str) -> None:
        self._running: OpenVinoBackend | TorchBackend = openvino
        self._precision = precision
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Of the backend that runs."""
        return self._running.name

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self._running.device

    @property
    def precision(self) -> str:
        """Of the backend that runs."""
        return self._running.precision

    @property
    def weight_bytes(self) -> int:
        """Of the backend that runs."""
        return self._running.weight_bytes

    @property
    def max_batch(self) -> int:
        """Of the backend that runs."""
        return self._running.max_batch

    def __call__(self, x: Tensor) -> Outputs:
        running = self._running
        try:
            return running(x)
        except BackendError as error:
            return self._fall_back(running, error)(x)

    def _fall_back(self, failed: OpenVinoBackend | TorchBackend, error: BackendError) -> TorchBackend:
        with self._lock:
            if isinstance(self._running, OpenVinoBackend):
                logger.warning("backend torch from here on: %s", error)
                self._running = TorchBackend(failed.network, failed.device, self._precision)
            return self._running
