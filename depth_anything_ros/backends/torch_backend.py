"""PyTorch: runs everywhere. It is the reference for every other backend.

On a GPU, launches are recorded (`cuda_graphs.py`). With `compile`, torch.compile rewrites the network first.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.cuda_graphs import Run, graphs_on
from depth_anything_ros.backends.linear_layout import fastest_layout, use_layout
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.registry import PATCH_SIZE
from depth_anything_ros.runtime.device import compute_fp32_in_full, device_lock

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHECK_SIZE = (252, 336)  # of the test picture for fp16 overflow
BF16_CAPABILITY = (8, 0)  # older GPUs have no bfloat16
MAX_BATCH = 8


class TorchBackend:
    """See `backends.Backend`.

    `precision` auto is fp32 on a CPU. On CUDA it is fp16, or bf16 if these weights overflow fp16.

    Args:
        network: float32, on the CPU.
        compile: torch.compile rewrites it for each batch and size; needs minutes and a compiler.
        graphs: capture CUDA graphs; ignored on a CPU.
        layout: of linear layers, in fp32 on a CPU; None measures which is faster here.
        cache_folder: what was measured is kept in its folder `plans`.
    """

    name = "torch"
    max_batch = MAX_BATCH

    def __init__(
        self,
        network: DepthNetwork,
        device: torch.device,
        precision: str,
        *,
        compile: bool = False,
        graphs: bool = True,
        layout: str | None = None,
        cache_folder: Path | None = None,
    ) -> None:
        if precision == "auto" and device.type == "cuda":
            network, precision = to_half(network, device)
        self.precision = "fp32" if precision == "auto" else precision
        self.device = device
        if device.type == "cuda" and self.precision == "fp32":
            compute_fp32_in_full()
        self.network = network.set_precision(DTYPES[self.precision]).to(device)
        # The head is convolutions on tokens that arrive channels-last anyway: half its time on a CPU.
        self.network.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        if device.type == "cpu" and self.precision == "fp32" and has_mkl:
            use_layout(network, layout or fastest_layout(network, cache_folder))
        self.weight_bytes = sum(p.numel() * p.element_size() for p in network.parameters())
        self._run: Run = CompiledNetwork(self.network) if compile else self.network
        self._turn = device_lock(device)
        if device.type == "cuda" and graphs:
            self._run = graphs_on(device, self._run, _pos_embed_of(self.network))

    def __call__(self, x: Tensor) -> Outputs:
        if self.device.type == "cpu":
            return self.network.named(self._run(x))
        with self._turn, torch.cuda.device(self.device), torch.inference_mode():
            return self.network.named(self._run(x))


def _pos_embed_of(network: DepthNetwork) -> Callable[[int, int], Tensor]:
    """Return a function from (h, w) to the position embedding, which the network caches for a few sizes only."""
    encoder = network.pretrained
    return lambda h, w: encoder.pos_embed_for(h // PATCH_SIZE, w // PATCH_SIZE)


def to_half(network: DepthNetwork, device: torch.device) -> tuple[DepthNetwork, str]:
    """Return the network for a GPU and its precision: fp16, or bf16 (fp32 on old GPUs) if fp16 overflows.

    Tested with one picture on the device. The weights are converted from float32 in every case.
    """
    half = copy.deepcopy(network).set_precision(torch.float16).to(device)
    if is_finite(half, parity.probe_image(*CHECK_SIZE).to(device)):
        return half, "fp16"
    instead = "bf16" if has_bf16(device) else "fp32"
    logger.warning("fp16 overflows with these weights: using %s", instead)
    return network, instead


def is_finite(network: DepthNetwork, x: Tensor) -> bool:
    """Whether the output is finite before the activation, which would turn infinity into a plausible depth."""
    with torch.inference_mode():
        return bool(network.before_activation(x).isfinite().all())


def has_bf16(device: torch.device) -> bool:
    """Whether a device has bfloat16 arithmetic."""
    return device.type == "cpu" or torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


class CompiledNetwork:
    """A network behind torch.compile, compiled at the first image of each batch and size.

    Raises:
        BackendError: it cannot be compiled; raised at every later call, without another try.
    """

    def __init__(self, network: DepthNetwork) -> None:
        encoder = network.pretrained
        # Excluded: its cache per size would make torch recompile all sizes whenever one is added.
        kept: Callable[[int, int], Tensor] = torch.compiler.disable(encoder.pos_embed_for)  # type: ignore[no-untyped-call]
        encoder.pos_embed_for = kept  # type: ignore[assignment, method-assign]
        self._run: Run = torch.compile(network, dynamic=False)
        self._lock = threading.Lock()
        self._failure = ""

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        from torch._dynamo.exc import TorchDynamoException

        with self._lock:
            if self._failure:
                raise BackendError(self._failure)
            try:
                return self._run(x)
            except TorchDynamoException as error:
                reason = " ".join(str(error).partition("\n\n")[0].split())
                self._failure = f"torch.compile failed: {reason} (set compile: false to run without it)"
                raise BackendError(self._failure) from error
