"""Streams of a robot's camera, against WebSocket servers that break, refuse and send rubbish."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from bridge.client import AsyncDepthClient, BridgeError, DepthClient, RobotFrame
from bridge.frame_header import FrameHeader
from depth_anything_ros.errors import SettingsError

DEPTH = np.arange(6, dtype=np.float32).reshape(2, 3)
Serve = Callable[[ServerConnection], None]
Answer = Callable[[ServerConnection, Request], Response | None]


def message(number: int, values: Any = DEPTH, **fields: Any) -> bytes:
    """A stream's message of depth."""
    told: dict[str, Any] = {"what": "depth", "format": "raw", "kind": "metric", "width": 3, "height": 2} | fields
    payload: bytes = values.tobytes()
    return FrameHeader(stamp_ns=number, number=number, **told).pack(len(payload)) + payload


@contextmanager
def server(handle: Serve, answer: Answer | None = None) -> Iterator[str]:
    """A WebSocket server on loopback that treats each connection so; its address for a client."""
    with serve(handle, "127.0.0.1", 0, process_request=answer, compression=None) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.socket.getsockname()[1]}/prefix"
        finally:
            running.shutdown()
            thread.join()


def stream(url: str, **options: Any) -> Iterator[RobotFrame]:
    """A stream of camera `front/left`."""
    return DepthClient(url, "secret").camera("front/left").stream(**options)


def test_a_stream_asks_below_the_servers_address_with_the_key() -> None:
    asked: list[tuple[str, str]] = []

    def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append((socket.request.path, socket.request.headers["Authorization"]))
        socket.send(message(1))

    with server(handle) as url:
        frame = next(stream(url, max_rate_hz=2.5))
    assert asked == [("/prefix/cameras/front%2Fleft/stream?what=depth&max_rate_hz=2.5", "Bearer secret")]
    np.testing.assert_array_equal(frame.values, DEPTH)
    assert (frame.header.stamp_ns, frame.header.kind) == (1, "metric")


@pytest.mark.parametrize("code", [None, 1001, 1012, 4503])
def test_a_stream_that_breaks_goes_on_where_it_is_opened_again(code: int | None) -> None:
    numbers = itertools.count(1)

    def handle(socket: ServerConnection) -> None:
        socket.send(message(next(numbers)))
        if code is None:
            socket.socket.close()
        else:
            socket.close(code, "camera_gone: the node went away")

    with server(handle) as url:
        got = [frame.header.number for frame in itertools.islice(stream(url), 3)]
    assert got == [1, 2, 3]


def test_an_asynchronous_stream_goes_on_likewise() -> None:
    numbers = itertools.count(1)

    def handle(socket: ServerConnection) -> None:
        socket.send(message(next(numbers)))
        socket.close(1001, "draining: the server goes down")

    async def take(url: str) -> list[int]:
        got = []
        async with AsyncDepthClient(url) as client:
            async for frame in client.camera("front").stream():
                got.append(frame.header.number)
                if len(got) == 3:
                    return got
        return got

    with server(handle) as url:
        assert asyncio.run(take(url)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (4401, "unauthorized: no valid key", 401),
        (4404, "unknown_camera: no camera 'x'", 404),
        (4429, "too_many_streams: 32", 429),
    ],
)
def test_a_refused_stream_raises_the_servers_error_at_once(code: int, reason: str, status: int) -> None:
    opened = []

    def handle(socket: ServerConnection) -> None:
        opened.append(socket)
        socket.close(code, reason)

    with server(handle) as url, pytest.raises(BridgeError) as raised:
        next(stream(url))
    words, _, text = reason.partition(": ")
    assert (raised.value.status, raised.value.code, str(raised.value)) == (status, words, f"{status}: {text}")
    assert len(opened) == 1


def test_a_server_without_streams_is_named_by_its_status() -> None:
    def answer(socket: ServerConnection, request: Request) -> Response:
        body = b'{"error": {"message": "no robot here", "code": "no_robot", "request_id": "r1"}}'
        return Response(404, "Not Found", Headers({"Content-Length": str(len(body))}), body)

    with server(lambda socket: None, answer) as url, pytest.raises(BridgeError, match="no robot here") as raised:
        next(stream(url))
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (404, "no_robot", "r1")


def test_a_stream_that_stays_down_is_given_up() -> None:
    with server(lambda socket: None) as url:
        pass
    with pytest.raises(BridgeError, match="no answer from http://127") as raised:
        next(stream(url, retry_for_s=0.3))
    assert raised.value.status is None


@pytest.mark.parametrize(
    "sent",
    [
        "text",
        b"DAR1",
        b"\0" * 80,
        message(1, DEPTH[:1]),
        message(1, format="ply"),
        message(1, format="png"),
        message(1, what="image"),
    ],
)
def test_what_is_no_frame_ends_the_stream_with_an_error(sent: str | bytes) -> None:
    with server(lambda socket: socket.send(sent)) as url, pytest.raises(BridgeError, match="cannot be read"):
        next(stream(url))


@pytest.mark.parametrize("options", [{"format": "ply"}, {"retry_for_s": -1.0}, {"retry_for_s": float("nan")}])
def test_what_cannot_be_streamed_is_refused_before_anything_is_sent(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        stream("http://127.0.0.1:9", **options)
