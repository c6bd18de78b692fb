"""Who runs when: fair turns on the devices, and the threads that decode, infer and encode.

A CPU runs one inference at a time: two at once would share its speed and double its memory. A GPU gets as many
as the model cache puts into one batch. The next images are decoded meanwhile. Threads do all of that; the event
loop only waits. How many requests may wait is `admission`'s matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from bridge.server.errors import DeadlineExceeded, SlowImage
from depth_anything_ros.runtime.stopwatch import Stopwatch

T = TypeVar("T")

CODEC_THREADS = 2
# Handing work to a thread takes a tenth of a millisecond: more than parsing this much.
INLINE_BYTES = 256 * 1024


def server_timing(watch: Stopwatch) -> str:
    """The stages as a Server-Timing header."""
    return ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in watch.seconds.items())


class Scheduler:
    """Turns to decode and to infer, and the threads that work.

    Args:
        at_once: inferences that run at once.
        timeout_s: longest wait for a turn; longer is DeadlineExceeded.
        decode_timeout_s: longest time to decode an image; longer is SlowImage.
    """

    def __init__(self, at_once: int, timeout_s: float, decode_timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._decode_timeout_s = decode_timeout_s
        self._inference_turn = asyncio.Semaphore(at_once)
        self._decode_turn = asyncio.Semaphore(at_once + 1)
        self._inference_threads = ThreadPoolExecutor(at_once, "inference")
        self._codec_threads = ThreadPoolExecutor(CODEC_THREADS, "codec")

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run something short, such as parsing or encoding, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._codec_threads, function)

    async def on_bytes(self, function: Callable[[], T], size: int) -> T:
        """Run something whose time grows with `size` bytes: at once where they are few, else `in_thread`."""
        return function() if size <= INLINE_BYTES else await self.in_thread(function)

    async def run(self, decode: Callable[[], T], infer: Callable[[T], T], watch: Stopwatch) -> T:
        """Decode and infer, each in its turn.

        Raises:
            DeadlineExceeded, SlowImage: not in time. Errors of the two functions are passed on.
        """
        async with self._turn_to_decode(watch):
            with watch.time("decode"):
                decoded = await self._decode(decode)
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

    async def _decode(self, function: Callable[[], T]) -> T:
        """Decode within its time. A thread cannot be stopped: it ends by itself, and its result is dropped."""
        future = asyncio.get_running_loop().run_in_executor(self._codec_threads, function)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._decode_timeout_s)
        except asyncio.TimeoutError:
            future.add_done_callback(_see_error)
            raise SlowImage("the image takes too long to decode; save it again with fewer pixels") from None

    async def _infer(self, function: Callable[[], T]) -> T:
        """Run on a device. The turn ends when the thread has finished, even if the request was given up."""
        future = asyncio.get_running_loop().run_in_executor(self._inference_threads, function)
        future.add_done_callback(self._end_turn)
        return await asyncio.shield(future)

    def _end_turn(self, future: asyncio.Future[T]) -> None:
        self._inference_turn.release()
        _see_error(future)

    def close(self, *, wait: bool) -> None:
        """Take no more work. `wait` lets the threads finish."""
        self._inference_threads.shutdown(wait, cancel_futures=True)
        self._codec_threads.shutdown(wait, cancel_futures=True)


def _see_error(future: asyncio.Future[T]) -> None:
    """Retrieve an error that nobody waits for any more; otherwise asyncio complains."""
    if not future.cancelled():
        future.exception()
