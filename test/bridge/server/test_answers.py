"""Answers on their way out: memory is counted until they are taken, and slow readers are cut off."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from starlette.types import Message

from bridge.server.answers import PIECE_BYTES, SMALL_BYTES, AnswerMemory, Reservation, SlowReader, send_body
from bridge.server.errors import InvalidValue, QueueFull
from bridge.server.media import CLOUD_FORMATS, DEPTH_FORMATS
from bridge.server.replies import Result, answer_bytes, encode
from depth_anything_ros.depth_map import DepthMap


class Client:
    """Stands for a connection: holds what it is given, and makes its writer wait while the client takes no more."""

    def __init__(self, may_take_bytes: float = float("inf")) -> None:
        self.messages: list[Message] = []
        self.may_take_bytes = may_take_bytes

    @property
    def given(self) -> bytes:
        return b"".join(bytes(message["body"]) for message in self.messages)

    def buffered_bytes(self) -> int:
        given = sum(len(message["body"]) for message in self.messages)
        return int(given - min(given, self.may_take_bytes))

    async def send(self, message: Message) -> None:
        while self.buffered_bytes() > SMALL_BYTES:
            await asyncio.sleep(0.01)
        self.messages.append(message)

    async def take(self, message: Message, timeout_s: float) -> None:
        await send_body(self.send, message, timeout_s, self.buffered_bytes)


def body_of(size: int) -> Message:
    return {"type": "http.response.body", "body": bytes(range(256)) * (size // 256), "more_body": False}


@pytest.mark.parametrize("size", [0, 256, SMALL_BYTES, 2 * SMALL_BYTES, PIECE_BYTES, 3 * PIECE_BYTES])
def test_an_answer_arrives_whole_and_ends_once(size: int) -> None:
    client, message = Client(), body_of(size)
    asyncio.run(client.take(message, 1))
    assert client.given == message["body"]
    assert [part["more_body"] for part in client.messages] == [True] * (len(client.messages) - 1) + [False]
    assert max(len(part["body"]) for part in client.messages) <= PIECE_BYTES


def test_a_reader_that_stalls_is_cut_off_and_the_rest_stays_here() -> None:
    client = Client(may_take_bytes=2 * PIECE_BYTES)
    with pytest.raises(SlowReader):
        asyncio.run(client.take(body_of(6 * PIECE_BYTES), 0.1))
    assert len(client.given) <= 3 * PIECE_BYTES


def test_a_reader_that_drips_is_cut_off_too() -> None:
    client = Client(may_take_bytes=PIECE_BYTES)

    async def drip() -> None:
        while True:
            await asyncio.sleep(0.05)
            client.may_take_bytes += PIECE_BYTES // 100

    async def read() -> None:
        dripping = asyncio.ensure_future(drip())
        try:
            await client.take(body_of(3 * PIECE_BYTES), 0.2)
        finally:
            dripping.cancel()

    with pytest.raises(SlowReader):
        asyncio.run(read())


def test_a_slow_reader_that_takes_half_in_each_period_gets_everything() -> None:
    client = Client(may_take_bytes=0)

    async def read() -> None:
        sending = asyncio.ensure_future(client.take(body_of(2 * PIECE_BYTES), 0.3))
        for share in (0.6, 0.85, 1):
            await asyncio.sleep(0.2)
            client.may_take_bytes = int(2 * PIECE_BYTES * share)
        await sending

    asyncio.run(read())
    assert len(client.given) == 2 * PIECE_BYTES


def with_memory(limit: int, work: Callable[[AnswerMemory], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await work(AnswerMemory(limit))

    return asyncio.run(run())


def test_an_answer_waits_for_room_and_smaller_ones_pass() -> None:
    async def work(memory: AnswerMemory) -> None:
        first = await memory.reserve(80, 1)
        waiting = asyncio.ensure_future(memory.reserve(50, 5))
        small = await memory.reserve(20, 1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        first.release()
        first.release()  # counts once
        assert isinstance(await waiting, Reservation)
        small.resize(50)
        with pytest.raises(QueueFull, match="not taken"):
            await memory.reserve(1, 0.05)

    with_memory(100, work)


def test_what_gives_up_waiting_leaves_no_trace() -> None:
    async def work(memory: AnswerMemory) -> None:
        first = await memory.reserve(80, 1)
        waiting = asyncio.ensure_future(memory.reserve(50, 5))
        await asyncio.sleep(0.01)
        waiting.cancel()
        first.release()
        await memory.reserve(100, 0)

    with_memory(100, work)


def test_an_answer_that_never_fits_is_refused_at_once() -> None:
    async def work(memory: AnswerMemory) -> None:
        with pytest.raises(InvalidValue, match="101 bytes"):
            await memory.reserve(101, 60)

    with_memory(100, work)


@pytest.mark.parametrize(
    ("media", "is_cloud"), [(m, False) for m in DEPTH_FORMATS] + [(m, True) for m in CLOUD_FORMATS]
)
def test_an_answers_size_is_known_before_it_is_made(media: str, is_cloud: bool) -> None:
    depth = np.random.default_rng(0).uniform(0, 60, (48, 64)).astype(np.float32)
    image, points = np.zeros((48, 64, 3), np.uint8), np.ones((48 * 64, 3), np.float32) if is_cloud else None
    result = Result(DepthMap(depth, "metric", "toy_hypersim_56"), image, points, 1000.0, 20.0, "m")
    body, _ = encode(result, media)
    arrays = depth.nbytes + image.nbytes + (0 if points is None else points.nbytes)
    assert len(body) + arrays <= answer_bytes(48 * 64, media, is_cloud=is_cloud) <= 1.5 * (len(body) + arrays) + 8192
