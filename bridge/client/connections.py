"""Which connections a call uses: those of its own process, and of its own event loop.

A client that was made before a fork would share its sockets with its parent and siblings, and each could read
another's answer. Connections of one event loop cannot be used in another.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable

import httpx


class ProcessConnections:
    """One httpx.Client for each process. Its threads share it.

    Args:
        open_client: makes one; called at once, and again in each child process that uses it.
    """

    def __init__(self, open_client: Callable[[], httpx.Client]) -> None:
        self._open_client = open_client
        self._current = (os.getpid(), open_client())

    def client(self) -> httpx.Client:
        """Return this process's client.

        In a child the parent's client is forgotten, not closed: closing it would take a lock that a thread of the
        parent may have held. The parent keeps its own connections either way.
        """
        process, client = self._current
        if process == os.getpid():
            return client
        opened = self._open_client()
        if client.is_closed:
            opened.close()
        self._current = (os.getpid(), opened)
        return opened

    def close(self) -> None:
        """Close this process's connections; the client cannot be used any more."""
        self.client().close()


class LoopConnections:
    """One httpx.AsyncClient for each event loop.

    asyncio ends the asynchronous generators of a loop before it closes it (`asyncio.run` does), which closes the
    loop's connections. So none outlives its loop.

    Args:
        open_client: makes one; called in each loop.
    """

    def __init__(self, open_client: Callable[[], httpx.AsyncClient]) -> None:
        self._open_client = open_client
        self._current: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._closing: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._is_closed = False

    async def client(self) -> httpx.AsyncClient:
        """Return the running loop's client. Raises RuntimeError after `aclose`."""
        if self._is_closed:
            raise RuntimeError("this AsyncDepthClient is closed: make a new one")
        loop = asyncio.get_running_loop()
        if loop not in self._current:
            self._forget_ended_loops()
            self._current[loop] = self._open_client()
            self._closing[loop] = _closed_with_loop(self._current[loop])
            await anext(self._closing[loop])  # the loop knows the generator once it has begun
        return self._current[loop]

    def _forget_ended_loops(self) -> None:
        for loop in list(self._current):
            if loop.is_closed():
                self._current.pop(loop, None)
                self._closing.pop(loop, None)

    async def aclose(self) -> None:
        """Close the running loop's connections. Those of another loop close when it ends."""
        self._is_closed = True
        loop = asyncio.get_running_loop()
        if loop in self._current:
            del self._current[loop]
            await self._closing.pop(loop).aclose()


async def _closed_with_loop(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Wait, once started, for the end of the running loop, and close the client then."""
    try:
        yield
    finally:
        await client.aclose()
