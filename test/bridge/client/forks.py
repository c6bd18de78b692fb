"""Use clients in four forked processes at once: `forks.py URL MODE`. Prints a line of JSON for each child.

A program of its own, because a test's process has threads, which do not survive a fork.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bridge.client import AsyncDepthClient, DepthClient

CHILDREN = 4
CLIENTS = 6  # each was used before the fork, and may mix answers up once
REQUESTS = 2  # with each


def image(child: int) -> NDArray[np.uint8]:
    """A picture whose height tells the child it belongs to."""
    return np.full((32 + 8 * child, 64, 3), 40 * child, np.uint8)


def report(child: int, heights: list[int]) -> None:
    others = sum(height != 32 + 8 * child for height in heights)
    os.write(1, json.dumps({"answers": len(heights), "others": others}).encode() + b"\n")


def fork(work: Callable[[int], None]) -> None:
    """Run `work(child)` in all children at the same time, and wait for them."""
    starts, start = os.pipe()
    processes = []
    for child in range(CHILDREN):
        process = os.fork()
        if process == 0:
            try:
                os.close(start)
                os.read(starts, 1)  # until the parent closes its end
                work(child)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        processes.append(process)
    os.close(start)
    endings = [os.waitpid(process, 0)[1] for process in processes]
    if any(endings):
        sys.exit(1)


def between_calls(url: str) -> None:
    """Fork between calls of `DepthClient`s."""
    clients = [DepthClient(url) for _ in range(CLIENTS)]

    def work(child: int) -> None:
        asked = [client.metric_depth(image(child)) for client in clients for _ in range(REQUESTS)]
        report(child, [depth.values.shape[0] for depth in asked])

    for client in clients:
        client.health()
    fork(work)
    for client in clients:  # the parent's connections still work
        client.health()
        client.close()


async def use(clients: list[AsyncDepthClient], child: int) -> None:
    asked = [await client.metric_depth(image(child)) for client in clients for _ in range(REQUESTS)]
    report(child, [depth.values.shape[0] for depth in asked])


async def check(clients: list[AsyncDepthClient]) -> None:
    for client in clients:
        await client.health()


def between_loops(url: str) -> None:
    """Fork between two runs of `AsyncDepthClient`s."""
    clients = [AsyncDepthClient(url) for _ in range(CLIENTS)]
    asyncio.run(check(clients))
    fork(lambda child: asyncio.run(use(clients, child)))
    asyncio.run(check(clients))


async def in_a_loop(url: str) -> None:
    """Fork while the loop that uses `AsyncDepthClient`s runs."""
    clients = [AsyncDepthClient(url) for _ in range(CLIENTS)]
    await check(clients)
    fork(lambda child: asyncio.run(use(clients, child)))
    await check(clients)


if __name__ == "__main__":
    address, mode = sys.argv[1:]
    if mode == "between calls":
        between_calls(address)
    elif mode == "between loops":
        between_loops(address)
    else:
        asyncio.run(in_a_loop(address))
