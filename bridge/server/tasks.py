"""Ending tasks of asyncio for certain."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 0.05


async def end_task(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it has ended.

    Before Python 3.12 `asyncio.wait_for` drops a cancellation that comes just when what it waits for is done. The
    task then goes on as if nothing had been said.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_S)
