"""What the client asks of the robot's cameras, and how it reads the frames. No function here touches the network.

The server's side is in docs/robot_cameras.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx
import numpy as np
from numpy.typing import NDArray

from bridge.client.calls import Call, read_json
from bridge.client.servers import Server
from bridge.codec import FLOAT32, GENEROUS_LIMITS, decode_depth_png16, decode_image, decode_npy
from bridge.frame_header import FrameHeader, UndecodableFrame, unpack
from depth_anything_ros.errors import SettingsError

OCTETS = "application/octet-stream"
NANOSECONDS = 10**9


@dataclass(frozen=True, eq=False)
class RobotFrame:
    """A frame of a robot's camera.

    Attributes:
        values: depth float32 (H, W), in metres where `header.kind` is `metric`, invalid NaN, too far +Inf, too near
            -Inf; points float32 (H, W, 3), metres, optical frame; a picture uint8 (H, W, 3), BGR.
        header: stamp, frame_id, kind and size; intrinsics where a stream of depth tells them.
    """

    values: NDArray[Any]
    header: FrameHeader

    @property
    def stamp_s(self) -> float:
        """When the picture was taken, in seconds of the robot's clock; exact in `header.stamp_ns`."""
        return self.header.stamp_ns / NANOSECONDS


@dataclass(frozen=True)
class StreamCall:
    """A stream to open.

    Attributes:
        path, query: below the server's address.
        retry_for_s: a stream that broke is opened again until it has been down for so long.
    """

    server: Server
    path: str
    query: Mapping[str, str]
    retry_for_s: float

    @property
    def url(self) -> str:
        """The address, `ws` for `http` and `wss` for `https`."""
        base = httpx.URL(self.server.base_url)
        scheme = "wss" if base.scheme == "https" else "ws"
        path = base.raw_path.rstrip(b"/").decode() + self.path
        return str(base.copy_with(scheme=scheme, raw_path=path.encode()).copy_merge_params(dict(self.query)))

    @property
    def where(self) -> str:
        """The address for messages: neither password nor query."""
        base = httpx.URL(self.server.base_url)
        return f"{base.scheme}://{base.netloc.decode('ascii')}{self.path}"


def path_of(name: str, what: str) -> str:
    """The path of what a camera shows."""
    return f"/cameras/{quote(name, safe='')}/{what}"


def cameras_call() -> Call[list[dict[str, Any]]]:
    """Ask which cameras there are."""
    return Call({"method": "GET", "url": "/cameras"}, lambda response: list(read_json(response)["cameras"]))


def camera_info_call(name: str, max_age_ms: int | None, wait_ms: int | None) -> Call[dict[str, Any]]:
    """Ask for the CameraInfo that is true for the depth."""
    return Call(_request(name, "camera_info", "application/json", max_age_ms, wait_ms), read_json)


def frame_call(name: str, what: str, max_age_ms: int | None, wait_ms: int | None) -> Call[RobotFrame]:
    """Ask for the latest frame, in the format that loses nothing."""
    return Call(_request(name, what, OCTETS, max_age_ms, wait_ms), lambda response: _frame(response, what))


def file_call(name: str, what: str, media_type: str) -> Call[bytes]:
    """Ask for the latest frame as a file of some format."""
    return Call(_request(name, what, media_type, None, None), lambda response: response.content)


def stream_call(
    server: Server, name: str, what: str, format_: str | None, max_rate_hz: float | None, retry_for_s: float
) -> StreamCall:
    """Ask for each newer frame. Raises SettingsError."""
    if format_ in ("ply", "pcd"):
        raise SettingsError(f"format {format_} is a file, not an array: use raw or npy, or `file` for one frame")
    if not retry_for_s >= 0:
        raise SettingsError(f"retry_for_s must be a number of seconds, 0 or more, got {retry_for_s}")
    given = {"what": what, "format": format_, "max_rate_hz": None if max_rate_hz is None else f"{max_rate_hz:g}"}
    query = {option: value for option, value in given.items() if value is not None}
    return StreamCall(server, path_of(name, "stream"), query, retry_for_s)


def read_message(message: str | bytes) -> RobotFrame:
    """A stream's message -> frame. Raises ValueError for one that cannot be read."""
    if isinstance(message, str):
        raise UndecodableFrame("a stream's message must be bytes, got text")
    header, payload = unpack(message)
    return RobotFrame(_values(header, payload), header)


def _request(name: str, what: str, accept: str, max_age_ms: int | None, wait_ms: int | None) -> dict[str, Any]:
    waits = {"max_age_ms": max_age_ms, "wait_ms": wait_ms}
    query = {option: value for option, value in waits.items() if value is not None}
    return {"method": "GET", "url": path_of(name, what), "headers": {"Accept": accept}, "params": query}


def _frame(response: httpx.Response, what: str) -> RobotFrame:
    """A frame as octets. Raises KeyError or ValueError."""
    said = response.headers
    seconds, nanoseconds = said["x-stamp"].split(".")
    header = FrameHeader(
        what=what,
        format="raw",
        stamp_ns=int(seconds) * NANOSECONDS + int(nanoseconds),
        width=int(said["x-width"]),
        height=int(said["x-height"]),
        frame_id=unquote(said["x-frame-id"]),
        kind=said.get("x-kind", ""),
        lowest=float(said.get("x-min", "nan")),
        highest=float(said.get("x-max", "nan")),
    )
    return RobotFrame(_values(header, memoryview(response.content)), header)


def _values(header: FrameHeader, payload: memoryview) -> NDArray[Any]:
    """What the payload holds, in the frame's shape. Raises ValueError for other than that."""
    is_depth = header.what == "depth"
    shape = (header.height, header.width) if is_depth else (header.height, header.width, 3)
    is_picture = header.what in ("image", "color")
    values: NDArray[Any]
    if header.format == "raw":
        values = np.frombuffer(payload, np.uint8 if is_picture else FLOAT32)
    elif header.format == "npy":
        values = decode_npy(bytes(payload))
    elif header.format == "png" and is_depth:
        values = decode_depth_png16(bytes(payload), header.scale)
    elif header.format in ("png", "jpeg"):
        values = decode_image(bytes(payload), GENEROUS_LIMITS)
    else:
        raise UndecodableFrame(f"{header.what} as {header.format} is a file, not an array")
    if values.size != math.prod(shape):
        raise UndecodableFrame(f"{values.size} values are no frame of shape {shape}")
    return values.reshape(shape)
