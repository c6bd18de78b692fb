"""Answers on their way out: how much memory they hold together, and how long a client may take to read one.

An answer is handed to the connection in pieces, so what the client has not taken is counted here and can be
dropped. A client that reads too slowly is cut off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from starlette.types import Message, Send

from bridge.server.errors import InvalidValue, QueueFull

# Handed over at once; the connection itself keeps up to 64 KiB before it makes its writer wait.
PIECE_BYTES = 8 * 2**20
SMALL_BYTES = 64 * 1024


class SlowReader(Exception):
    """The client did not take its answer in time."""


class AnswerMemory:
    """Counts the bytes of all answers, from before they are computed until they are taken.

    Args:
        limit_bytes: for all answers of this process together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._freed = asyncio.Event()

    async def reserve(self, size_bytes: int, timeout_s: float) -> Reservation:
        """Wait until there is room for an answer. Smaller ones may overtake larger ones.

        Raises:
            InvalidValue: there would never be room.
            QueueFull: there was none in time.
        """
        if size_bytes > self._limit_bytes:
            raise InvalidValue(
                f"the answer would take {size_bytes} bytes of memory, and this server allows {self._limit_bytes}; "
                "send a smaller image, fewer images, or ask for depth and back-project it yourself"
            )
        until_s = time.monotonic() + timeout_s
        while self._held_bytes + size_bytes > self._limit_bytes:
            self._freed.clear()
            try:
                await asyncio.wait_for(self._freed.wait(), until_s - time.monotonic())
            except asyncio.TimeoutError:
                raise QueueFull("answers that other clients have not taken yet fill the memory") from None
        self.change(size_bytes)
        return Reservation(self, size_bytes)

    def change(self, size_bytes: int) -> None:
        """Count more bytes, or fewer."""
        self._held_bytes += size_bytes
        if size_bytes < 0:
            self._freed.set()


class Reservation:
    """Memory that one answer may take."""

    def __init__(self, memory: AnswerMemory, size_bytes: int) -> None:
        self._memory = memory
        self._size_bytes = size_bytes

    def resize(self, size_bytes: int) -> None:
        """Count another size, once it is known."""
        self._memory.change(size_bytes - self._size_bytes)
        self._size_bytes = size_bytes

    def release(self) -> None:
        """Give the memory back; twice counts once."""
        self.resize(0)


async def send_body(send: Send, message: Message, timeout_s: float, buffered_bytes: Callable[[], int]) -> None:
    """Send a message of an answer's body; return when the client has taken all but 64 KiB of it.

    In each `timeout_s` at least half of what is left has to be taken, so a large answer has time in proportion
    to the logarithm of its size.

    Args:
        buffered_bytes: tells how many bytes the connection holds that are not sent yet.

    Raises:
        SlowReader: the client takes too little.
    """
    body: bytes = message.get("body", b"")
    if len(body) <= SMALL_BYTES:
        await send(message)
        return
    unsent_bytes = len(body)

    async def send_pieces() -> None:
        nonlocal unsent_bytes
        pieces: Iterable[bytes | memoryview] = [body] if len(body) <= PIECE_BYTES else _pieces(memoryview(body))
        for piece in pieces:
            await send({"type": message["type"], "body": piece, "more_body": True})
            unsent_bytes -= len(piece)
        await send({"type": message["type"], "body": b"", "more_body": message.get("more_body", False)})

    sending = asyncio.ensure_future(send_pieces())
    left_bytes = unsent_bytes
    try:
        while not sending.done():
            await asyncio.wait({sending}, timeout=timeout_s)
            before_bytes, left_bytes = left_bytes, unsent_bytes + buffered_bytes()
            if not sending.done() and left_bytes * 2 > before_bytes:
                raise SlowReader
        sending.result()
    finally:
        sending.cancel()


def _pieces(body: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
