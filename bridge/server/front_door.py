"""What every request passes on its way in: key, rate, admission, body, deadline.

This is the outermost layer, in plain ASGI, because it has to see the body arrive byte by byte and the client
leave. It is also the one place where an error becomes an answer. What a request asks for is `walk`'s matter.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from functools import partial
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.server.admission import Admission
from bridge.server.answers import SlowReader, send_body
from bridge.server.auth import Limiter
from bridge.server.bodies import POLL_S, Bodies, ClientGone, discard_rest, hold_end, replay, wait_for_disconnect
from bridge.server.endpoints import WORK_PATHS
from bridge.server.errors import DeadlineExceeded, Draining, InvalidValue, answer_for, error_response, log_failure
from bridge.server.exchange import DEADLINE_HEADER, Exchange
from bridge.server.gate import Gate
from bridge.server.metrics import Metrics
from bridge.server.protocol import TRANSPORT
from bridge.server.settings import BridgeSettings
from bridge.server.sockets import close_socket, watched
from bridge.server.state import WorkerState

CLIENT_CLOSED_REQUEST = 499  # for the log and the metrics; nobody is left to read it


class FrontDoor:
    """ASGI middleware around the application. Collaborators are those of `app.create_app`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: BridgeSettings,
        state: WorkerState,
        admission: Admission,
        metrics: Metrics,
        gate: Gate,
        limiter: Limiter | None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._state = state
        self._admission = admission
        self._metrics = metrics
        self._gate = gate
        self._limiter = limiter
        self._bodies = Bodies(settings, state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope["root_path"] = self._settings.root_path  # the router takes paths with it and without
        exchange = Exchange(scope, receive, send, self._settings.request_timeout_s)
        try:
            await (self._serve_socket(exchange) if scope["type"] == "websocket" else self._serve(exchange))
        except ClientGone:
            exchange.status, exchange.error_code = CLIENT_CLOSED_REQUEST, "client_gone"
        except SlowReader:
            exchange.error_code = "slow_reader"
            await _abort(exchange)
        except Exception as error:
            await self._answer_error(exchange, error)
        finally:
            exchange.record(self._metrics)

    async def _serve_socket(self, exchange: Exchange) -> None:
        """Key and origin, then the application; an error closes the socket, which says why."""
        send = watched(exchange)
        try:
            self._state.check_up()
            self._check_key(exchange)
            exchange.scope.setdefault("state", {})["key_name"] = exchange.key_name
            await self._app(exchange.scope, exchange.receive, send)
        except Exception as error:
            log_failure(error, exchange.request_id)
            exchange.error_code = answer_for(error).code
            self._metrics.rejected.labels(exchange.error_code).inc()
            await close_socket(exchange, send, error)

    async def _serve(self, exchange: Exchange) -> None:
        """The walk up to the application: key, deadline, rate, place, body."""
        is_work = exchange.path in WORK_PATHS and exchange.method == "POST"
        self._check_key(exchange)
        exchange.deadline_s = min(exchange.deadline_s, _deadline_s(exchange))
        if is_work:
            await self._check_rate(exchange)
        with self._admission.admit(exchange.left_s) if is_work else nullcontext() as place:
            async with self._bodies.read(exchange, place) as body:
                shared = exchange.scope.setdefault("state", {})
                shared |= {"place": place, "request_id": exchange.request_id, "charge": partial(self._charge, exchange)}
                shared["key_name"] = exchange.key_name
                await self._run(exchange, body)

    def _check_key(self, exchange: Exchange) -> None:
        exchange.key_name = self._gate.identify(exchange.scope, exchange.path)

    async def _check_rate(self, exchange: Exchange) -> None:
        if self._limiter and exchange.key_name:
            await self._limiter.take(exchange.key_name)

    def _charge(self, exchange: Exchange, images: int) -> None:
        """Count the further images of a request against the key's rate."""
        if self._limiter and exchange.key_name:
            self._limiter.owe(exchange.key_name, images)

    async def _run(self, exchange: Exchange, body: bytes) -> None:
        """Run the application until it is done, the client is gone, or the time is up.

        The deadline is for the beginning of the answer; how fast the client takes it is `send_body`'s matter.
        """
        work = asyncio.ensure_future(self._app(exchange.scope, replay(body), self._sender(exchange)))
        gone = asyncio.ensure_future(wait_for_disconnect(exchange.receive))
        try:
            while not (work.done() or gone.done()):
                self._check_time(exchange)
                wait_s = POLL_S if exchange.status else min(POLL_S, exchange.left_s)
                await asyncio.wait({work, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGone
            work.result()
        finally:
            gone.cancel()
            work.cancel()
            # This stops no network that computes: once the time to drain is over, the answer does not wait for it.
            await asyncio.wait({work}, timeout=POLL_S if self._state.is_over else None)

    def _check_time(self, exchange: Exchange) -> None:
        if self._state.is_over:
            raise Draining("the server is going down")
        if not exchange.status and exchange.left_s == 0:
            raise DeadlineExceeded("the answer was not ready in time")

    def _sender(self, exchange: Exchange) -> Send:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = exchange.request_id
                if self._state.is_draining or not exchange.body_is_read:
                    headers["Connection"] = "close"
                await exchange.send(message)
                return
            await send_body(exchange.send, message, self._settings.body_timeout_s, partial(_buffered_bytes, exchange))
            exchange.mark_answered()

        return send

    async def _answer_error(self, exchange: Exchange, error: Exception) -> None:
        log_failure(error, exchange.request_id)
        exchange.error_code = answer_for(error).code
        self._metrics.rejected.labels(exchange.error_code).inc()
        if exchange.status:
            return  # too late for another answer: the server closes the connection
        response = error_response(error, exchange.request_id)
        send = self._sender(exchange)
        if not exchange.body_is_read:
            send = hold_end(send, lambda: discard_rest(exchange.receive))
        await response(exchange.scope, exchange.receive, send)


def _deadline_s(exchange: Exchange) -> float:
    """How long the client says that it waits, in seconds; infinite where it says nothing. Raises InvalidValue."""
    text = Headers(scope=exchange.scope).get(DEADLINE_HEADER)
    if text is None:
        return math.inf
    if not text.isdecimal() or not text.isascii() or int(text[:10]) == 0:
        raise InvalidValue(f"{DEADLINE_HEADER} must be a whole number of milliseconds above 0", DEADLINE_HEADER)
    return int(text[:10]) / 1000


def _transport(exchange: Exchange) -> asyncio.Transport | None:
    """The connection below, where `protocol` made it."""
    return cast("asyncio.Transport | None", exchange.scope.get("state", {}).get(TRANSPORT))


def _buffered_bytes(exchange: Exchange) -> int:
    transport = _transport(exchange)
    return 0 if transport is None else transport.get_write_buffer_size()


async def _abort(exchange: Exchange) -> None:
    """Drop the connection: closing it would wait for the client to take the rest."""
    transport = _transport(exchange)
    if transport is not None:
        transport.abort()
        await wait_for_disconnect(exchange.receive)
