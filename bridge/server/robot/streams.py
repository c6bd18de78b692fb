"""Streams of a camera's frames: over a WebSocket, and as JPEG pictures for an `<img>`.

Always the latest frame: while a client takes one, newer ones replace each other, and nothing is kept for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bridge.server.answers import SMALL_BYTES, SlowReader
from bridge.server.robot.encodings import Encoded
from bridge.server.robot.feed import Feed
from bridge.server.robot.frames import Frame
from bridge.server.robot.limits import StreamLimits
from bridge.server.robot.quiet_websocket import FRAMED, frame_header
from bridge.server.robot.roster import Camera
from bridge.server.state import WorkerState

POLL_S = 0.5  # how soon a stream learns that the node is gone, or the server goes down
BOUNDARY = "frame"
MJPEG = f"multipart/x-mixed-replace; boundary={BOUNDARY}"


async def frames_of(
    camera: Camera,
    feed: Feed,
    state: WorkerState,
    limits: StreamLimits,
    key: str | None,
    max_rate_hz: float | None,
) -> AsyncIterator[Frame]:
    """Each newer frame, at most so many a second and so many bytes, until something ends the stream.

    Raises:
        RequestError: what `Camera.check` raises, while it waits. Draining: the server goes down.
    """
    pace, last = Pace(max_rate_hz), None
    while True:
        state.check_up()
        camera.check(feed)
        frame, wait_s = feed.latest, max(pace.wait_s(), limits.wait_s(key))
        if frame is None or frame is last:
            await feed.change(POLL_S)
        elif wait_s > 0:
            await asyncio.sleep(min(wait_s, POLL_S))
        else:
            pace.took_one()
            last = frame
            yield frame


class Pace:
    """Keeps the average rate at the limit even where frames come at odd times.

    Args:
        max_rate_hz: None is no limit.
    """

    def __init__(self, max_rate_hz: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s = 0.0 if max_rate_hz is None else 1 / max_rate_hz
        self._clock = clock
        self._next_s = 0.0

    def wait_s(self) -> float:
        """Seconds until the next frame is due."""
        return max(0.0, self._next_s - self._clock())

    def took_one(self) -> None:
        """Count a frame."""
        now_s = self._clock()
        steady = now_s - self._next_s < self._period_s
        self._next_s = (self._next_s if steady else now_s) + self._period_s


def part_of(jpeg: bytes, stamp: str) -> bytes:
    """One picture of a stream for an `<img>`; the boundary after it tells the reader that it is complete."""
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Stamp: {stamp}\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


@dataclass(frozen=True)
class Message:
    """A stream's message with the header of its WebSocket frame in front: the same bytes for every client."""

    framed: bytes
    payload: memoryview

    @classmethod
    def of(cls, encoded: Encoded) -> Message:
        """Make it of a frame in one format."""
        assert encoded.frame_header is not None
        header = encoded.frame_header.pack(len(encoded.body))
        in_front = frame_header(len(header) + len(encoded.body))
        framed = b"".join((in_front, header, encoded.body))
        return cls(framed, memoryview(framed)[len(in_front) :])

    def as_asgi(self) -> dict[str, Any]:
        """What is sent: a server that does not know `FRAMED` frames the payload."""
        return {"type": "websocket.send", "bytes": self.payload, FRAMED: self.framed}


async def send_in_time(sending: Awaitable[None], transport: asyncio.Transport | None, timeout_s: float) -> None:
    """Wait until a message is handed over; in each `timeout_s` the client has to take half of what is left.

    Raises:
        SlowReader: it does not; the connection is dropped, because closing it would wait for the client.
    """
    left_bytes = _buffered_bytes(transport)
    if transport is not None and not left_bytes:  # nothing to wait for
        await sending
        return
    work = asyncio.ensure_future(sending)
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=timeout_s)
            before_bytes, left_bytes = left_bytes, _buffered_bytes(transport)
            if not work.done() and left_bytes * 2 > before_bytes:
                if transport is not None:
                    transport.abort()
                raise SlowReader
        work.result()
    finally:
        work.cancel()


def drop_slow(transport: asyncio.Transport | None) -> None:
    """Drop a connection whose client has not taken its last frame: the process would wait for it at its end."""
    if transport is not None and _buffered_bytes(transport) > SMALL_BYTES:
        transport.abort()


def _buffered_bytes(transport: asyncio.Transport | None) -> int:
    return 0 if transport is None else transport.get_write_buffer_size()


async def until_gone(receive: Callable[[], Awaitable[object]]) -> None:
    """Read and ignore what a WebSocket's client sends, until it leaves."""
    while True:
        message = await receive()
        assert isinstance(message, dict)
        if message["type"] == "websocket.disconnect":
            return
