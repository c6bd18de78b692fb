"""HTTP/1.1 with deadlines on the headers and on the last bytes of an answer, which uvicorn does not have.

A client that sends its headers a byte at a time, or never reads its answer, would otherwise hold its connection
for ever. Most of an answer is still in the application's hands (`answers`); here is what the socket
holds.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.server.errors import BadRequest, BodyTooSlow, RequestError, error_response

TRANSPORT = "transport"  # in the `state` of a request's scope: its connection's


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol; headers have to be complete `header_timeout_s` after their first byte.

    A new connection has to begin within that time too, and malformed HTTP is answered as all errors are.
    Once an answer is handed over, the client has to take half of what is left in each `answer_timeout_s`.
    """

    header_timeout_s: float
    answer_timeout_s: float
    _is_upgraded = False
    _header_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}  # uvicorn copies it into each scope
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self._stop_watching_answer()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self._is_upgraded = True  # the connection belongs to another protocol now
        self._stop_watching()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_answer()

    def _watch_answer(self) -> None:
        self._stop_watching_answer()
        left = self.transport.get_write_buffer_size()
        if left > 0:
            self._answer_timer = self.loop.call_later(self.answer_timeout_s, self._check_answer, left)

    def _check_answer(self, before: int) -> None:
        if self.transport.get_write_buffer_size() > before // 2:
            self.transport.abort()  # closing would wait for the client to take the rest
        else:
            self._watch_answer()

    def _stop_watching_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _watch_headers(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting or self._is_upgraded or self.transport.is_closing():
            self._stop_watching()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _stop_watching(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._header_timer = None
        self._refuse(BodyTooSlow("the headers did not arrive in time"))

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("the request is not valid HTTP"))

    def _refuse(self, error: RequestError) -> None:
        """Answer before there is a request, and close."""
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # in the middle of an answer there is no room for another
            return
        response = error_response(error, uuid.uuid4().hex)
        headers = [*response.raw_headers, (b"connection", b"close")]
        start = h11.Response(status_code=response.status_code, headers=headers)
        for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def protocol_with_deadlines(header_timeout_s: float, answer_timeout_s: float) -> type[Any]:
    """Make a class for `uvicorn.Config(http=...)`, which builds one for each connection."""
    timeouts = {"header_timeout_s": header_timeout_s, "answer_timeout_s": answer_timeout_s}
    return type("BridgeProtocol", (DeadlineProtocol,), timeouts)
