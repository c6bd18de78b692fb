"""Streams of a robot camera's frames over a WebSocket: read, and opened again when they break."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from bridge.client.calls import error_of_body, plain
from bridge.client.errors import BridgeError
from bridge.client.robot_calls import RobotFrame, StreamCall, read_message
from depth_anything_ros.errors import InputError, SettingsError

try:
    from websockets.asyncio.client import connect as connect_async
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.sync.client import connect
except ImportError as error:  # systems ship older ones, with which everything else works
    raise SettingsError("streams need websockets 15 or newer: pip install 'websockets>=15'") from error

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
MAX_MESSAGE_BYTES = 2**29  # a cloud of a picture of 44 megapixels
FIRST_DELAY_S, LONGEST_DELAY_S = 0.25, 5.0
# Close codes that another attempt may mend: going down, broken off, restarting, and 4503 of docs/robot_cameras.md.
PASSING_CODES = (1001, 1006, 1011, 1012, 1013, 4503)
PASSING_STATUSES = (429, 502, 503, 504)
APPLICATION_CODES = 4000  # added to the HTTP status that the same error has

_FAILURES = (WebSocketException, OSError, TimeoutError, InputError)


def _options(call: StreamCall) -> dict[str, Any]:
    """Arguments of `connect`. It holds one message at most, so the server skips what is not taken."""
    key = call.server.api_key
    return {
        "additional_headers": {"Authorization": f"Bearer {key}"} if key else {},
        "open_timeout": CONNECT_TIMEOUT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
        "max_size": MAX_MESSAGE_BYTES,
        "max_queue": 1,
        "compression": None,
    }


def frames(call: StreamCall) -> Iterator[RobotFrame]:
    """Each newer frame, for ever. Raises BridgeError: the stream is refused, or was down for too long."""
    patience = Patience(call)
    while True:
        try:
            with connect(call.url, **_options(call)) as socket:
                while True:
                    frame = read_message(socket.recv())
                    patience.renew()
                    yield frame
        except _FAILURES as error:
            time.sleep(patience.delay_s(error))


async def frames_async(call: StreamCall) -> AsyncIterator[RobotFrame]:
    """`frames` for asyncio."""
    patience = Patience(call)
    while True:
        try:
            async with connect_async(call.url, **_options(call)) as socket:
                while True:
                    frame = read_message(await socket.recv())
                    patience.renew()
                    yield frame
        except _FAILURES as error:
            await asyncio.sleep(patience.delay_s(error))


class Patience:
    """How long a stream that broke is opened again: the waits double, until it has been down for too long."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self.renew()

    def renew(self) -> None:
        """A frame came."""
        self._delay_s = FIRST_DELAY_S
        self._end_s: float | None = None

    def delay_s(self, error: Exception) -> float:
        """Seconds to wait before the next attempt. Raises BridgeError: there is none."""
        told = _bridge_error(error, self._call.where)
        now_s = time.monotonic()
        self._end_s = now_s + self._call.retry_for_s if self._end_s is None else self._end_s
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_DELAY_S)
        if not _may_pass(error) or now_s + delay_s > self._end_s:
            raise told from error
        return delay_s


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, ConnectionClosed):
        return error.rcvd is None or error.rcvd.code in PASSING_CODES
    if isinstance(error, InvalidStatus):
        return error.response.status_code in PASSING_STATUSES
    return isinstance(error, (OSError, TimeoutError))


def _bridge_error(error: Exception, where: str) -> BridgeError:
    """The same error in this client's terms. A close code is 4000 and the HTTP status, its reason `code: words`."""
    if isinstance(error, InvalidStatus):
        return _refused(error, where)
    if isinstance(error, InputError):
        return BridgeError(f"a frame of {where} cannot be read: {error}")
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        code, _, words = plain(error.rcvd.reason).partition(": ")
        status = error.rcvd.code - APPLICATION_CODES
        if status > 0:
            return BridgeError(f"{status}: {words or code}", status=status, code=code)
        return BridgeError(f"the stream {where} ended: {words or code or error.rcvd.code}", code=code)
    return BridgeError(f"no answer from {where}: {plain(str(error)) or type(error).__name__}")


def _refused(error: InvalidStatus, where: str) -> BridgeError:
    """A handshake that was answered with a status."""
    try:
        body = json.loads(error.response.body or b"")
    except ValueError:
        body = None
    return error_of_body(error.response.status_code, body, f"{error.response.reason_phrase}, from {where}")
