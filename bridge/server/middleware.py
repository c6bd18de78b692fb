"""What every request passes on its way in: identity, key, limits, deadlines; and what is logged of it.

This is the outermost layer, in plain ASGI, because it has to see the body arrive byte by byte and
the client leave. It is also the one place where an error becomes an answer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.server.auth import KeyRing, RateLimiter
from bridge.server.bodies import (
    _check_length,
    _discard,
    _hold_end,
    _nothing,
    _replay,
    _too_large,
    _wait_for_disconnect,
)
from bridge.server.endpoints import OPEN_PATHS
from bridge.server.errors import (
    BodyTooSlow,
    DeadlineExceeded,
    QueueFull,
    RequestError,
    answer_for,
    error_response,
)
from bridge.server.scheduling import Place
from bridge.server.service import Bridge
from depth_anything_ros.errors import DepthAnythingError

logger = logging.getLogger("bridge.requests")

REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
CLIENT_CLOSED_REQUEST = 499  # for the log and the metrics; nobody is left to read it
PLACE_S = 1.0  # how long a place in the queue is kept for a request whose body is still to come


class ClientGone(Exception):
    """The client closed its connection before the answer was ready."""


@dataclass
class Exchange:
    """One request and its answer."""

    scope: Scope
    receive: Receive
    send: Send
    request_id: str
    started_s: float = field(default_factory=time.monotonic)
    key_name: str | None = None
    status: int = 0
    answered_s: float | None = None
    body_is_read: bool = False
    error_code: str | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the headers were in."""
        return time.monotonic() - self.started_s

    @property
    def duration_s(self) -> float:
        """Seconds until the last byte of the answer was handed over, or until now where there is none."""
        return self.elapsed_s if self.answered_s is None else self.answered_s - self.started_s


class FrontDoor:
    """ASGI middleware around everything.

    Args:
        paths: known paths, the only ones that become a label.
        work_paths: those among them that ask for depth, and have to be admitted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bridge: Bridge,
        keys: KeyRing,
        limiter: RateLimiter | None,
        paths: frozenset[str],
        work_paths: frozenset[str],
    ) -> None:
        self._app = app
        self._bridge = bridge
        self._settings = bridge.settings
        self._metrics = bridge.metrics
        self._keys = keys
        self._limiter = limiter
        self._paths = paths
        self._work_paths = work_paths
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, _request_id(Headers(scope=scope)))
        try:
            await self._serve(exchange)
        except ClientGone:
            exchange.status, exchange.error_code = CLIENT_CLOSED_REQUEST, "client_gone"
        except Exception as error:
            await self._answer_error(exchange, error)
        finally:
            self._record(exchange)

    async def _serve(self, exchange: Exchange) -> None:
        path, headers = exchange.scope["path"], exchange.scope["headers"]
        if self._keys and path not in OPEN_PATHS:
            exchange.key_name = self._keys.identify(headers)
        is_work = path in self._work_paths and exchange.scope["method"] == "POST"
        if self._limiter and exchange.key_name and is_work:
            self._limiter.take(exchange.key_name)
        with self._bridge.admitted() if is_work else nullcontext() as place:
            body = bytearray()
            try:
                await self._read_body(exchange, body, place)
                if place is not None:
                    place.take()
                    exchange.scope.setdefault("state", {})["place"] = place
                await self._run(exchange, bytes(body))
            finally:
                self._buffered_bytes -= len(body)

    async def _read_body(self, exchange: Exchange, body: bytearray, place: Place | None) -> None:
        """Collect the body, which must keep within its limit and its time.

        A request holds its place from its headers on, so that one too many is turned away at once. But
        a body that is slow to come gives the place up, or a few slow clients would keep all others out.
        """
        _check_length(exchange.scope["headers"], self._settings.max_body_bytes)
        while not exchange.body_is_read:
            is_early = place is not None and place.is_held
            limit_s = min(PLACE_S, self._settings.body_timeout_s) if is_early else self._settings.body_timeout_s
            try:
                message = await asyncio.wait_for(exchange.receive(), limit_s - exchange.elapsed_s)
            except asyncio.TimeoutError:
                if place is None or not is_early:
                    raise BodyTooSlow("the body did not arrive in time") from None
                place.give_back()
                continue
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            body += chunk
            self._buffered_bytes += len(chunk)
            exchange.body_is_read = not message.get("more_body", False)
            self._check_size(len(body))

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)
        if self._buffered_bytes > self._settings.max_buffered_bytes:
            raise QueueFull("the server holds too much data already")

    async def _run(self, exchange: Exchange, body: bytes) -> None:
        """Run the application until it is done, the client is gone, or the time is up."""
        work = asyncio.ensure_future(self._app(exchange.scope, _replay(body), self._sender(exchange)))
        gone = asyncio.ensure_future(_wait_for_disconnect(exchange.receive))
        try:
            left_s = max(0.0, self._settings.request_timeout_s - exchange.elapsed_s)
            await asyncio.wait({work, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise ClientGone if gone.done() else DeadlineExceeded("the answer was not ready in time")
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait({work})

    def _sender(self, exchange: Exchange) -> Send:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = exchange.request_id
                if self._bridge.is_draining or not exchange.body_is_read:
                    headers["Connection"] = "close"
            await exchange.send(message)
            if message.get("body"):
                exchange.answered_s = time.monotonic()

        return send

    async def _answer_error(self, exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, RequestError):
            # The class of an error that is meant to happen says enough; its text stays in the log.
            logger.log(
                logging.WARNING if isinstance(error, DepthAnythingError) else logging.ERROR,
                "request failed: %s",
                error,
                exc_info=not isinstance(error, DepthAnythingError),
                extra={"fields": {"request_id": exchange.request_id}},
            )
        exchange.error_code = answer_for(error).code
        self._metrics.rejected.labels(exchange.error_code).inc()
        if exchange.status:
            return  # too late for another answer: the server closes the connection
        response = error_response(error, exchange.request_id)
        linger = _nothing if exchange.body_is_read else lambda: _discard(exchange.receive)
        await response(exchange.scope, exchange.receive, _hold_end(self._sender(exchange), linger))

    def _record(self, exchange: Exchange) -> None:
        """Count and log an exchange: its path, never its query, headers or body."""
        path = exchange.scope["path"] if exchange.scope["path"] in self._paths else "other"
        method = exchange.scope["method"] if exchange.scope["method"] in ("GET", "POST", "HEAD") else "other"
        self._metrics.requests.labels(path, method, exchange.status).inc()
        self._metrics.duration.labels(path).observe(exchange.duration_s)
        client = exchange.scope.get("client") or ("", 0)
        fields = {
            "request_id": exchange.request_id,
            "method": exchange.scope["method"],
            "path": exchange.scope["path"][:200],
            "status": exchange.status,
            "duration_ms": round(1000 * exchange.duration_s, 1),
            "client": client[0],
            "key": exchange.key_name,
            "error": exchange.error_code,
        }
        level = logging.DEBUG if path in OPEN_PATHS else logging.INFO
        logger.log(level, "%s %s %d", method, path, exchange.status, extra={"fields": fields})


def _request_id(headers: Headers) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
