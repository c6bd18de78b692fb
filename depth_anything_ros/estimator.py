"""One image in, depth out: the whole path as named steps."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depth_anything_ros.backends import create_backend
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.depth_map import DepthMap, Kind
from depth_anything_ros.errors import DeviceError, ImageError, SettingsError
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.dpt import resize
from depth_anything_ros.model.preprocess import network_size, preprocess
from depth_anything_ros.model.registry import PATCH_SIZE, dataset_spec, encoder_spec
from depth_anything_ros.model.weights import load_model
from depth_anything_ros.runtime.device import (
    memory_errors,
    select_device,
)
from depth_anything_ros.runtime.transfer import to_host, upload
from depth_anything_ros.settings import InputLimits, ModelSettings

logger = logging.getLogger(__name__)

_DEFAULTS = ModelSettings()
ONNX_SUFFIX = ".onnx"
WARM_UP_RUNS = {"cpu": 1, "cuda": 2}  # a graph is captured at the second


class DepthEstimator:
    """A loaded model, ready to run. May be shared by threads.

    Attributes:
        key: `{encoder}_{dataset}_{input_size}`.
        kind: `metric` or `relative`.
        input_size: short side given to the network in pixels: as in the key, or the most that the encoder takes.
        max_depth: the dataset's own, in metres; 1.0 for relative models.
        source, sha256: the checkpoint file and its SHA-256.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        key: str,
        kind: Kind,
        max_depth: float,
        input_size: int,
        source: str = "",
        sha256: str = "",
        limits: InputLimits | None = None,
    ) -> None:
        if input_size < PATCH_SIZE:
            raise SettingsError(f"input_size must be at least {PATCH_SIZE} pixels, got {input_size}")
        self.backend = backend
        self.key = key
        self.kind: Kind = kind
        self.max_depth = max_depth
        self.input_size = input_size
        self.source = source
        self.sha256 = sha256
        self.limits = limits or InputLimits()

    @classmethod
    def load(
        cls,
        encoder: str = _DEFAULTS.encoder,
        dataset: str = _DEFAULTS.dataset,
        checkpoint: str | os.PathLike[str] | None = _DEFAULTS.checkpoint,
        input_size: int = _DEFAULTS.input_size,
        device: str = _DEFAULTS.device,
        precision: str = _DEFAULTS.precision,
        backend: str = _DEFAULTS.backend,
        *,
        compile: bool = _DEFAULTS.compile,
        download: bool = _DEFAULTS.download,
        accept_license: bool = _DEFAULTS.accept_license,
        limits: InputLimits | None = None,
    ) -> DepthEstimator:
        """Load a model; the arguments are those of `settings.ModelSettings`.

        Raises:
            SettingsError: unknown encoder, dataset or precision, an input size below 14, or `compile` without torch.
            CheckpointError: one of its kinds, see `weights.load_model`.
            DeviceError: no such device here. OutOfMemory: the model does not fit on it.
            BackendError: unknown backend, or it cannot run here.
        """
        spec, architecture = dataset_spec(dataset), encoder_spec(encoder)
        target = select_device(device)
        if checkpoint is not None and Path(checkpoint).suffix == ONNX_SUFFIX:
            if compile:
                raise SettingsError(f"compile is torch.compile, for backend torch; {checkpoint} is run by ONNX Runtime")
            # Imported here: the libraries behind it are an extra.
            from depth_anything_ros.backends.onnx_files import load_file

            running, source, sha256 = load_file(Path(checkpoint), encoder, dataset, target, precision, backend)
        else:
            loaded = load_model(encoder, dataset, checkpoint, download=download, accept_license=accept_license)
            source, sha256 = loaded.source, loaded.sha256
            with memory_errors(target):
                running = create_backend(backend, loaded.network, target, precision, cache_folder(), compile=compile)
        return cls(
            running,
            key=f"{encoder}_{dataset}_{input_size}",
            kind=spec.kind,
            max_depth=spec.max_depth_m,
            input_size=architecture.clamp_input_size(input_size),
            source=source,
            sha256=sha256,
            limits=limits,
        )

    @classmethod
    def from_settings(cls, settings: ModelSettings) -> DepthEstimator:
        """`load` with every argument taken from the settings."""
        return cls.load(
            encoder=settings.encoder,
            dataset=settings.dataset,
            checkpoint=settings.checkpoint,
            input_size=settings.input_size,
            device=settings.device,
            precision=settings.precision,
            backend=settings.backend,
            compile=settings.compile,
            download=settings.download,
            accept_license=settings.accept_license,
        )

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.backend.device

    @property
    def weight_bytes(self) -> int:
        """Memory taken by the weights."""
        return self.backend.weight_bytes

    def estimate(self, image_bgr: NDArray[np.uint8], max_depth: float | None = None) -> DepthMap:
        """Estimate the depth of one image.

        Args:
            image_bgr: uint8 (H, W, 3), BGR, any strides.
            max_depth: metres at the network's full output; None is the dataset's own. Relative
                models ignore it.

        Returns:
            DepthMap with float32 (H, W) in host memory.

        Raises:
            ImageError: wrong shape or dtype, or outside the caps on aspect ratio and tokens.
            SettingsError: a max_depth that is not a positive number.
            DeviceError: the device gave numbers that are not finite.
            OutOfMemory: the device's memory is full; what was taken is given back.
        """
        return self.estimate_batch([image_bgr], [max_depth])[0]

    def estimate_batch(
        self, images_bgr: Sequence[NDArray[np.uint8]], max_depths: Sequence[float | None] | None = None
    ) -> list[DepthMap]:
        """`estimate` for images of one shape together, each with its own `max_depth`; None is the dataset's for all."""
        depth = self.estimate_tensors(images_bgr, max_depths)
        with memory_errors(self.device):
            return [DepthMap(values, self.kind, self.key) for values in to_host(depth)]

    def estimate_tensor(self, image_bgr: NDArray[np.uint8], max_depth: float | None = None) -> Tensor:
        """`estimate`, with the float32 (H, W) result left on the device."""
        return self.estimate_tensors([image_bgr], [max_depth])[0]

    def estimate_tensors(
        self, images_bgr: Sequence[NDArray[np.uint8]], max_depths: Sequence[float | None] | None = None
    ) -> Tensor:
        """`estimate_batch`, with the float32 (B, H, W) result left on the device."""
        height, width = check_images(images_bgr)
        size = network_size(height, width, self.input_size, self.limits)
        scales = self._scales(len(images_bgr), max_depths)
        with memory_errors(self.device), torch.inference_mode():
            images = upload(images_bgr, self.device)
            x = preprocess(images, size)
            depth = self._infer(x)
            depth = resize(depth.unsqueeze(1), (height, width)).squeeze(1)
            for image_depth, scale in zip(depth, scales, strict=True):
                image_depth.mul_(scale)
            return depth

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        """Estimate empty images of this size, so that what is made for a size is there for the first real one.

        Raises:
            DepthAnythingError: as `estimate`.
        """
        images = [np.zeros((height, width, 3), np.uint8)] * batch
        for _ in range(WARM_UP_RUNS[self.device.type]):
            self.estimate_batch(images)

    def _infer(self, x: Tensor) -> Tensor:
        """Run the network on as many images at a time as the backend takes. Raises DeviceError: no finite numbers."""
        parts = [self.backend(part) for part in torch.split(x, self.backend.max_batch)]
        depth = parts[0] if len(parts) == 1 else torch.cat(parts)
        if not depth.isfinite().all():
            raise DeviceError(f"{self.device} answered with numbers that are not finite")
        return depth

    def _scales(self, count: int, max_depths: Sequence[float | None] | None) -> list[float]:
        wanted = [None] * count if max_depths is None else max_depths
        if len(wanted) != count:
            raise SettingsError(f"there are {count} images, and a max_depth for {len(wanted)}")
        return [self._scale(max_depth) for max_depth in wanted]

    def _scale(self, max_depth: float | None) -> float:
        if max_depth is None or self.kind == "relative":
            return self.max_depth
        if not 0 < max_depth < math.inf:
            raise SettingsError(f"max_depth must be a positive number of metres, got {max_depth}")
        return max_depth


def check_image(image_bgr: NDArray[np.uint8]) -> tuple[int, int]:
    """Return (H, W) of a uint8 (H, W, 3) array. Raises ImageError for anything else."""
    if not isinstance(image_bgr, np.ndarray) or image_bgr.dtype != np.uint8:
        got = getattr(image_bgr, "dtype", type(image_bgr).__name__)
        raise ImageError(f"the image must be a uint8 NumPy array, got {got}")
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3:
        raise ImageError(f"the image must have shape (H, W, 3), got {image_bgr.shape}")
    return image_bgr.shape[0], image_bgr.shape[1]


def check_images(images_bgr: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    """Return (H, W) of images that have it in common. Raises ImageError where they do not, or there are none."""
    sizes = [check_image(image) for image in images_bgr]
    if len(set(sizes)) != 1:
        found = ", ".join(f"{width}x{height}" for height, width in dict.fromkeys(sizes))
        raise ImageError(f"the images of a batch must have one size, got {found or 'none'}")
    return sizes[0]
