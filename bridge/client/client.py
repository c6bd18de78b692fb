"""Depth from a bridge over the network. Needs neither torch nor ROS (extra `[client]`).

::

    with DepthClient("http://robot:8000", api_key=key) as client:
        depth = client.metric_depth("photo.jpg")           # DepthMap in metres
        points = client.point_cloud("photo.jpg", camera)   # float32 (H, W, 3), metres

`AsyncDepthClient` is the same with `async with` and `await`. What both ask is in `calls`, when they ask again in
`retries`, and which connections they use in `connections`.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import anyio
import httpx
import numpy as np
from numpy.typing import NDArray

from bridge.client.calls import (
    Call,
    ServedDepth,
    T,
    health_call,
    metric_depth_call,
    metric_depths_call,
    models_call,
    point_cloud_call,
    relative_depth_call,
)
from bridge.client.cameras import Camera, Said, Undistort, said_of
from bridge.client.connections import LoopConnections, ProcessConnections
from bridge.client.errors import BridgeError
from bridge.client.images import Image
from bridge.client.retries import Attempts, Outcome, RetryPolicy
from bridge.client.robot import AsyncRobotCamera, RobotCamera
from bridge.client.robot_calls import cameras_call
from bridge.client.servers import Server, load_server
from bridge.client.transport import DeadlineTransport, deadline
from depth_anything_ros.errors import SettingsError

C = TypeVar("C", bound="_Client")

DEFAULT_URL = "http://localhost:8000"
DEFAULT_TIMEOUT_S = 75.0  # a little more than the server gives a request
CONNECT_TIMEOUT_S = 5.0
DEADLINE_HEADER = "X-Deadline-Ms"


class _Client:
    """What both clients have in common: their arguments, checked."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
    ) -> None:
        if not 0 < timeout_s < math.inf:
            raise SettingsError(f"timeout_s must be a positive number of seconds, got {timeout_s}")
        self._server = Server(base_url, api_key, model)
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()

    @property
    def model(self) -> str | None:
        """Key of the model that is asked for; None is the server's default."""
        return self._server.model

    @classmethod
    def from_server(cls: type[C], name: str, path: str | os.PathLike[str] | None = None) -> C:
        """A client for a server named in `servers.yaml`; see `load_server`."""
        server = load_server(name, path)
        return cls(server.base_url, server.api_key, model=server.model)

    def _http_options(self) -> dict[str, Any]:
        """Arguments of `httpx.Client` and `httpx.AsyncClient`."""
        key = self._server.api_key
        return {
            "base_url": self._server.base_url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s)),
        }

    def _request(self, client: httpx.Client | httpx.AsyncClient, call: Call[Any], left_s: float) -> httpx.Request:
        """Make a request that tells the server how long this client waits for the answer."""
        request = client.build_request(**call.request)
        request.headers[DEADLINE_HEADER] = str(max(1, int(left_s * 1000)))
        return request

    def _too_late(self, request: httpx.Request) -> httpx.ReadTimeout:
        return httpx.ReadTimeout(f"not finished within {self._timeout_s:g} s", request=request)


class DepthClient(_Client):
    """Connections to one bridge, kept open between calls. Threads may share it, and forked processes: each has its own.

    Args:
        base_url: such as `http://robot:8000`.
        api_key: None where the server has none.
        model: model key to ask for, `{encoder}_{dataset}_{input_size}`; None is the server's default.
        timeout_s: for a whole call, with all its attempts and the waits between them.
        retry: see `RetryPolicy`.
        transport: another way to send, for tests.

    Raises:
        SettingsError: one of them cannot be used.

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
        super().__init__(base_url, api_key, model=model, timeout_s=timeout_s, retry=retry)

        def open_client() -> httpx.Client:
            sent_by = transport or DeadlineTransport(httpx.URL(base_url))
            return httpx.Client(transport=sent_by, **self._http_options())

        self._connections = ProcessConnections(open_client)

    def metric_depth(
        self,
        image: Image,
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> ServedDepth:
        """Depth in metres along the optical axis.

        Args:
            max_depth: metres at the network's full output; None is the dataset's own. Not for models that need the
                camera.
            focal_px, fov_deg, camera: of the image, one of them, for models whose metres follow from it.
            undistort: have the image rectified first; the answer's `camera` is that of the depth.
        """
        said = Said(focal_px, fov_deg, camera, undistort)
        return self.run(metric_depth_call(image, max_depth, said, self.model))

    def metric_depths(
        self,
        images: Sequence[Image],
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> list[ServedDepth | BridgeError]:
        """Depth of several images of one camera in one request, in their order; an image that failed has its error.

        The arguments are those of `metric_depth`.
        """
        said = Said(focal_px, fov_deg, camera, undistort)
        return self.run(metric_depths_call(images, max_depth, said, self.model))

    def relative_depth(
        self,
        image: Image,
        *,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> ServedDepth:
        """Depth without metres; `kind` of the answer tells which.

        With a model of `da3` or `da3mono` it is `scale_invariant`: depth up to a factor, larger is farther. With any
        other it is `relative`: affine-invariant inverse depth from a relative checkpoint, larger is nearer.

        `undistort` is that of `metric_depth`. The others tell the focal length of `scale_invariant` depth, in place
        of the model's estimate.
        """
        return self.run(relative_depth_call(image, Said(focal_px, fov_deg, camera, undistort), self.model))

    def point_cloud(
        self,
        image: Image,
        camera: Camera | Undistort | None = None,
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
    ) -> NDArray[np.float32]:
        """Points, float32 (H, W, 3), metres, optical frame; NaN where there is no depth.

        Args:
            camera: a CameraModel, lens distortion included, or a mapping with fx, fy, cx, cy; an unusable one raises
                CameraError or KeyError. `Undistort` makes points of the rectified image.
            max_depth: see `metric_depth`. With it (and without `Undistort`), depth comes as a 16-bit PNG, so it is
                rounded to millimetres (`codec.fitting_png_scale` beyond 65 m); without, as floats, which are larger.
            focal_px, fov_deg: in place of `camera`; the principal point is the middle of the image.

        With a model of `da3` or `da3mono` the points are in no unit, and `da3` estimates the focal length where
        nothing is said of the camera.
        """
        return self.run(point_cloud_call(image, said_of(camera, focal_px, fov_deg), max_depth, self.model))

    def health(self) -> dict[str, Any]:
        """What `GET /health` says."""
        return self.run(health_call())

    def models(self) -> dict[str, Any]:
        """What `GET /models` says: the default model, and those that can be asked for."""
        return self.run(models_call())

    def cameras(self) -> list[dict[str, Any]]:
        """What `GET /cameras` says: the robot's cameras, where the server runs with `--ros`."""
        return self.run(cameras_call())

    def camera(self, name: str) -> RobotCamera:
        """One of the robot's cameras, by its name in `cameras()`. Asks nothing yet."""
        return RobotCamera(name, self._server, self.run)

    def close(self) -> None:
        """Close this process's connections."""
        self._connections.close()

    def __enter__(self) -> DepthClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, call: Call[T]) -> T:
        """Send one of the requests of `calls` and read its answer. Raises BridgeError."""
        attempts = Attempts(self._retry, self._timeout_s)
        while (delay := attempts.delay_s(outcome := self._send(call, attempts.left_s()))) is not None:
            time.sleep(delay)
        return call.read(outcome)

    def _send(self, call: Call[Any], left_s: float) -> Outcome:
        client = self._connections.client()
        request = self._request(client, call, left_s)
        try:
            with deadline(left_s):
                return client.send(request)
        except httpx.ReadTimeout:
            return self._too_late(request)
        except httpx.RequestError as error:
            return error


class AsyncDepthClient(_Client):
    """`DepthClient` for asyncio: the same arguments and methods, awaited. Each event loop has its own connections."""

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
        super().__init__(base_url, api_key, model=model, timeout_s=timeout_s, retry=retry)

        def open_client() -> httpx.AsyncClient:
            return httpx.AsyncClient(transport=transport, **self._http_options())

        self._connections = LoopConnections(open_client)

    async def metric_depth(
        self,
        image: Image,
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> ServedDepth:
        """See `DepthClient.metric_depth`."""
        said = Said(focal_px, fov_deg, camera, undistort)
        return await self.run(metric_depth_call(image, max_depth, said, self.model))

    async def metric_depths(
        self,
        images: Sequence[Image],
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> list[ServedDepth | BridgeError]:
        """See `DepthClient.metric_depths`."""
        said = Said(focal_px, fov_deg, camera, undistort)
        return await self.run(metric_depths_call(images, max_depth, said, self.model))

    async def relative_depth(
        self,
        image: Image,
        *,
        focal_px: float | None = None,
        fov_deg: float | None = None,
        camera: Camera | None = None,
        undistort: Undistort | None = None,
    ) -> ServedDepth:
        """See `DepthClient.relative_depth`."""
        return await self.run(relative_depth_call(image, Said(focal_px, fov_deg, camera, undistort), self.model))

    async def point_cloud(
        self,
        image: Image,
        camera: Camera | Undistort | None = None,
        *,
        max_depth: float | None = None,
        focal_px: float | None = None,
        fov_deg: float | None = None,
    ) -> NDArray[np.float32]:
        """See `DepthClient.point_cloud`."""
        return await self.run(point_cloud_call(image, said_of(camera, focal_px, fov_deg), max_depth, self.model))

    async def health(self) -> dict[str, Any]:
        """See `DepthClient.health`."""
        return await self.run(health_call())

    async def models(self) -> dict[str, Any]:
        """See `DepthClient.models`."""
        return await self.run(models_call())

    async def cameras(self) -> list[dict[str, Any]]:
        """See `DepthClient.cameras`."""
        return await self.run(cameras_call())

    def camera(self, name: str) -> AsyncRobotCamera:
        """See `DepthClient.camera`."""
        return AsyncRobotCamera(name, self._server, self.run)

    async def aclose(self) -> None:
        """Close the running loop's connections; those of another loop close when it ends."""
        await self._connections.aclose()

    async def __aenter__(self) -> AsyncDepthClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def run(self, call: Call[T]) -> T:
        """See `DepthClient.run`."""
        attempts = Attempts(self._retry, self._timeout_s)
        while (delay := attempts.delay_s(outcome := await self._send(call, attempts.left_s()))) is not None:
            await asyncio.sleep(delay)
        return call.read(outcome)

    async def _send(self, call: Call[Any], left_s: float) -> Outcome:
        client = await self._connections.client()
        request = self._request(client, call, left_s)
        try:
            with anyio.fail_after(left_s):  # asyncio.wait_for may lose a cancellation before Python 3.12
                return await client.send(request)
        except (httpx.ReadTimeout, TimeoutError):
            return self._too_late(request)
        except httpx.RequestError as error:
            return error
