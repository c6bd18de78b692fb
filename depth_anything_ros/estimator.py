"""One image in, depth out: the whole path as named steps."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depth_anything_ros.backends import create_backend
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.depth_map import DepthMap, Kind
from depth_anything_ros.errors import DeviceError, ImageError, SettingsError
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.preprocess import Preprocessing, ResizeOnce, preprocessing_for
from depth_anything_ros.model.registry import PATCH_SIZE, dataset_spec, encoder_for
from depth_anything_ros.model.sky import fill_sky, resized_beside_sky, sky_depth
from depth_anything_ros.model.weights import load_model
from depth_anything_ros.runtime.device import memory_errors, select_device
from depth_anything_ros.runtime.transfer import to_host, upload
from depth_anything_ros.settings import InputLimits, ModelSettings, model_key, own_input_size

logger = logging.getLogger(__name__)

_DEFAULTS = ModelSettings()
ONNX_SUFFIX = ".onnx"
# Depth Anything 3's metric model says metres for a camera of this focal length, in pixels of the network's input.
CANONICAL_FOCAL_PX = 300.0
Focal = float | tuple[float, float]
WARM_UP_RUNS = {"cpu": 1, "cuda": 2}  # a graph is captured at the second


@dataclass(frozen=True)
class DepthTensors:
    """A model's outputs for images of one size: at that size, on the model's device.

    Attributes:
        depth: float32 (B, H, W); sky is filled as in `DepthMap.values`.
        sky: bool (B, H, W), or None.
        confidence: float32 (B, H, W), or None.
        focal_px: the model's own estimate in pixels of the image, float32 (B,), or None.
    """

    depth: Tensor
    sky: Tensor | None = None
    confidence: Tensor | None = None
    focal_px: Tensor | None = None

    def of_image(self, index: int) -> DepthTensors:
        """The outputs for one image: the same without the first dimension."""
        said = (self.depth, self.sky, self.confidence, self.focal_px)
        return DepthTensors(*(None if values is None else values[index] for values in said))  # type: ignore[arg-type]


class DepthEstimator:
    """A loaded model, ready to run. May be shared by threads.

    Attributes:
        key: `{encoder}_{dataset}_{input_size}`.
        kind: `metric`, `relative` or `scale_invariant`.
        input_size: side given to the network in pixels: as in the key, or the most that the encoder takes.
        max_depth: the dataset's own, in metres; 1.0 where depth does not end there.
        needs_focal: metres follow from the focal length; without one there are none.
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
        preprocessing: Preprocessing | None = None,
        needs_focal: bool = False,
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
        self.needs_focal = needs_focal
        self.source = source
        self.sha256 = sha256
        self.limits = limits or InputLimits()
        self._preprocessing = preprocessing or ResizeOnce()

    @classmethod
    def load(
        cls,
        encoder: str = _DEFAULTS.encoder,
        dataset: str = _DEFAULTS.dataset,
        checkpoint: str | os.PathLike[str] | None = _DEFAULTS.checkpoint,
        input_size: int | None = _DEFAULTS.input_size,
        device: str = _DEFAULTS.device,
        precision: str = _DEFAULTS.precision,
        backend: str = _DEFAULTS.backend,
        *,
        compile: bool = _DEFAULTS.compile,
        resize: str | None = _DEFAULTS.resize,
        download: bool = _DEFAULTS.download,
        accept_license: bool = _DEFAULTS.accept_license,
        background: bool = False,
        limits: InputLimits | None = None,
    ) -> DepthEstimator:
        """Load a model; the arguments are those of `settings.ModelSettings`.

        With `background`, on a CPU, what new image sizes need is built in a thread. Torch answers meanwhile.

        Raises:
            SettingsError: unknown encoder, dataset, precision or resize, an encoder that the dataset does not have,
                an input size below 14, or `compile` without torch.
            CheckpointError: one of its kinds, see `weights.load_model`.
            DeviceError: no such device here. OutOfMemory: the model does not fit on it.
            BackendError: unknown backend, or it cannot run here.
        """
        spec, architecture = dataset_spec(dataset), encoder_for(encoder, dataset)
        preprocessing = preprocessing_for(dataset, resize)
        side = own_input_size(dataset) if input_size is None else input_size
        target = select_device(device)
        if checkpoint is not None and Path(checkpoint).suffix == ONNX_SUFFIX:
            if compile:
                raise SettingsError(f"compile is torch.compile, for backend torch; {checkpoint} is a finished graph")
            # Imported here: the libraries behind it are an extra.
            from depth_anything_ros.backends.onnx_files import load_file

            running, source, sha256 = load_file(Path(checkpoint), encoder, dataset, target, precision, backend)
        else:
            loaded = load_model(encoder, dataset, checkpoint, download=download, accept_license=accept_license)
            source, sha256 = loaded.source, loaded.sha256
            network = loaded.network
            reload = partial(_load_again, encoder, dataset, loaded.source)
            del loaded  # it would hold the network
            with memory_errors(target):
                running = create_backend(
                    backend,
                    network,
                    target,
                    precision,
                    cache_folder(),
                    compile=compile,
                    reload=reload,
                    background=background,
                )
        return cls(
            running,
            key=model_key(encoder, dataset, side),
            kind=spec.kind,
            max_depth=spec.max_depth_m,
            input_size=architecture.clamp_input_size(side),
            preprocessing=preprocessing,
            needs_focal=spec.needs_focal,
            source=source,
            sha256=sha256,
            limits=limits,
        )

    @classmethod
    def from_settings(cls, settings: ModelSettings, *, background: bool = False) -> DepthEstimator:
        """`load` with every other argument taken from the settings."""
        return cls.load(
            encoder=settings.encoder,
            dataset=settings.dataset,
            checkpoint=settings.checkpoint,
            input_size=settings.input_size,
            device=settings.device,
            precision=settings.precision,
            backend=settings.backend,
            compile=settings.compile,
            resize=settings.resize,
            download=settings.download,
            accept_license=settings.accept_license,
            background=background,
        )

    def sharing_weights(self, settings: ModelSettings) -> DepthEstimator:
        """Return an estimator for settings that differ in input size and resize rule alone. Errors as `load`."""
        return DepthEstimator(
            self.backend,
            key=settings.key,
            kind=self.kind,
            max_depth=self.max_depth,
            input_size=encoder_for(settings.encoder, settings.dataset).clamp_input_size(settings.network_input_size),
            preprocessing=preprocessing_for(settings.dataset, settings.resize),
            needs_focal=self.needs_focal,
            source=self.source,
            sha256=self.sha256,
            limits=self.limits,
        )

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.backend.device

    @property
    def weight_bytes(self) -> int:
        """Memory taken by the weights."""
        return self.backend.weight_bytes

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (h, w) that an image (H, W) has for the network. Raises ImageError: outside the caps."""
        return self._preprocessing.network_size(height, width, self.input_size, self.limits)

    def estimate(
        self, image_bgr: NDArray[np.uint8], max_depth: float | None = None, focal_px: Focal | None = None
    ) -> DepthMap:
        """Estimate the depth of one image.

        Args:
            image_bgr: uint8 (H, W, 3), BGR, any strides.
            max_depth: metres at the network's full output; None is the dataset's own. Only models whose metres follow
                from it look at it.
            focal_px: focal length in pixels of this image, one number or (fx, fy). Only models whose metres follow from
                it look at it (`needs_focal`).

        Returns:
            DepthMap with arrays (H, W) in host memory.

        Raises:
            ImageError: wrong shape or dtype, or outside the caps on aspect ratio and tokens.
            SettingsError: a max_depth or focal_px that is not a positive number, or no focal_px where it is needed.
            DeviceError: the device gave numbers that are not finite.
            OutOfMemory: the device's memory is full; what was taken is given back.
        """
        return self.estimate_batch([image_bgr], [max_depth], [focal_px])[0]

    def estimate_batch(
        self,
        images_bgr: Sequence[NDArray[np.uint8]],
        max_depths: Sequence[float | None] | None = None,
        focals_px: Sequence[Focal | None] | None = None,
    ) -> list[DepthMap]:
        """`estimate` for images of one shape together, each with its own `max_depth` and focal length."""
        tensors = self.estimate_tensors(images_bgr, max_depths, focals_px)
        with memory_errors(self.device):
            return self._depth_maps(tensors, focals_px)

    def estimate_tensors(
        self,
        images_bgr: Sequence[NDArray[np.uint8]],
        max_depths: Sequence[float | None] | None = None,
        focals_px: Sequence[Focal | None] | None = None,
    ) -> DepthTensors:
        """`estimate_batch`, with the result left on the device."""
        height, width = check_images(images_bgr)
        count = len(images_bgr)
        depths = [None] * count if max_depths is None else max_depths
        focals = [None] * count if focals_px is None else focals_px
        _check_counts(count, max_depth=len(depths), focal_px=len(focals))
        scales = [self.scale(height, width, *wanted) for wanted in zip(depths, focals, strict=True)]
        found = self.predict(images_bgr)
        with torch.inference_mode():
            for image_depth, scale in zip(found.depth, scales, strict=True):
                image_depth.mul_(scale)
        return found

    def predict(self, images_bgr: Sequence[NDArray[np.uint8]]) -> DepthTensors:
        """`estimate_tensors` before depth is multiplied by `scale`, for callers that know it only later."""
        height, width = check_images(images_bgr)
        self.network_size(height, width)
        with memory_errors(self.device), torch.inference_mode():
            images = upload(images_bgr, self.device)
            outputs = self._infer(self._preprocessing(images, self.input_size))
            return self._at_image_size(outputs, height, width)

    def scale(self, height: int, width: int, max_depth: float | None = None, focal_px: Focal | None = None) -> float:
        """Return what the network's depth of an image (H, W) is multiplied by. Arguments and errors as `estimate`."""
        if self.needs_focal:
            return self._focal_at_network(height, width, focal_px) / CANONICAL_FOCAL_PX
        if max_depth is None or self.kind != "metric":
            return self.max_depth
        if not 0 < max_depth < math.inf:
            raise SettingsError(f"max_depth must be a positive number of metres, got {max_depth}")
        return max_depth

    def _focal_at_network(self, height: int, width: int, focal_px: Focal | None) -> float:
        """Focal length in pixels of the network's input: the mean of both axes."""
        if focal_px is None:
            raise SettingsError(
                f"{self.key} needs focal_px: its metres follow from the camera's focal length in pixels of the image"
            )
        fx, fy = as_pair(focal_px)
        h, w = self.network_size(height, width)
        return (fx * w / width + fy * h / height) / 2

    def _at_image_size(self, outputs: Outputs, height: int, width: int) -> DepthTensors:
        """Bring maps to the images' size, tell and fill the sky, turn the field of view into a focal length."""
        back = partial(self._preprocessing.back, size=(height, width))
        depth, sky, confidence = (outputs.get(name) for name in ("depth", "sky", "confidence"))
        assert depth is not None
        is_sky = None
        if sky is None:
            values = back(depth)
        else:
            values, is_sky = resized_beside_sky(depth, sky, back)
            values = fill_sky(values, is_sky, sky_depth(depth, sky))
        return DepthTensors(
            values,
            is_sky,
            None if confidence is None else back(confidence),
            focal_of(outputs["field_of_view"], height, width) if "field_of_view" in outputs else None,
        )

    def _depth_maps(self, found: DepthTensors, focals_px: Sequence[Focal | None] | None) -> list[DepthMap]:
        depth = to_host(found.depth)
        sky, confidence = (_none_or_host(maps, len(depth)) for maps in (found.sky, found.confidence))
        focals = self._focals(found, len(depth), focals_px)
        maps = zip(depth, sky, confidence, focals, strict=True)
        is_estimated = found.focal_px is not None
        return [
            DepthMap(values, self.kind, self.key, is_sky, sure, focal_px, is_estimated and focal_px is not None)
            for values, is_sky, sure, focal_px in maps
        ]

    def _focals(self, found: DepthTensors, count: int, focals_px: Sequence[Focal | None] | None) -> list[float | None]:
        """Focal length of each image: what was given where it is needed, or the model's estimate."""
        if found.focal_px is not None:
            return [focal if math.isfinite(focal) else None for focal in found.focal_px.tolist()]
        if not self.needs_focal or focals_px is None:
            return [None] * count
        return [None if focal is None else sum(as_pair(focal)) / 2 for focal in focals_px]

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        """Build what images of this size need, and estimate empty ones: all is ready for the first real image.

        Raises:
            DepthAnythingError: as `estimate`.
        """
        images = [np.zeros((height, width, 3), np.uint8)] * batch
        prepare = getattr(self.backend, "prepare", None)
        if prepare is not None:  # the backend builds something for each size
            prepare(self.network_size(height, width))
        for _ in range(WARM_UP_RUNS[self.device.type]):
            found = self.predict(images)
            with memory_errors(self.device):
                self._depth_maps(found, None)

    def _infer(self, x: Tensor) -> Outputs:
        """Run the network on as many images at a time as the backend takes. Raises DeviceError: no finite numbers."""
        parts = [self.backend(part) for part in torch.split(x, self.backend.max_batch)]
        outputs = (
            parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        )
        if not all(values.isfinite().all() for values in outputs.values()):
            raise DeviceError(f"{self.device} answered with numbers that are not finite")
        return outputs


def _load_again(encoder: str, dataset: str, source: str) -> DepthNetwork:
    """Load the network of a checkpoint file that was found before."""
    return load_model(encoder, dataset, source, download=False).network


def as_pair(focal_px: Focal) -> tuple[float, float]:
    """Return (fx, fy). Raises SettingsError for anything but positive numbers."""
    fx, fy = focal_px if isinstance(focal_px, tuple) else (focal_px, focal_px)
    if not (0 < fx < math.inf and 0 < fy < math.inf):
        raise SettingsError(f"focal_px must be a positive number of pixels, got {focal_px}")
    return fx, fy


def focal_of(field_of_view: Tensor, height: int, width: int) -> Tensor:
    """Field of view (B, 2), vertical and horizontal, radians -> focal length in pixels of (H, W) images, (B,).

    The mean of both axes; NaN where a field of view is none that a pinhole camera can have, 0 or 180 degrees and more.
    """
    vertical, horizontal = field_of_view.float().unbind(1)
    fx, fy = width / 2 / (horizontal / 2).tan(), height / 2 / (vertical / 2).tan()
    is_pinhole = ((field_of_view > 0) & (field_of_view < math.pi)).all(1)
    return ((fx + fy) / 2).where(is_pinhole, math.nan)


def _none_or_host(maps: Tensor | None, count: int) -> list[NDArray[Any] | None]:
    return [None] * count if maps is None else [*to_host(maps)]


def _check_counts(images: int, **given: int) -> None:
    for name, count in given.items():
        if count != images:
            raise SettingsError(f"there are {images} images, and a {name} for {count}")


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
