"""OpenVINO: networks compiled for one size each, and one for every other size; compared with torch at every start.

The first sizes have a network of their own, which is a seventh faster. All further sizes share one, so that no
number of sizes takes more memory or waits for a compiler. The torch network is needed to convert only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.openvino_conversion import convert, for_bf16, import_openvino, the_core
from depth_anything_ros.backends.per_shape import MAX_SHAPES, PerShape, Size
from depth_anything_ros.errors import BackendError, SettingsError
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.registry import PATCH_SIZE
from depth_anything_ros.runtime.device import free_unused_memory

logger = logging.getLogger(__name__)

HINTS = {"fp32": "f32", "bf16": "bf16"}
BYTES_PER_WEIGHT = {"fp32": 4, "bf16": 2}
LIMITS = {"fp32": parity.FP32_LIMIT, "bf16": parity.HALF_LIMIT}
MAX_OWN_SIZES = 4  # each holds a copy of the weights
ANY_SIZE = (0, 0)  # the key of the network for every size
CHECK_SIZE = (252, 336)  # at which that one is compared with torch


class OpenVinoBackend:
    """See `backends.Backend`.

    Args:
        source: the network.
        precision: `fp32`, or `bf16`; auto is fp32. What is best is for `PlannedBackend` to find out.
        cache_folder: compiled networks are kept in its folder `openvino`, torch's answers to test pictures in
            `parity`. None keeps nothing.
        threads: threads of one inference; None takes torch's number (`OMP_NUM_THREADS`, `torch.set_num_threads`).
        device: OpenVINO's name of a device: `CPU`, `GPU`, `NPU`.
        background: answer new sizes by torch or by the network for every size, while their own is built in a thread.

    Raises:
        BackendError: OpenVINO is missing, or has no such device here.
        SettingsError: a precision other than auto, fp32 and bf16.
    """

    name = "openvino"
    max_batch = 1  # a compiled network is for one image

    def __init__(
        self,
        source: NetworkSource,
        precision: str = "auto",
        cache_folder: Path | None = None,
        threads: int | None = None,
        *,
        device: str = "CPU",
        background: bool = False,
    ) -> None:
        if precision not in ("auto", *HINTS):
            raise SettingsError(f"backend openvino has no precision {precision!r}; it has auto, {', '.join(HINTS)}")
        self._core = the_core()
        self._target = check_target(self._core, device)
        self.device = torch.device("cpu")
        self.precision = "fp32" if precision == "auto" else precision
        self.source = source
        self._threads = threads or torch.get_num_threads()
        self.background = background
        self._cache = BlobCache(None if cache_folder is None else cache_folder / "openvino")
        self._parity = BlobCache(None if cache_folder is None else cache_folder / "parity")
        self._keeps = cache_folder is not None
        self._own = PerShape(self._built, MAX_OWN_SIZES if source.any_size else MAX_SHAPES)
        self._shared = PerShape(self._built, 1)

    @property
    def weight_bytes(self) -> int:
        """The torch network while it is there, and one copy of the weights for each compiled network."""
        compiled = len(self._own) + len(self._shared)
        return self.source.loaded_bytes + self.source.weights * compiled * BYTES_PER_WEIGHT[self.precision]

    def __call__(self, x: Tensor) -> Outputs:
        size = (x.shape[2], x.shape[3])
        return self._at_once(size)(x) if self.background else self._runner(size)(x)

    def prepare(self, size: Size) -> None:
        """Build what a size needs now, however this backend builds otherwise. Raises BackendError."""
        self._runner(size)

    def _runner(self, size: Size) -> Callable[[Tensor], Outputs]:
        if not self.source.any_size or self._own.takes(size):
            return self._own.get(size)
        return self._shared.get(ANY_SIZE)

    def _at_once(self, size: Size) -> Callable[[Tensor], Outputs]:
        """Return what can run a size now, and build what is missing in a thread."""
        own = self._own.ready(size)
        if own is not None:
            return own
        takes_own = not self.source.any_size or self._own.takes(size)
        if self.source.any_size and (len(self._own) or not takes_own):  # one size alone does not need it
            self._shared.start(ANY_SIZE)
        if takes_own:
            self._own.start(size)
        return self._shared.ready(ANY_SIZE) or self._by_torch

    def _by_torch(self, x: Tensor) -> Outputs:
        return parity.reference(self.source.get(), x)

    def _built(self, key: Size) -> Executor:
        """Return the network of a size, or for every size. The torch network is let go afterwards."""
        with self.source.held():
            executor = self._build(key)
        free_unused_memory()  # of what was only needed to build
        return executor

    def _build(self, key: Size) -> Executor:
        """Return the network that is kept on disk, or a new one."""
        start_s = time.perf_counter()
        what = "for every size" if key == ANY_SIZE else "for {}x{}".format(*key)
        x = parity.probe_image(*(CHECK_SIZE if key == ANY_SIZE else key))
        how, executor, off = self._load(key, x) or self._compile(key, x)
        if not off.within(LIMITS[self.precision]):
            allowed = LIMITS[self.precision]
            raise BackendError(f"openvino in {self.precision} {what} differs from torch by {off}; allowed: {allowed}")
        took_s = time.perf_counter() - start_s
        logger.info("openvino %s %s in %s, %.1f s; off by %s", how, what, self.precision, took_s, off)
        return executor

    def _load(self, key: Size, x: Tensor) -> Built | None:
        """Return the kept network, or None if there is none or it differs from torch."""
        config = self._config()
        blob = self._cache.load(*self._identity(), key, config)
        if blob is None:
            return None
        expected = parity.cached_reference(self.source, x, self._parity, *self._identity())
        try:
            executor = Executor(self._core.import_model(blob, self._target, config), self.source)
            off = parity.difference(executor(x), expected)
        except Exception as error:  # the library's kinds
            logger.warning("openvino cannot load its cached network; compiling it again: %s", error)
            return None
        if not off.within(LIMITS[self.precision]):
            logger.warning("the cached openvino network differs from torch by %s; compiling it again", off)
            return None
        return "loaded", executor, off

    def _compile(self, key: Size, x: Tensor) -> Built:
        try:
            model = convert(self.source, None if key == ANY_SIZE else key)
            compiled = self._compiled(model, key)
        except BackendError:
            raise
        except Exception as error:  # two libraries raise many kinds
            text = "openvino cannot run the network" + ("" if key == ANY_SIZE else " at {}x{}".format(*key))
            raise BackendError(f"{text}: {type(error).__name__}: {error}") from error
        executor = Executor(compiled, self.source)
        expected = parity.fresh_reference(self.source, x, self._parity, *self._identity())
        return "compiled", executor, parity.difference(executor(x), expected)

    def _compiled(self, model: Any, key: Size) -> Any:
        config = self._config()
        model = model if self.precision == "fp32" else for_bf16(model)
        compiled = self._core.compile_model(model, self._target, config)
        if self._keeps:  # exporting takes a copy of the weights
            self._cache.store(compiled.export_model().getvalue(), *self._identity(), key, config)
        return compiled

    def _config(self) -> dict[str, Any]:
        return config_for(self._target, self.precision, self._threads)

    def _identity(self) -> tuple[str, ...]:
        """Return what a compiled network depends on, beside size and configuration."""
        return self.source.fingerprint, torch.__version__, *machine(self._core, self._target)


class Executor:
    """One compiled network with one request. Threads take turns."""

    def __init__(self, compiled: Any, source: NetworkSource) -> None:
        self._source = source
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Outputs:
        """float32 (1, 3, h, w) -> the network's outputs, float32."""
        with self._lock:
            pos_embed = self._source.pos_embed(x.shape[2] // PATCH_SIZE, x.shape[3] // PATCH_SIZE)
            found = self._request.infer([x.contiguous().numpy(), pos_embed.numpy()], share_inputs=True)
            values: Sequence[Tensor] = [torch.from_numpy(found[index]) for index in range(len(self._source.outputs))]
        return dict(zip(self._source.outputs, values, strict=True))


# "loaded" or "compiled", what runs the network, and its difference from torch.
Built = tuple[str, Executor, parity.Difference]


def config_for(target: str, precision: str, threads: int) -> dict[str, Any]:
    """OpenVINO's settings for one image at a time.

    Threads are not bound to cores: those of two processes would be bound to the same ones.
    """
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS.get(precision, "f32"), "NUM_STREAMS": 1}
    return config | ({"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False} if target == "CPU" else {})


def machine(core: Any, target: str = "CPU") -> tuple[str, ...]:
    """OpenVINO's version, and the device's name and abilities."""
    name = core.get_property(target, "FULL_DEVICE_NAME")
    return import_openvino().get_version(), target, name, *core.get_property(target, "OPTIMIZATION_CAPABILITIES")


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16. Raises BackendError: OpenVINO is missing."""
    return "BF16" in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def check_target(core: Any, device: str) -> str:
    """Return OpenVINO's name of a device. Raises BackendError: there is none here."""
    has = core.available_devices
    if device.partition(".")[0] not in {name.partition(".")[0] for name in has}:
        raise BackendError(
            f"OpenVINO has no device {device!r} here, only {', '.join(has)}: "
            "an Intel GPU or NPU needs its driver, see OpenVINO's system requirements"
        )
    return device
