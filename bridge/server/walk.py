"""The walk of a request for depth: read it, check it, decode, infer, encode.

Key, rate, place in the queue and body come before it (`front_door`); who runs when is `scheduling`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, cast

from fastapi import Request, Response

from bridge.codec import decode_image
from bridge.server.admission import Place
from bridge.server.answers import AnswerMemory, Reservation
from bridge.server.cameras import check_one_camera
from bridge.server.endpoints import Endpoint
from bridge.server.errors import DeviceFailed, NotAcceptable, error_item
from bridge.server.fetching import Fetches
from bridge.server.jobs import (
    Job,
    Picture,
    check_job,
    finish,
    focal_of,
    memory_of,
    of_one_camera,
    rectified,
    result_of,
    scale_of,
)
from bridge.server.media import JSON
from bridge.server.metrics import Metrics
from bridge.server.models import choose_model, estimates_focal, record_models, without_weights
from bridge.server.options import validate
from bridge.server.parsing import Body, Fields, read_body, read_source
from bridge.server.replies import choose_format, encode_item, join_items
from bridge.server.scheduling import Scheduler, server_timing
from bridge.server.schemas import CloudOptions
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import CheckpointError
from depth_anything_ros.io.image_header import check_image
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.serving.model_cache import ModelCache

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """A request, what it asks for, and in which format."""

    request: Request
    endpoint: Endpoint
    media: str

    @property
    def place(self) -> Place:
        """Its place in the queue."""
        return cast(Place, self.request.state.place)

    @property
    def request_id(self) -> str:
        """What names it in the log."""
        return str(self.request.state.request_id)

    def charge(self, images: int) -> None:
        """Count further images against the key's rate."""
        self.request.state.charge(images)


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

    async def answer(self, endpoint: Endpoint, request: Request) -> Response:
        """Answer an endpoint's request, for one image or several; its place in the queue is free when the work is done.

        Raises:
            DepthAnythingError: everything in the table of `errors`. Of several images each has its own.
        """
        ask = Ask(request, endpoint, choose_format(request.headers.getlist("accept"), endpoint.formats))
        body = await self._read(ask)
        return await (self._answer_list(ask, body) if body.is_list else self._answer_one(ask, body.parts[0]))

    async def _answer_one(self, ask: Ask, fields: Fields) -> Response:
        watch = Stopwatch()
        job = await self._job(ask, fields)
        reservation = await self._reserve(ask, [job], watch)
        picture = await self._compute(ask, job, watch)
        with watch.time("encode"):
            body, headers = await self._scheduler.in_thread(partial(finish, job, picture, ask.media))
        reservation.resize(len(body))
        ask.place.finish()  # sending the answer may take the client long
        self._record(watch)
        return Response(body, headers={**headers, "Server-Timing": server_timing(watch)}, media_type=ask.media)

    async def _answer_list(self, ask: Ask, body: Body) -> Response:
        """All images at once, each in its turn; one that fails leaves the others alone."""
        if ask.media != JSON:
            raise NotAcceptable(f"several images are answered as {JSON} only", "Accept")
        ask.charge(len(body.parts) - 1)
        jobs = of_one_camera(await gather(self._job(ask, fields) for fields in body.parts), body.shared)
        reservation = await self._reserve(ask, [job for job in jobs if isinstance(job, Job)], Stopwatch())
        items = await gather(self._item(ask, job) for job in jobs)
        answer = join_items([item if isinstance(item, bytes) else error_item(item, ask.request_id) for item in items])
        reservation.resize(len(answer))
        ask.place.finish(len(body.parts))
        return Response(answer, media_type=JSON)

    async def _item(self, ask: Ask, job: Job | Exception) -> bytes:
        if isinstance(job, Exception):
            raise job
        watch = Stopwatch()
        picture = await self._compute(ask, job, watch)
        with watch.time("encode"):
            item = await self._scheduler.in_thread(lambda: encode_item(result_of(job, picture)))
        self._record(watch)
        return item

    async def _read(self, ask: Ask) -> Body:
        """Bytes -> fields for each image."""
        body, limits = await ask.request.body(), self._settings
        read = partial(
            read_body, ask.request.headers, ask.request.query_params, body, limits.max_json_depth, limits.max_images
        )
        return await self._scheduler.on_bytes(read, len(body))

    async def _job(self, ask: Ask, fields: Fields) -> Job:
        """Fields -> image and checked options; the image's header is read, nothing is decoded."""
        image = fields.get("image")
        size = len(image) if isinstance(image, (bytes, str)) else 0
        source = await self._scheduler.on_bytes(partial(read_source, fields), size)
        options = validate(ask.endpoint.options, source.fields, self._settings)
        model = choose_model(options, self._settings)
        check_one_camera(options, is_required=isinstance(options, CloudOptions) and not estimates_focal(model))
        encoded = source.image
        if encoded is None:
            encoded = await self._fetches.fetch(source.image_url or "", ask.place)
        check = partial(check_image, encoded, self._settings.image_limits)
        job = Job(encoded, await self._scheduler.on_bytes(check, len(encoded)), model, options)
        check_job(job, ask.media, self._settings.input_limits)
        return job

    async def _reserve(self, ask: Ask, jobs: list[Job], watch: Stopwatch) -> Reservation:
        """Wait for memory for the answer; it is held until the client has taken it."""
        size = sum(memory_of(job, ask.media) for job in jobs)
        with watch.time("queue"):
            reservation = await self._memory.reserve(size, self._settings.queue_timeout_s)
        ask.place.until_answered.callback(reservation.release)
        return reservation

    async def _compute(self, ask: Ask, job: Job, watch: Stopwatch) -> Picture:
        """Decode and infer, each in its turn."""

        def decode() -> Picture:
            return rectified(job, Picture(decode_image(job.image, self._settings.image_limits)))

        def infer(picture: Picture) -> Picture:
            ask.place.check_time()
            pending.append(self._cache.submit(job.model, picture.image, scale_of(job), focal_of(job)))
            return replace(picture, depth=pending[0].result())

        pending: list[Future[DepthMap]] = []
        try:
            return await self._scheduler.run(decode, infer, watch)
        except asyncio.CancelledError:
            for depth in pending:  # it leaves its batch, if that has not begun
                depth.cancel()
            raise
        except CheckpointError as error:
            logger.warning("%s cannot be loaded: %s", job.model.key, error)
            raise without_weights(error, job.model) from error
        except RuntimeError as error:
            if not is_poisoned(error):
                raise
            logger.critical("the device cannot be used any more by this process: %s", error)
            self._state.fail()
            raise DeviceFailed("the device failed; the server restarts") from error

    def _record(self, watch: Stopwatch) -> None:
        self._state.served += 1
        self._metrics.record_stages(watch)
        record_models(self._cache, self._metrics)


async def gather(work: Iterable[Awaitable[T]]) -> list[T | Exception]:
    """Do all of it, and return results and errors in their order."""
    found = await asyncio.gather(*work, return_exceptions=True)
    for outcome in found:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
    return cast("list[T | Exception]", found)


def is_poisoned(error: RuntimeError) -> bool:
    """Return whether the process's CUDA context is lost: every later call in it fails too."""
    return "CUDA error" in str(error)
