"""Who runs when: a bounded, fair queue in front of the devices.

A CPU runs one inference at a time, for two at once only share its speed and double its memory; a GPU is
given as many as the model cache puts into one batch.
The next images are decoded while it runs. Threads do all of that; the event loop only waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from bridge.server.errors import DeadlineExceeded, QueueFull
from bridge.server.metrics import Metrics
from depth_anything_ros.runtime.stopwatch import Stopwatch

T = TypeVar("T")

CODEC_THREADS = 2
# Handing work over to a thread takes a tenth of a millisecond: longer than to parse this much.
INLINE_BYTES = 256 * 1024


def server_timing(watch: Stopwatch) -> str:
    """The stages as a Server-Timing header."""
    return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in watch.seconds.items())


class Scheduler:
    """Places to wait in, and the threads that work.

    Args:
        at_once: number of inferences that are under way at once.
        max_waiting: requests beyond those that may be in work; one more is QueueFull.
        timeout_s: longest wait for a turn; longer is DeadlineExceeded.
    """

    def __init__(self, at_once: int, max_waiting: int, timeout_s: float, metrics: Metrics) -> None:
        self._capacity = at_once + max_waiting
        self._at_once = at_once
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._taken = 0
        self._inference_turn = asyncio.Semaphore(at_once)
        self._decode_turn = asyncio.Semaphore(at_once + 1)
        self._inference_threads = ThreadPoolExecutor(at_once, "inference")
        self._codec_threads = ThreadPoolExecutor(CODEC_THREADS, "codec")

    def change_taken(self, change: int) -> None:
        """Count places that are taken. Raises QueueFull beyond the capacity."""
        if self._taken + change > self._capacity:
            raise QueueFull("too many requests are waiting")
        self._taken += change
        self._metrics.in_flight.set(self._taken)
        self._metrics.waiting.set(max(0, self._taken - self._at_once))

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run something short, such as parsing or encoding, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._codec_threads, function)

    async def on_bytes(self, function: Callable[[], T], size: int) -> T:
        """Run something whose time grows with `size` bytes: at once where they are few, else `in_thread`."""
        return function() if size <= INLINE_BYTES else await self.in_thread(function)

    async def run(self, decode: Callable[[], T], infer: Callable[[T], T], watch: Stopwatch) -> T:
        """Decode and infer, each in its turn.

        Raises:
            DeadlineExceeded: the turn did not come in time. And whatever the two raise.
        """
        async with self._turn_to_decode(watch):
            with watch.time("decode"):
                decoded = await self.in_thread(decode)
            with watch.time("queue"):
                await self._acquire(self._inference_turn, watch)
        with watch.time("infer"):
            return await self._infer(lambda: infer(decoded))

    @asynccontextmanager
    async def _turn_to_decode(self, watch: Stopwatch) -> AsyncIterator[None]:
        with watch.time("queue"):
            await self._acquire(self._decode_turn, watch)
        try:
            yield
        finally:
            self._decode_turn.release()

    async def _acquire(self, turn: asyncio.Semaphore, watch: Stopwatch) -> None:
        left_s = self._timeout_s - watch.seconds.get("queue", 0.0)
        try:
            await asyncio.wait_for(turn.acquire(), max(0.0, left_s))
        except asyncio.TimeoutError:
            raise DeadlineExceeded("the request waited too long for its turn") from None

    async def _infer(self, function: Callable[[], T]) -> T:
        """Run on a device. The turn ends with the thread's work, even if nobody waits for it any more."""
        future = asyncio.get_running_loop().run_in_executor(self._inference_threads, function)
        future.add_done_callback(self._end_turn)
        return await asyncio.shield(future)

    def _end_turn(self, future: asyncio.Future[T]) -> None:
        self._inference_turn.release()
        if not future.cancelled():
            future.exception()  # seen here, or asyncio complains where the request was given up

    def close(self) -> None:
        """Let the threads finish."""
        self._inference_threads.shutdown()
        self._codec_threads.shutdown()


class Place:
    """One of a scheduler's places. Taking it twice, or giving it back twice, is as good as once."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.is_held = False

    def take(self) -> None:
        """Raises QueueFull where none is left."""
        if not self.is_held:
            self._scheduler.change_taken(1)
            self.is_held = True

    def give_back(self) -> None:
        """Leave it to somebody else."""
        if self.is_held:
            self._scheduler.change_taken(-1)
            self.is_held = False
