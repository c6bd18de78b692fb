"""A robot's camera, by way of a bridge that runs with `--ros`: one frame, or a stream of them.

::

    camera = client.camera("front")
    depth = camera.depth()               # RobotFrame: the latest
    for frame in camera.stream():        # always the latest; opened again when the connection breaks
        print(frame.stamp_s, frame.values.shape)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol

from bridge.client.calls import Call, T
from bridge.client.robot_calls import RobotFrame, camera_info_call, file_call, frame_call, stream_call
from bridge.client.servers import Server

DEFAULT_RETRY_FOR_S = 30.0


class Run(Protocol):
    """`DepthClient.run`."""

    def __call__(self, call: Call[T], /) -> T:
        """Send a request and read its answer."""


class RobotCamera:
    """One camera of the robot. Made by `DepthClient.camera`; every call raises BridgeError.

    `max_age_ms` is the greatest age of the picture; the error is 504 `no_frame` where none is so new. `wait_ms` is how
    long the server waits for a frame that fits (5000 where it is left out).
    """

    def __init__(self, name: str, server: Server, run: Run) -> None:
        self.name = name
        self._server = server
        self._run = run

    def depth(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """The latest depth, float32 (H, W); `header.kind` tells whether in metres."""
        return self._run(frame_call(self.name, "depth", max_age_ms, wait_ms))

    def points(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """The latest cloud, float32 (H, W, 3), metres, optical frame; NaN where there is none."""
        return self._run(frame_call(self.name, "points", max_age_ms, wait_ms))

    def image(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """The camera's latest picture, uint8 (H, W, 3), BGR."""
        return self._run(frame_call(self.name, "image", max_age_ms, wait_ms))

    def color(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """The latest depth as colours, uint8 (H, W, 3), BGR."""
        return self._run(frame_call(self.name, "color", max_age_ms, wait_ms))

    def camera_info(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> dict[str, Any]:
        """The CameraInfo that is true for the depth, with ROS's field names."""
        return self._run(camera_info_call(self.name, max_age_ms, wait_ms))

    def file(self, what: str, media_type: str) -> bytes:
        """The latest frame as a file, such as `points` as `application/x-ply`."""
        return self._run(file_call(self.name, what, media_type))

    def stream(
        self,
        what: str = "depth",
        format: str | None = None,
        *,
        max_rate_hz: float | None = None,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
    ) -> Iterator[RobotFrame]:
        """Each newer frame, for ever. One that reads slowly skips frames and always gets the latest.

        Args:
            what: `depth`, `points`, `image` or `color`.
            format: None is `raw` for depth and points, `jpeg` for pictures; `png` loses nothing of a picture, and makes
                depth small (millimetres); `npy`.
            max_rate_hz: at most so many frames a second.
            retry_for_s: a connection that breaks, or a node that goes away, is waited for so long.

        Raises:
            BridgeError: the stream is refused, or was down for too long.
            SettingsError: an argument cannot be used, or websockets is missing.
        """
        from bridge.client.streams import frames  # loads websockets

        return frames(stream_call(self._server, self.name, what, format, max_rate_hz, retry_for_s))


class AsyncRobotCamera:
    """`RobotCamera` for asyncio: the same arguments and methods, awaited. Made by `AsyncDepthClient.camera`."""

    def __init__(self, name: str, server: Server, run: Callable[[Call[Any]], Awaitable[Any]]) -> None:
        self.name = name
        self._server = server
        self._run = run

    async def depth(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """See `RobotCamera.depth`."""
        return await self._frame("depth", max_age_ms, wait_ms)

    async def points(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """See `RobotCamera.points`."""
        return await self._frame("points", max_age_ms, wait_ms)

    async def image(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """See `RobotCamera.image`."""
        return await self._frame("image", max_age_ms, wait_ms)

    async def color(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> RobotFrame:
        """See `RobotCamera.color`."""
        return await self._frame("color", max_age_ms, wait_ms)

    async def camera_info(self, *, max_age_ms: int | None = None, wait_ms: int | None = None) -> dict[str, Any]:
        """See `RobotCamera.camera_info`."""
        info: dict[str, Any] = await self._run(camera_info_call(self.name, max_age_ms, wait_ms))
        return info

    async def file(self, what: str, media_type: str) -> bytes:
        """See `RobotCamera.file`."""
        content: bytes = await self._run(file_call(self.name, what, media_type))
        return content

    def stream(
        self,
        what: str = "depth",
        format: str | None = None,
        *,
        max_rate_hz: float | None = None,
        retry_for_s: float = DEFAULT_RETRY_FOR_S,
    ) -> AsyncIterator[RobotFrame]:
        """See `RobotCamera.stream`; for `async for`."""
        from bridge.client.streams import frames_async

        return frames_async(stream_call(self._server, self.name, what, format, max_rate_hz, retry_for_s))

    async def _frame(self, what: str, max_age_ms: int | None, wait_ms: int | None) -> RobotFrame:
        frame: RobotFrame = await self._run(frame_call(self.name, what, max_age_ms, wait_ms))
        return frame
