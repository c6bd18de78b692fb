"""OpenVINO on the CPU: the network is compiled for each image size, and compared with torch at every start.

The torch network stays in memory: other sizes are converted from it, conversions are compared with it, and
`auto` falls back to it. OpenVINO's constants share its memory during conversion.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.blob_cache import BlobCache, fingerprint
from depth_anything_ros.backends.per_shape import PerShape, Size
from depth_anything_ros.errors import BackendError, SettingsError
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.registry import PATCH_SIZE
from depth_anything_ros.runtime.allocator import trim_freed_memory

logger = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16"}
BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 2}
CHANNELS_AXIS = 1
MAX_END_CHANNELS = 2  # every other convolution has more


class OpenVinoBackend:
    """See `backends.Backend`.

    `precision` auto is bf16 where the processor has it and the result stays within
    `parity.AUTO_HALF_LIMIT` of torch, else fp32: measured with these weights, at every size.

    Args:
        network: float32, on the CPU.
        cache_folder: compiled networks are kept in its folder `openvino`; torch's answers to test pictures and
            rejected precisions in `parity`. None keeps nothing.
        threads: threads of one inference; None takes torch's number (`OMP_NUM_THREADS`, `torch.set_num_threads`).

    Raises:
        BackendError: OpenVINO is missing, or another device than the CPU was asked for.
        SettingsError: a precision other than auto, fp32 and bf16.
    """

    name = "openvino"
    max_batch = 1  # a compiled network is for one image

    def __init__(
        self,
        network: DepthNetwork,
        device: torch.device,
        precision: str = "auto",
        cache_folder: Path | None = None,
        threads: int | None = None,
    ) -> None:
        if device.type != "cpu":
            raise BackendError(f"backend openvino runs on the CPU, not on {device}: use backend torch there")
        if precision not in ("auto", *HINTS):
            raise SettingsError(f"backend openvino has no precision {precision!r}; it has auto, {', '.join(HINTS)}")
        self._openvino = import_openvino()
        self._core = self._openvino.Core()
        self.device = device
        self.network = network
        self._threads = threads
        self._tries = self._tries_for(precision)
        self._cache = BlobCache(None if cache_folder is None else cache_folder / "openvino")
        self._parity = BlobCache(None if cache_folder is None else cache_folder / "parity")
        self._fingerprint = ""
        self._weights = sum(parameter.numel() for parameter in network.parameters())
        self._executors = PerShape(self._build)

    @property
    def precision(self) -> str:
        """`fp32` or `bf16`. With auto it starts as bf16, and is fp32 once bf16 was too far off."""
        return self._tries[0][0]

    @property
    def weight_bytes(self) -> int:
        """The torch network, and one copy for each size that is compiled."""
        return self._weights * (4 + len(self._executors) * BYTES_PER_WEIGHT[self.precision])

    def __call__(self, x: Tensor) -> Outputs:
        return self._executors.get((x.shape[2], x.shape[3]))(x)

    def _tries_for(self, precision: str) -> list[tuple[str, parity.Difference]]:
        """Return the precisions to try, in order, each with its largest difference from torch."""
        if precision == "bf16":
            return [("bf16", parity.HALF_LIMIT)]
        has_bf16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        fp32 = ("fp32", parity.FP32_LIMIT)
        return [("bf16", parity.AUTO_HALF_LIMIT), fp32] if precision == "auto" and has_bf16 else [fp32]

    def _build(self, size: Size) -> Callable[[Tensor], Outputs]:
        start_s = time.perf_counter()
        x = parity.probe_image(*size)
        self._skip_rejected(size)
        # Both are slow, and the same for every precision.
        converted = cache(lambda: self._convert(x))
        reference = cache(lambda: parity.fresh_reference(self.network, x, self._parity, *self._identity()))
        while True:
            precision, limit = self._tries[0]
            how, executor, off = self._load(size, precision, limit, x) or self._compile(
                size, precision, x, converted, reference
            )
            if off.within(limit):
                took_s = time.perf_counter() - start_s
                logger.info("openvino %s for %dx%d in %s, %.1f s; off by %s", how, *size, precision, took_s, off)
                trim_freed_memory()  # of what was only needed to build
                return executor
            if len(self._tries) == 1:
                raise BackendError(
                    f"openvino in {precision} at {size[0]}x{size[1]} differs from torch by {off}; allowed: {limit}"
                )
            logger.info("openvino in %s is off by %s with these weights; taking fp32", precision, off)
            self._parity.store(str(off).encode(), *self._rejection(size))
            self._drop_precision()

    def _skip_rejected(self, size: Size) -> None:
        """Drop a precision that was measured before, under the same conditions, and was too far off."""
        while len(self._tries) > 1 and (off := self._parity.load(*self._rejection(size))) is not None:
            logger.info("openvino in %s was off by %s with these weights; taking fp32", self.precision, off.decode())
            self._drop_precision()

    def _rejection(self, size: Size) -> tuple[object, ...]:
        return "rejected", size, *self._tries[0], *self._identity()

    def _drop_precision(self) -> None:
        del self._tries[0]
        self._executors.forget_built()

    def _load(self, size: Size, precision: str, limit: parity.Difference, x: Tensor) -> Built | None:
        """Return the cached network, or None if there is none or it differs from torch."""
        config = self._config(precision)
        blob = self._cache.load(*self._identity(), size, config)
        if blob is None:
            return None
        expected = parity.cached_reference(self.network, x, self._parity, *self._identity())
        try:
            executor = Executor(self._core.import_model(blob, "CPU", config), self.network.outputs)
            off = parity.difference(executor(x), expected)
        except Exception as error:  # the library's kinds
            logger.warning("openvino cannot load its cached network; compiling it again: %s", error)
            return None
        if not off.within(limit):
            logger.warning("the cached openvino network differs from torch by %s; compiling it again", off)
            return None
        return "loaded", executor, off

    def _compile(
        self, size: Size, precision: str, x: Tensor, converted: Callable[[], Any], reference: Callable[[], Outputs]
    ) -> Built:
        config = self._config(precision)
        try:
            model = converted() if precision == "fp32" else self._with_single_ends(converted())
            compiled = self._core.compile_model(model, "CPU", config)
            self._cache.store(compiled.export_model().getvalue(), *self._identity(), size, config)
        except Exception as error:  # two libraries raise many kinds
            text = f"openvino cannot run the network at {size[0]}x{size[1]}"
            raise BackendError(f"{text}: {type(error).__name__}: {error}") from error
        executor = Executor(compiled, self.network.outputs)
        return "compiled", executor, parity.difference(executor(x), reference())

    def _config(self, precision: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": self._threads or torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }

    def _identity(self) -> tuple[str, ...]:
        """Return what a compiled network depends on, beside size and configuration."""
        self._fingerprint = self._fingerprint or fingerprint(self.network)
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        abilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return self._fingerprint, self._openvino.get_version(), torch.__version__, cpu, *abilities

    def _convert(self, x: Tensor) -> Any:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both libraries warn about their own code
            # Computed here, the position embedding of this size is a constant in the export.
            self.network.pretrained.pos_embed_for(x.shape[2] // PATCH_SIZE, x.shape[3] // PATCH_SIZE)
            return self._openvino.convert_model(torch.export.export(self.network, (x,)))

    def _with_single_ends(self, model: Any) -> Any:
        """Return a copy with the convolutions that end in one or two channels, all 1x1, written as weighted sums.

        OpenVINO runs every convolution in the reduced precision and rounds its result to it, but
        leaves what follows the last one in float32.
        """
        opset, model = self._openvino.opset13, model.clone()
        axis = opset.constant(np.array([CHANNELS_AXIS], np.int64))
        for last in [op for op in model.get_ordered_ops() if _is_end(op)]:
            x, weights = last.input_value(0), last.input_value(1).get_node().data  # (channels, C, 1, 1)
            sums = [
                opset.reduce_sum(opset.multiply(x, opset.constant(each[None])), axis, keep_dims=True)
                for each in weights
            ]
            end = sums[0] if len(sums) == 1 else opset.concat(sums, CHANNELS_AXIS)
            for reader in list(last.output(0).get_target_inputs()):
                reader.replace_source_output(end.output(0))
        model.validate_nodes_and_infer_types()
        return model


def _is_end(op: Any) -> bool:
    """Whether an operation is the last convolution of an output branch."""
    return op.get_type_name() == "Convolution" and int(op.input_value(1).get_shape()[0]) <= MAX_END_CHANNELS


class Executor:
    """One compiled network with one request. Threads take turns."""

    def __init__(self, compiled: Any, outputs: Sequence[str]) -> None:
        self._outputs = outputs
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Outputs:
        """float32 (1, 3, h, w) -> the network's outputs, float32."""
        with self._lock:
            found = self._request.infer([x.contiguous().numpy()], share_inputs=True)
        return {name: torch.from_numpy(found[index]) for index, name in enumerate(self._outputs)}


# "loaded" or "compiled", what runs the network, and its difference from torch.
Built = tuple[str, Executor, parity.Difference]


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports every conversion to its makers by default.

    Raises:
        BackendError: it is not installed, or does not load.
    """
    # With None the import fails, and OpenVINO runs without telemetry.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except Exception as error:  # a broken installation fails in any way
        raise BackendError(
            f"OpenVINO cannot be imported ({error}): pip install 'depth_anything_ros[openvino]'"
        ) from error
