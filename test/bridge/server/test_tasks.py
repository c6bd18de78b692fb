"""Tasks end, whatever they do with a cancellation."""

from __future__ import annotations

import asyncio

from bridge.server.tasks import end_task


def test_a_task_that_drops_its_cancellation_is_ended_all_the_same() -> None:
    async def deaf_once() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def run() -> bool:
        task = asyncio.ensure_future(deaf_once())
        await asyncio.sleep(0)
        await end_task(task)
        return task.cancelled()

    assert asyncio.run(asyncio.wait_for(run(), 20))


def test_a_cancellation_that_comes_with_the_awaited_event_ends_the_task() -> None:
    """Where `asyncio.wait_for` of Python before 3.12 drops it."""

    async def run() -> bool:
        turn = asyncio.Event()

        async def work() -> None:
            await asyncio.wait_for(turn.wait(), 60)
            await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.01)
        turn.set()
        await asyncio.sleep(0)
        await end_task(task)
        return task.cancelled()

    assert asyncio.run(asyncio.wait_for(run(), 20))


def test_what_a_finished_task_raised_is_left_to_its_owner() -> None:
    async def run() -> BaseException | None:
        async def fail() -> None:
            raise ValueError("once")

        task = asyncio.ensure_future(fail())
        await asyncio.wait({task})
        await end_task(task)
        return task.exception()

    assert isinstance(asyncio.run(run()), ValueError)
