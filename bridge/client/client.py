"""Depth from a bridge over the network. Needs neither torch nor ROS (extra `[client]`).

::

    with DepthClient("http://robot:8000", api_key=key) as client:
        depth = client.metric_depth("photo.jpg", max_depth=20.0)           # DepthMap, metres
        points = client.point_cloud("photo.jpg", camera, max_depth=20.0)   # float32 (H, W, 3), metres

`AsyncDepthClient` is the same with `async with` and `await`.

Depth changes nothing on a server, so a request that was turned away (429, 503) or broke off is sent
again, after the time the server asks for, plus a random part so that clients do not come back at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from bridge.client.calls import (
    Call,
    Camera,
    Image,
    RetryPolicy,
    T,
    health_call,
    metric_depth_call,
    point_cloud_call,
    relative_depth_call,
)
from bridge.client.servers import load_server
from depth_anything_ros.depth_map import DepthMap

DEFAULT_URL = "http://localhost:8000"
DEFAULT_TIMEOUT_S = 75.0  # a little more than the server gives a request
CONNECT_TIMEOUT_S = 5.0


def _http_options(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": base_url,
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
    }


class DepthClient:
    """A connection to one bridge, kept open between calls; may be shared by threads.

    Args:
        base_url: such as `http://robot:8000`.
        api_key: None where the server has none.
        model: model key to ask for, `{encoder}_{dataset}_{input_size}`; None is the server's default.
        timeout_s: for each attempt.
        retry: see `RetryPolicy`.
        transport: another way to send, for tests.

    Every call raises BridgeError; InputError or OSError for an image that cannot be read here.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._model = model
        self._retry = retry or RetryPolicy()
        self._http = httpx.Client(transport=transport, **_http_options(base_url, api_key, timeout_s))

    @classmethod
    def from_server(cls, name: str, path: str | os.PathLike[str] | None = None) -> DepthClient:
        """A client for a server named in `servers.yaml`; see `load_server`."""
        server = load_server(name, path)
        return cls(server.base_url, server.api_key, model=server.model)

    def metric_depth(self, image: Image, *, max_depth: float) -> DepthMap:
        """Depth in metres; `max_depth` is the depth at the network's full output."""
        return self._run(metric_depth_call(image, max_depth, self._model))

    def relative_depth(self, image: Image) -> DepthMap:
        """Affine-invariant inverse depth from a relative checkpoint; larger is nearer."""
        return self._run(relative_depth_call(image, self._model))

    def point_cloud(self, image: Image, camera: Camera, *, max_depth: float) -> NDArray[np.float32]:
        """Points, float32 (H, W, 3), metres, optical frame; NaN where there is no depth.

        `camera` is a CameraModel, lens distortion included, or a mapping with fx, fy, cx, cy; an unusable one
        raises CameraError or KeyError. Depth comes as a 16-bit PNG, so it is rounded to millimetres
        (`png_scale` beyond 65 m).
        """
        return self._run(point_cloud_call(image, camera, max_depth, self._model))

    def health(self) -> dict[str, Any]:
        """What `GET /health` says."""
        return self._run(health_call())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> DepthClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        attempt = 1
        while (delay := self._retry.delay_s(attempt, outcome := self._send(call))) is not None:
            time.sleep(delay)
            attempt += 1
        return call.read(outcome)

    def _send(self, call: Call[Any]) -> httpx.Response | httpx.RequestError:
        try:
            return self._http.request(**call.request)
        except httpx.RequestError as error:
            return error


class AsyncDepthClient:
    """`DepthClient` for asyncio: the same arguments and methods, awaited."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._retry = retry or RetryPolicy()
        self._http = httpx.AsyncClient(transport=transport, **_http_options(base_url, api_key, timeout_s))

    @classmethod
    def from_server(cls, name: str, path: str | os.PathLike[str] | None = None) -> AsyncDepthClient:
        """See `DepthClient.from_server`."""
        server = load_server(name, path)
        return cls(server.base_url, server.api_key, model=server.model)

    async def metric_depth(self, image: Image, *, max_depth: float) -> DepthMap:
        """See `DepthClient.metric_depth`."""
        return await self._run(metric_depth_call(image, max_depth, self._model))

    async def relative_depth(self, image: Image) -> DepthMap:
        """See `DepthClient.relative_depth`."""
        return await self._run(relative_depth_call(image, self._model))

    async def point_cloud(self, image: Image, camera: Camera, *, max_depth: float) -> NDArray[np.float32]:
        """See `DepthClient.point_cloud`."""
        return await self._run(point_cloud_call(image, camera, max_depth, self._model))

    async def health(self) -> dict[str, Any]:
        """See `DepthClient.health`."""
        return await self._run(health_call())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncDepthClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, call: Call[T]) -> T:
        attempt = 1
        while (delay := self._retry.delay_s(attempt, outcome := await self._send(call))) is not None:
            await asyncio.sleep(delay)
            attempt += 1
        return call.read(outcome)

    async def _send(self, call: Call[Any]) -> httpx.Response | httpx.RequestError:
        try:
            return await self._http.request(**call.request)
        except httpx.RequestError as error:
            return error


# The function API: one connection a call, JSON both ways, results as the server sends them.
