"""Request bodies as ASGI messages: length, replay, what is left over when a request ends early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import Message, Receive, Send

from bridge.server.errors import (
    BodyTooLarge,
)

LINGER_S = 2.0


def _check_length(headers: list[tuple[bytes, bytes]], limit: int) -> None:
    """Refuse a body that announces itself too large, before any of it is read."""
    length = next((value for name, value in headers if name == b"content-length"), b"0")
    if int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")


def _replay(body: bytes) -> Receive:
    """A `receive` that gives a body that was already read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        never: asyncio.Future[Message] = asyncio.Future()  # the disconnect is watched for elsewhere
        return await never

    return receive


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> None:
    pass


async def _discard(receive: Receive) -> None:
    """Read on for a moment: closing on a client that still sends would destroy the answer on its way."""

    async def read_on() -> None:
        while (message := await receive())["type"] != "http.disconnect" and message.get("more_body", False):
            pass

    try:
        await asyncio.wait_for(read_on(), LINGER_S)
    except asyncio.TimeoutError:
        pass


def _hold_end(send: Send, before_end: Callable[[], Any]) -> Send:
    """Send a body's bytes at once, but its end only after `before_end`."""

    async def held(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            await before_end()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return held
