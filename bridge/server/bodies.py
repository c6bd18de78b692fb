"""Request bodies as ASGI messages: read within their limits, replayed to the application, read to the end.

What is in a body is `parsing`'s matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.types import Message, Receive, Send

from bridge.server.admission import Place
from bridge.server.errors import BodyTooLarge, BodyTooSlow, Draining, QueueFull
from bridge.server.exchange import Exchange
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState

LINGER_S = 2.0  # how long a client may go on sending after it was refused
POLL_S = 0.5  # how soon a slow upload learns that the server goes down
PLACE_S = 1.0  # how long a place in the queue is kept for a request whose body is still to come


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


class Bodies:
    """Reads bodies within the limits of one body and of all bodies together."""

    def __init__(self, settings: BridgeSettings, state: WorkerState) -> None:
        self._state = state
        self._max_bytes = settings.max_body_bytes
        self._max_held_bytes = settings.max_buffered_bytes
        self._timeout_s = settings.body_timeout_s
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, exchange: Exchange, place: Place | None) -> AsyncIterator[bytes]:
        """Collect a body; its bytes count until the block ends.

        A request has a place from its headers on, so that one too many is turned away at once. If its body is
        slow, it loses that place until the body is in: otherwise a few slow clients would keep all others out.

        Raises:
            BodyTooLarge, BodyTooSlow: the body is outside its limits.
            QueueFull: all bodies together are, or no place is left once the body is in.
            Draining: the server goes down, and the body is slow.
            ClientGone: the connection was closed.
        """
        self._check_announced(exchange)
        body = bytearray()
        try:
            while not exchange.body_is_read:
                await self._read_some(exchange, body, place)
            if place is not None:
                place.take()
            yield bytes(body)
        finally:
            self._held_bytes -= len(body)

    def _check_announced(self, exchange: Exchange) -> None:
        """Refuse a body whose announced size is too large, before reading any of it."""
        headers = exchange.scope["headers"]
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        if int(length) > self._max_bytes:
            raise self._too_large()

    async def _read_some(self, exchange: Exchange, body: bytearray, place: Place | None) -> None:
        elapsed_s, limit_s = exchange.elapsed_s, min(self._timeout_s, exchange.deadline_s)
        if elapsed_s >= limit_s:
            raise BodyTooSlow("the body did not arrive in time")
        if place is not None and elapsed_s >= PLACE_S:
            place.give_back()
        is_accepted = place is not None and place.is_held
        if self._state.is_draining and not is_accepted and elapsed_s >= POLL_S:
            raise Draining("the server is going down, and the body did not arrive in time")
        try:
            message = await asyncio.wait_for(exchange.receive(), min(POLL_S, limit_s - elapsed_s))
        except asyncio.TimeoutError:
            return
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        body += chunk
        self._held_bytes += len(chunk)
        exchange.body_is_read = not message.get("more_body", False)
        if len(body) > self._max_bytes:
            raise self._too_large()
        if self._held_bytes > self._max_held_bytes:
            raise QueueFull("the server holds too much data already")

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self._max_bytes} bytes")


def replay(body: bytes) -> Receive:
    """A `receive` that gives a body that was already read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        never: asyncio.Future[Message] = asyncio.Future()  # the front door watches for the disconnect
        return await never

    return receive


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def discard_rest(receive: Receive) -> None:
    """Keep reading for a moment: closing while the client still sends would destroy the answer on its way."""

    async def read_on() -> None:
        while (message := await receive())["type"] != "http.disconnect" and message.get("more_body", False):
            pass

    try:
        await asyncio.wait_for(read_on(), LINGER_S)
    except asyncio.TimeoutError:
        pass


def hold_end(send: Send, before_end: Callable[[], Awaitable[None]]) -> Send:
    """A `send` that passes an answer's bytes on at once, but its end only after `before_end`."""

    async def held(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            await before_end()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return held
