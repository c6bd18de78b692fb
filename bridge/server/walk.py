"""The walk of a request for depth: read it, check it, decode, infer, encode.

Key, rate, place in the queue and body come before it (`front_door`); who runs when is `scheduling`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from fastapi import Request, Response
from numpy.typing import NDArray

from bridge.codec import check_png_scale, decode_image
from bridge.server.admission import Place
from bridge.server.answers import AnswerMemory, Reservation
from bridge.server.endpoints import Endpoint
from bridge.server.errors import DeviceFailed, NotAcceptable
from bridge.server.fetching import Fetches
from bridge.server.media import PNG
from bridge.server.metrics import Metrics
from bridge.server.models import choose_model, record_models
from bridge.server.options import validate
from bridge.server.parsing import read_source
from bridge.server.replies import Result, answer_bytes, choose_format, encode
from bridge.server.scheduling import Scheduler, server_timing
from bridge.server.schemas import CloudOptions, MetricOptions, Options
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.io.image_header import ImageHeader, check_image
from depth_anything_ros.model.preprocess import network_size
from depth_anything_ros.model.registry import dataset_spec
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import ModelSettings

logger = logging.getLogger(__name__)

# /rel_depth gives the network's output as it is, a metric network's too.
UNIT_SCALE = 1.0


@dataclass(frozen=True)
class Job:
    """A request that can be worked on: an image within the limits, a model, options in range."""

    image: bytes
    header: ImageHeader
    model: ModelSettings
    options: Options


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, uint8 BGR (H, W, 3), and their depth once there is one."""

    image: NDArray[np.uint8]
    depth: DepthMap | None = None


class Walk:
    """Answers requests for depth. Collaborators are those of `app.create_app`."""

    def __init__(
        self,
        settings: BridgeSettings,
        cache: ModelCache,
        scheduler: Scheduler,
        fetches: Fetches,
        memory: AnswerMemory,
        state: WorkerState,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._scheduler = scheduler
        self._fetches = fetches
        self._memory = memory
        self._state = state
        self._metrics = metrics

    async def answer(self, endpoint: Endpoint, request: Request, place: Place) -> Response:
        """Do what an endpoint promises; `place` is given back when the work is done.

        Raises:
            DepthAnythingError: everything in the table of `errors`.
        """
        media = choose_format(request.headers.get("accept"), endpoint.formats)
        watch = Stopwatch()
        job = await self._read(endpoint, request, place)
        self._check(job, media)
        reservation = await self._reserve(job, media, place, watch)
        picture = await self._compute(job, watch)
        with watch.time("encode"):
            body, headers = await self._scheduler.in_thread(partial(finish, job, picture, media))
        reservation.resize(len(body))
        place.give_back()  # sending the answer may take the client long
        self._record(watch)
        return Response(body, headers={**headers, "Server-Timing": server_timing(watch)}, media_type=media)

    async def _read(self, endpoint: Endpoint, request: Request, place: Place) -> Job:
        """Body -> image and checked options; the image's header is read, nothing is decoded."""
        body = await request.body()
        read = partial(read_source, request.headers, request.query_params, body, self._settings.max_json_depth)
        source = await self._scheduler.on_bytes(read, len(body))
        options = validate(endpoint.options, source.fields, self._settings, strict=source.typed)
        model = choose_model(options, self._settings)
        image = source.image if source.image is not None else await self._fetches.fetch(source.image_url or "", place)
        check = partial(check_image, image, self._settings.image_limits)
        header = await self._scheduler.on_bytes(check, len(image))
        return Job(image, header, model, options)

    def _check(self, job: Job, media: str) -> None:
        """Refuse before the work what would be refused after it."""
        network_size(job.header.height, job.header.width, job.model.input_size, self._settings.input_limits)
        if media == PNG:
            if dataset_spec(job.model.dataset).kind == "relative":
                raise NotAcceptable("a 16-bit PNG holds metres, and dataset relative has none", "Accept")
            check_png_scale(scale_of(job.options), job.options.png_scale)

    async def _reserve(self, job: Job, media: str, place: Place, watch: Stopwatch) -> Reservation:
        """Wait for memory for the answer; it is held until the client has taken it."""
        is_cloud = isinstance(job.options, CloudOptions)
        size = answer_bytes(job.header.width * job.header.height, media, is_cloud=is_cloud)
        with watch.time("queue"):
            reservation = await self._memory.reserve(size, self._settings.queue_timeout_s)
        place.until_answered.callback(reservation.release)
        return reservation

    async def _compute(self, job: Job, watch: Stopwatch) -> Picture:
        """Decode and infer, each in its turn."""

        def decode() -> Picture:
            return Picture(decode_image(job.image, self._settings.image_limits))

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
            self._state.fail()
            raise DeviceFailed("the device failed; the server starts anew") from error

    def _record(self, watch: Stopwatch) -> None:
        self._state.served += 1
        self._metrics.record_stages(watch)
        record_models(self._cache, self._metrics)


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
