"""ONNX Runtime on TensorRT, CUDA or the CPU. Runs the network itself or an exported file.

Only the CPU is tested. On a GPU the image and the result pass through host memory.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depth_anything_ros.backends import parity
from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.per_shape import PerShape, Size
from depth_anything_ros.errors import BackendError, ImageError, SettingsError
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.runtime.device import free_unused_memory

logger = logging.getLogger(__name__)
EXPORTER_LOG = "torch.onnx._internal.exporter"  # it warns that torchvision, which no network here needs, is missing

OPSET = 18
INPUT = "image"
TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
LIMITS = {"fp32": parity.FP32_LIMIT, "fp16": parity.HALF_LIMIT}
QUIET = 3  # errors only
MAP_DIM = 3  # (B, h, w)


class OnnxBackend:
    """See `backends.Backend`. Exports the network once for each image size, and compares it with torch at every start.

    Precision is fp32; with TensorRT also fp16, which is the default there.

    Args:
        source: the network.
        cache_folder: exported networks and TensorRT's engines are kept in its folder `onnxruntime`.

    Raises:
        BackendError: a library is missing, or offers nothing for the device.
        SettingsError: a precision it does not have.
    """

    name = "onnxruntime"
    max_batch = 1  # an exported network is for one image

    def __init__(
        self, source: NetworkSource, device: torch.device, precision: str = "auto", cache_folder: Path | None = None
    ) -> None:
        self._folder = None if cache_folder is None else cache_folder / "onnxruntime"
        self.device = device
        self.precision = choose_precision(providers_for(device), precision)
        self.source = source
        self._cache = BlobCache(self._folder)
        self._sessions = PerShape(self._built)

    @property
    def weight_bytes(self) -> int:
        """The torch network while it is there, and one copy for each size with a session."""
        return self.source.loaded_bytes + self.source.weights * 4 * len(self._sessions)

    def __call__(self, x: Tensor) -> Outputs:
        return self._sessions.get((x.shape[2], x.shape[3]))(x)

    def prepare(self, size: Size) -> None:
        """Build what a size needs. Raises BackendError."""
        self._sessions.get(size)

    def _built(self, size: Size) -> Session:
        """Return the session of a size. The torch network is let go afterwards."""
        with self.source.held() as network:
            session = self._build(size, network)
        free_unused_memory()
        return session

    def _build(self, size: Size, network: DepthNetwork) -> Session:
        start_s = time.perf_counter()
        x = parity.probe_image(*size)
        expected = parity.reference(network, x)
        depends_on = (self.source.fingerprint, size, OPSET, torch.__version__)
        session, off = self._load(x, expected, depends_on) or self._export(network, x, expected, depends_on)
        took_s = time.perf_counter() - start_s
        logger.info("onnxruntime ready for %dx%d on %s, %.1f s; off by %s", *size, session.provider, took_s, off)
        return session

    def _load(self, x: Tensor, expected: Outputs, depends_on: tuple[object, ...]) -> Built | None:
        """Return a session of the cached export, or None if there is none or it differs from torch."""
        model = self._cache.load(*depends_on)
        if model is None:
            return None
        try:
            return self._session(model, x, expected)
        except BackendError as error:
            logger.warning("the cached export cannot be used; exporting again: %s", error)
            return None

    def _export(self, network: DepthNetwork, x: Tensor, expected: Outputs, depends_on: tuple[object, ...]) -> Built:
        model = export_network(network, (x.shape[2], x.shape[3]), {})
        self._cache.store(model, *depends_on)
        return self._session(model, x, expected)

    def _session(self, model: bytes, x: Tensor, expected: Outputs) -> Built:
        session = Session(model, self.device, self.precision, self._folder)
        found = on_host(session(x.to(self.device)))
        off = parity.require_within(found, expected, LIMITS[self.precision], f"onnxruntime in {self.precision}")
        return session, off


class OnnxFileBackend:
    """Runs one exported file, which was checked, and is made for one size. See `backends.Backend`.

    Args:
        model: content of the file.
        size: (h, w) it is made for.
        precision: as for `OnnxBackend`.

    Raises:
        BackendError: as `OnnxBackend`.
    """

    name = "onnxruntime"
    max_batch = 1  # an exported network is for one image

    def __init__(
        self,
        model: bytes,
        size: Size,
        device: torch.device,
        precision: str = "auto",
        cache_folder: Path | None = None,
    ) -> None:
        self.device = device
        self.precision = choose_precision(providers_for(device), precision)
        self.weight_bytes = len(model)
        self._size = size
        folder = None if cache_folder is None else cache_folder / "onnxruntime"
        self._session = Session(model, device, self.precision, folder)

    def __call__(self, x: Tensor) -> Outputs:
        check_size(x, self._size)
        return self._session(x)


def check_size(x: Tensor, size: Size) -> None:
    """Raise ImageError where images (B, 3, h, w) do not have the size of an exported file."""
    if (x.shape[2], x.shape[3]) != size:
        raise ImageError(
            f"this image becomes {x.shape[3]}x{x.shape[2]} pixels for the network, and the ONNX file is made "
            f"for {size[1]}x{size[0]}: export one for this image size and input_size"
        )


class Session:
    """One network in ONNX Runtime; threads may share it."""

    def __init__(self, model: bytes, device: torch.device, precision: str, folder: Path | None) -> None:
        runtime = import_library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep, as torch's do
        options.log_severity_level = QUIET
        wanted = [(name, provider_options(name, device, precision, folder)) for name in providers_for(device)]
        try:
            self._session = runtime.InferenceSession(model, options, providers=wanted)
        except Exception as error:  # it raises many kinds
            raise BackendError(f"onnxruntime cannot load the network: {error}") from error
        self._device = device
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.provider: str = self._session.get_providers()[0]
        if device.type == "cuda" and self.provider == CPU:  # it falls back to the CPU silently
            raise BackendError(f"onnxruntime cannot use {device}: its GPU libraries do not load")

    def __call__(self, x: Tensor) -> Outputs:
        """float32 (1, 3, h, w) -> the network's outputs, all on the device."""
        try:
            found = self._session.run(self._outputs, {INPUT: x.contiguous().cpu().numpy()})
        except Exception as error:  # its own kinds; none is a RuntimeError
            raise BackendError(f"onnxruntime failed: {' '.join(str(error).split())[:300]}") from error
        values = (torch.from_numpy(each).to(self._device) for each in found)
        return dict(zip(self._outputs, values, strict=True))


def on_host(outputs: Outputs) -> Outputs:
    """The same on the CPU."""
    return {name: values.cpu() for name, values in outputs.items()}


def sampled(outputs: Outputs, step: int) -> Outputs:
    """Every `step`-th row and column of maps; other outputs stay whole."""
    return {name: values[:, ::step, ::step] if values.dim() == MAP_DIM else values for name, values in outputs.items()}


# What runs the network, and its difference from torch.
Built = tuple[Session, parity.Difference]


def providers_for(device: torch.device) -> list[str]:
    """Return ONNX Runtime's providers for a device, best first. Raises BackendError if there is none."""
    offered = import_library("onnxruntime").get_available_providers()
    wanted = (CPU,) if device.type == "cpu" else (TENSORRT, CUDA)
    found = [name for name in wanted if name in offered]
    if not found:
        raise BackendError(
            f"this onnxruntime has no provider for {device}, only {', '.join(offered)}: install onnxruntime-gpu"
        )
    return found


def choose_precision(providers: list[str], wanted: str) -> str:
    """Return fp32 or fp16. Raises SettingsError for a precision that these providers do not have."""
    has = ("fp32", "fp16") if TENSORRT in providers else ("fp32",)
    if wanted == "auto":
        return has[-1]
    if wanted not in has:
        raise SettingsError(f"backend onnxruntime has no precision {wanted!r} here; it has auto, {', '.join(has)}")
    return wanted


def provider_options(name: str, device: torch.device, precision: str, folder: Path | None) -> dict[str, Any]:
    """Return ONNX Runtime's options for one provider."""
    if name == CPU:
        return {}
    options: dict[str, Any] = {"device_id": device.index or 0}
    if name == TENSORRT:
        options["trt_fp16_enable"] = precision == "fp16"
        if folder is not None:  # building an engine takes minutes
            options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": os.fspath(folder / "engines")}
    return options


def export_network(
    network: DepthNetwork, size: Size, metadata: dict[str, str], *, dynamic_batch: bool = False
) -> bytes:
    """Return an ONNX model of a network for one size: `image` float32 (1, 3, h, w) -> the network's outputs, by name.

    Args:
        metadata: written into the file.
        dynamic_batch: leave the number of images open.

    Raises:
        BackendError: a library is missing, or it cannot be exported.
    """
    import_library("onnxscript")
    x = parity.probe_image(*size)
    parity.reference(network, x)  # computes the position embedding of this size, which is a constant in the export
    x = x.expand(2, -1, -1, -1) if dynamic_batch else x  # the exporter takes a batch of one for a constant
    logging.getLogger(EXPORTER_LOG).setLevel(logging.ERROR)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        try:
            program = torch.onnx.export(
                network,
                (x,),
                input_names=[INPUT],
                output_names=list(network.outputs),
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},) if dynamic_batch else None,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props.update(metadata)
            return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
        except Exception as error:  # the exporter's own kinds, torch.export's, protobuf's
            raise BackendError(f"the network cannot be exported: {type(error).__name__}: {error}") from error


def import_library(name: str) -> Any:
    """Import a library of the extra `onnx`, without telemetry. Raises BackendError if it is missing or broken."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports to its makers by default
    try:
        return import_module(name)
    except Exception as error:  # a broken installation fails in any way
        raise BackendError(f"{name} cannot be imported ({error}): pip install 'depth_anything_ros[onnx]'") from error
