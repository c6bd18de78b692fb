"""Images that a request names by URL: how many are fetched at once. How one is fetched safely: `image_url`."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bridge.server.admission import Place
from bridge.server.errors import QueueFull
from bridge.server.image_url import UrlRefused

MAX_FETCHES = 64  # images that are fetched at once, for each worker


class Fetcher(Protocol):
    """Where the bytes behind an image_url come from; see `image_url.ImageFetcher`."""

    async def fetch(self, url: str) -> bytes: ...

    async def aclose(self) -> None: ...


class Fetches:
    """Fetches for requests, so many at once. `fetcher` None refuses every URL."""

    def __init__(self, fetcher: Fetcher | None) -> None:
        self._fetcher = fetcher
        self._turns = asyncio.Semaphore(MAX_FETCHES)

    async def fetch(self, url: str, place: Place) -> bytes:
        """Fetch an image. Meanwhile the request has no place, or a few slow hosts would keep all other clients out.

        Raises:
            UrlRefused, ImageHostFailed: as `ImageFetcher.fetch`.
            QueueFull: too many are fetched already, or no place is left when the image is there.
        """
        if self._fetcher is None:
            raise UrlRefused("this server fetches no image_url")
        if self._turns.locked():
            raise QueueFull("too many images are being fetched")
        place.give_back()
        async with self._turns:
            image = await self._fetcher.fetch(url)
        place.take()
        return image

    async def close(self) -> None:
        """Close the connections that are left."""
        if self._fetcher is not None:
            await self._fetcher.aclose()
