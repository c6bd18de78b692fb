"""What one server process does for a request, apart from HTTP: its state, and the walk of a request.

Take the request apart (`parsing`) -> wait, decode, infer (`scheduling`) -> encode by `Accept` (`replies`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from fastapi import Request, Response
from numpy.typing import NDArray

from bridge.codec import check_png_scale, decode_image
from bridge.server.endpoints import Endpoint
from bridge.server.errors import DeviceFailed, Draining, Loading, NotAcceptable, QueueFull
from bridge.server.image_url import UrlRefused
from bridge.server.metrics import Metrics
from bridge.server.parsing import Job, choose_model, model_settings, read_source
from bridge.server.replies import PNG, Result, choose_format, encode
from bridge.server.scheduling import Place, Scheduler, server_timing
from bridge.server.schemas import CloudOptions, MetricOptions, Options, validate
from bridge.server.settings import BridgeSettings
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.io.image_header import check_image
from depth_anything_ros.model.preprocess import network_size
from depth_anything_ros.model.registry import dataset_spec, encoder_spec
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import ModelSettings

logger = logging.getLogger(__name__)

# /rel_depth gives the network's output as it is, a metric network's too.
UNIT_SCALE = 1.0
MAX_FETCHES = 64  # images that are fetched at once, for each worker


class Fetcher(Protocol):
    """Where the bytes behind an image_url come from; see `image_url.ImageFetcher`."""

    async def fetch(self, url: str) -> bytes: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, uint8 BGR (H, W, 3), and their depth once there is one."""

    image: NDArray[np.uint8]
    depth: DepthMap | None = None


class Bridge:
    """State and work of one server process.

    Attributes:
        is_draining: set when the process is to end: what was accepted is finished, no more is taken.
        in_work: requests accepted and not answered yet.
        has_failed: a device cannot be used any more by this process, which has to end.
        preload_failed: a model named at start could not be loaded.

    Raises:
        SettingsError: an unknown encoder or dataset among the defaults or those to load.
    """

    def __init__(self, cache: ModelCache, settings: BridgeSettings, fetcher: Fetcher | None, worker_id: int) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.is_draining = self.has_failed = self.preload_failed = False
        self.in_work = 0
        self._cache = cache
        self._fetcher = fetcher
        self._fetches = asyncio.Semaphore(MAX_FETCHES)
        self._worker_id = worker_id
        at_once = len(cache.devices) * cache.max_batch
        self._scheduler = Scheduler(at_once, settings.max_waiting, settings.queue_timeout_s, self.metrics)
        self._to_load = [parse_preload(text, settings) for text in settings.preload]
        self._served = 0
        for model in (model_settings(settings), *self._to_load):
            encoder_spec(model.encoder)
            dataset_spec(model.dataset)

    @property
    def status(self) -> str:
        """`ready`, `loading` or `draining`."""
        if self.is_draining:
            return "draining"
        return "loading" if self._to_load else "ready"

    @contextmanager
    def admitted(self) -> Iterator[Place]:
        """Accept a request for depth, and give it a place.

        Raises:
            Draining, Loading, QueueFull: it cannot be taken now.
        """
        if self.is_draining:
            raise Draining("the server is going down")
        if self._to_load:
            raise Loading("the server is loading its models")
        place = Place(self._scheduler)
        place.take()
        self.in_work += 1
        try:
            yield place
        finally:
            self.in_work -= 1
            place.give_back()

    def preload(self) -> None:
        """Load the models named at start onto every device. Blocks: it belongs into a thread of its own."""
        try:
            while self._to_load:
                for device in self._cache.devices:
                    self._cache.get(replace(self._to_load[0], device=device))
                self._to_load.pop(0)
        except Exception as error:
            logger.error("cannot load %s: %s", self._to_load[0].key, error)
            self.preload_failed = True
        self._update_gauges()

    async def answer(self, endpoint: Endpoint, request: Request, place: Place) -> Response:
        """Do what one of the endpoints promises; `place` is given back when the work is done.

        Raises:
            DepthAnythingError: everything in the table of `errors`.
        """
        media = choose_format(request.headers.get("accept"), endpoint.formats)
        if media is None:
            raise NotAcceptable(f"Accept must allow one of {', '.join(endpoint.formats)}", "Accept")
        watch = Stopwatch()
        job = await self._read(endpoint, request, place)
        self._check(job, media)
        picture = await self._compute(job, watch)
        with watch.time("encode"):
            body, headers = await self._scheduler.in_thread(partial(finish, job, picture, media))
        place.give_back()  # sending the answer may take the client long
        self._record(watch)
        return Response(body, headers={**headers, "Server-Timing": server_timing(watch)}, media_type=media)

    async def _read(self, endpoint: Endpoint, request: Request, place: Place) -> Job:
        body = await request.body()
        read = partial(read_source, request.headers, request.query_params, body, self.settings.max_json_depth)
        source = await self._scheduler.on_bytes(read, len(body))
        options = validate(endpoint.options, source.fields, self.settings, strict=source.typed)
        model = choose_model(options, self.settings)
        image = source.image if source.image is not None else await self._fetch(source.image_url or "", place)
        check = partial(check_image, image, self.settings.image_limits)
        header = await self._scheduler.on_bytes(check, len(image))
        return Job(image, header, model, options)

    async def _fetch(self, url: str, place: Place) -> bytes:
        """Fetch an image without a place meanwhile, or a few slow hosts would keep all other clients out."""
        if self._fetcher is None:
            raise UrlRefused("this server fetches no image_url")
        if self._fetches.locked():
            raise QueueFull("too many images are being fetched")
        place.give_back()
        async with self._fetches:
            image = await self._fetcher.fetch(url)
        place.take()
        return image

    def _check(self, job: Job, media: str) -> None:
        """Refuse before the work what would be refused after it."""
        network_size(job.header.height, job.header.width, job.model.input_size, self.settings.input_limits)
        if media == PNG:
            if dataset_spec(job.model.dataset).kind == "relative":
                raise NotAcceptable("a 16-bit PNG holds metres, and dataset relative has none", "Accept")
            check_png_scale(scale_of(job.options), job.options.png_scale)

    async def _compute(self, job: Job, watch: Stopwatch) -> Picture:
        def decode() -> Picture:
            return Picture(decode_image(job.image, self.settings.image_limits))

        def infer(picture: Picture) -> Picture:
            pending.append(self._cache.submit(job.model, picture.image, scale_of(job.options)))
            return replace(picture, depth=pending[0].result())

        pending: list[Future[DepthMap]] = []
        try:
            return await self._scheduler.run(decode, infer, watch)
        except asyncio.CancelledError:
            for depth in pending:  # it leaves its batch, if that has not begun
                depth.cancel()
            raise
        except RuntimeError as error:
            if not is_poisoned(error):
                raise
            logger.critical("the device cannot be used any more by this process: %s", error)
            self.has_failed = self.is_draining = True
            raise DeviceFailed("the device failed; the server starts anew") from error

    def _record(self, watch: Stopwatch) -> None:
        self._served += 1
        for stage, seconds in watch.seconds.items():
            self.metrics.stages.labels(stage).observe(seconds)
        self._update_gauges()

    def _update_gauges(self) -> None:
        self.metrics.models.set(len(self._cache.models_loaded()))
        for device in self._cache.devices:
            if device.startswith("cuda"):
                self.metrics.gpu_memory.labels(device).set(torch.cuda.memory_allocated(device))

    def health(self) -> dict[str, Any]:
        """What `GET /health` says."""
        gpus = [int(name.partition(":")[2]) for name in self._cache.devices if name.startswith("cuda:")]
        instances = self._cache.loaded()
        loaded = [model.key for model, _ in instances]
        return {
            "status": "draining" if self.is_draining else "healthy",
            "device": "cuda" if gpus else "cpu",
            "worker_id": self._worker_id,
            "gpu_id": gpus[0] if gpus else None,
            "gpu_count": len(gpus),
            "models_loaded": list(dict.fromkeys(loaded)),
            "total_model_instances": len(loaded),
            "model_instances": [
                {
                    "model": model.key,
                    "device": model.device,
                    "backend": estimator.backend.name,
                    "precision": estimator.backend.precision,
                }
                for model, estimator in instances
            ],
            "request_counter": self._served,
        }

    async def close(self) -> None:
        """Let the threads finish, and close the connections."""
        self._scheduler.close()
        if self._fetcher is not None:
            await self._fetcher.aclose()


def parse_preload(text: str, settings: BridgeSettings) -> ModelSettings:
    """Read `encoder:dataset:input_size`. Raises SettingsError."""
    low, high = settings.min_input_size, settings.max_input_size
    match text.split(":"):
        case [encoder, dataset, size] if size.isdecimal():
            if not low <= int(size) <= high:
                raise SettingsError(f"preload {text!r}: the input size must be {low} to {high}")
            return model_settings(settings, encoder, dataset, int(size))
    raise SettingsError(f"preload takes encoder:dataset:input_size, such as vits:hypersim:518, not {text!r}")


def scale_of(options: Options) -> float:
    """Metres at the network's full output."""
    return options.max_depth if isinstance(options, MetricOptions) else UNIT_SCALE


def finish(job: Job, picture: Picture, media: str) -> tuple[bytes, dict[str, str]]:
    """Back-project where a cloud was asked for, and encode; returns body and headers."""
    assert picture.depth is not None
    points = None
    if isinstance(job.options, CloudOptions):
        k, (height, width) = job.options.camera_intrinsics, picture.depth.values.shape
        with np.errstate(over="ignore", invalid="ignore"):  # absurd intrinsics give infinite points
            camera = CameraModel(k.fx, k.fy, k.cx, k.cy, width, height)
            points = camera.back_project(picture.depth.values).reshape(-1, 3)
    return encode(Result(picture.depth, picture.image, points, job.options.png_scale), media)


def is_poisoned(error: RuntimeError) -> bool:
    """Tell whether the process's CUDA context is lost: every later call in it fails too."""
    return "CUDA error" in str(error)
