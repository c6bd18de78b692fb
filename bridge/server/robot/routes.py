"""What answers the cameras' paths: the list, one frame, a stream of messages, a stream of pictures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from bridge.server.answers import SlowReader
from bridge.server.endpoints import CAMERAS_PATH, PREFIXES
from bridge.server.errors import NoFrame, RequestError
from bridge.server.media import JPEG, JSON, dump_json
from bridge.server.metrics import Metrics
from bridge.server.protocol import TRANSPORT
from bridge.server.replies import choose_format
from bridge.server.robot import documents
from bridge.server.robot.encodings import FORMATS, MEDIA, Encoded, encode, etag_of
from bridge.server.robot.feed import Feed
from bridge.server.robot.frames import Frame, stamp_text
from bridge.server.robot.limits import StreamLimits
from bridge.server.robot.options import FrameOptions, MjpegOptions, StreamOptions, read_query
from bridge.server.robot.roster import Camera, Roster
from bridge.server.robot.snapshots import Wish, frame_for
from bridge.server.robot.streams import (
    BOUNDARY,
    MJPEG,
    Message,
    drop_slow,
    frames_of,
    part_of,
    send_in_time,
    until_gone,
)
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from bridge.server.tasks import end_task
from depth_anything_ros.errors import InputError

logger = logging.getLogger(__name__)

ENCODER_THREADS = 2


class CameraRoutes:
    """Belongs to the event loop.

    Args:
        now_ns: the ROS clock.
    """

    def __init__(self, roster: Roster, settings: BridgeSettings, now_ns: Callable[[], int]) -> None:
        self._roster = roster
        self._limits = StreamLimits(settings)
        self._take_timeout_s = settings.body_timeout_s
        self._now_ns = now_ns
        self._pool = ThreadPoolExecutor(ENCODER_THREADS, "robot-encode")
        self._state: WorkerState
        self._metrics: Metrics

    def add_to(self, app: FastAPI) -> None:
        """Add the paths, plain and under each version's prefix; the document shows the plain ones."""
        for prefix in PREFIXES:
            root, shown = prefix + CAMERAS_PATH, not prefix
            app.add_api_route(root, self.list, **documents.of_list(shown=shown))
            for what in FORMATS:
                document = documents.of_frame(what, shown=shown)
                app.add_api_route(f"{root}/{{name}}/{what}", partial(self.frame, what), **document)
            app.add_api_route(f"{root}/{{name}}/stream.mjpeg", self.pictures, **documents.of_pictures(shown=shown))
            app.add_api_websocket_route(f"{root}/{{name}}/stream", self.stream)

    def open(self, state: WorkerState, metrics: Metrics) -> None:
        """Begin to answer."""
        self._state, self._metrics = state, metrics

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def list(self) -> Response:
        """The robot's cameras, and how they are; subscribes to nothing"""
        return Response(dump_json({"cameras": self._roster.describe()}), media_type=JSON)

    # One frame

    async def frame(self, what: str, request: Request) -> Response:
        """The latest frame that fits the query. Raises RequestError."""
        options = read_query(FrameOptions, request.query_params)
        media = choose_format(request.headers.getlist("accept"), FORMATS[what])
        known = frozenset(f"W/{tag.strip().removeprefix('W/')}" for tag in _tags(request))
        wish = Wish(options.max_age_ms, options.wait_ms, known)
        camera = self._roster.get(request.path_params["name"])
        feed, key = camera.feed(what), _key(request)
        self._limits.check(key)
        with ExitStack() as held:
            held.enter_context(self._limits.open(key))
            with feed.wanted():
                frame = await frame_for(wish, camera, feed, self._state, self._now_ns)
            if etag_of(frame) in known:
                return Response(status_code=304, headers={"ETag": etag_of(frame)})
            encoded = await self._encoded(frame, media, options.png_scale)
            self._limits.pay(key, len(encoded.body))
            body = iter([encoded.body])
            headers = encoded.headers | {"Content-Length": str(len(encoded.body))}
            return HeldResponse(held.pop_all(), body, headers=headers, media_type=media)

    async def _encoded(self, frame: Frame, media: str, png_scale: float) -> Encoded:
        """Encode in a thread, once for all. Raises NoFrame: the node's message cannot be read; NotAcceptable."""
        try:
            return await frame.make((media, png_scale), partial(encode, frame, media, png_scale), self._pool)
        except RequestError:
            raise
        except InputError as error:
            raise NoFrame(f"the node's message cannot be read: {error}") from None

    async def _message(self, frame: Frame, format_: str, png_scale: float) -> Message:
        """A frame as a stream's message, made once for all."""
        media = MEDIA[format_]
        encoded = await frame.make((media, png_scale), partial(encode, frame, media, png_scale), self._pool)
        return await frame.make(("message", media, png_scale), partial(Message.of, encoded), self._pool)

    # Streams

    async def stream(self, websocket: WebSocket) -> None:
        """One message a frame. What is raised closes the socket, see `front_door`."""
        options = read_query(StreamOptions, websocket.query_params)
        format_, key = options.checked_format, _key(websocket)
        camera = self._roster.get(websocket.path_params["name"])
        feed = camera.feed(options.what)
        with self._stream_of(camera, feed, key):
            frames = frames_of(camera, feed, self._state, self._limits, key, options.max_rate_hz)
            await websocket.accept()
            sending = self._send_frames(websocket, frames, format_, options.png_scale)
            await _either(sending, until_gone(websocket.receive))
            if self._state.is_draining:
                drop_slow(_transport(websocket))

    async def _send_frames(
        self, websocket: WebSocket, frames: AsyncIterator[Frame], format_: str, png_scale: float
    ) -> None:
        key, transport = _key(websocket), _transport(websocket)
        async for frame in frames:
            try:
                message = await self._message(frame, format_, png_scale)
            except RequestError:
                raise
            except InputError as error:
                logger.warning("a frame cannot be read: %s", error)
                continue
            try:
                await send_in_time(websocket.send(message.as_asgi()), transport, self._take_timeout_s)
            except (WebSocketDisconnect, SlowReader):
                return
            self._count(frame.what, key, len(message.payload))

    async def pictures(self, request: Request) -> Response:
        """JPEG pictures one after the other, for an `<img>` or VLC"""
        options = read_query(MjpegOptions, request.query_params)
        camera, key = self._roster.get(request.path_params["name"]), _key(request)
        feed = camera.feed(options.what)
        camera.check(feed)
        frames = frames_of(camera, feed, self._state, self._limits, key, options.max_rate_hz)
        with ExitStack() as held:
            held.enter_context(self._stream_of(camera, feed, key))
            headers = {"Cache-Control": "no-store"}
            return HeldResponse(held.pop_all(), self._parts(frames, key), headers=headers, media_type=MJPEG)

    async def _parts(self, frames: AsyncIterator[Frame], key: str | None) -> AsyncIterator[bytes]:
        yield f"--{BOUNDARY}\r\n".encode()
        try:
            async for frame in frames:
                encoded = await self._encoded(frame, JPEG, 1.0)
                yield part_of(encoded.body, stamp_text(frame.stamp_ns))
                self._count(frame.what, key, len(encoded.body))
        except RequestError as error:  # an answer that has begun can only end
            logger.info("a stream of pictures ends: %s", error)

    @contextmanager
    def _stream_of(self, camera: Camera, feed: Feed, key: str | None) -> Iterator[None]:
        """Count a stream within the block, and keep its topic subscribed."""
        with self._limits.open(key), feed.wanted():
            camera.streams += 1
            self._metrics.streams.inc()
            try:
                yield
            finally:
                camera.streams -= 1
                self._metrics.streams.dec()

    def _count(self, what: str, key: str | None, size_bytes: int) -> None:
        self._limits.pay(key, size_bytes)
        self._metrics.stream_frames.labels(what).inc()
        self._metrics.stream_bytes.labels(what).inc(size_bytes)


class HeldResponse(StreamingResponse):
    """An answer that holds something until it is sent, or its client is gone."""

    def __init__(self, held: ExitStack, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


async def _either(work: Any, end: Any) -> None:
    """Do some work until it is done or something else is. Raises what the work raises."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(end)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            await end_task(task)


def _key(connection: Request | WebSocket) -> str | None:
    """Name of the key behind a request."""
    name: str | None = connection.scope["state"].get("key_name")
    return name


def _transport(websocket: WebSocket) -> asyncio.Transport | None:
    """The connection below, where `protocol` made it."""
    transport: asyncio.Transport | None = websocket.scope["state"].get(TRANSPORT)
    return transport


def _tags(request: Request) -> list[str]:
    return [tag for line in request.headers.getlist("if-none-match") for tag in line.split(",") if tag.strip()]
