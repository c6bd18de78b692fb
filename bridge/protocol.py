"""HTTP/1.1 with a deadline on the headers, which uvicorn does not have.

A client that sends its headers a byte at a time would otherwise hold its connection for ever.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.errors import BadRequest, BodyTooSlow, RequestError, error_response


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol; headers have to be complete `header_timeout_s` after their first byte.

    A new connection has to begin within that time too, and malformed HTTP is answered as all errors are.
    """

    header_timeout_s: float
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting or self.transport.is_closing():
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


def protocol_with_deadline(header_timeout_s: float) -> type[Any]:
    """Make a class for `uvicorn.Config(http=...)`, which builds one for each connection."""
    return type("BridgeProtocol", (DeadlineProtocol,), {"header_timeout_s": header_timeout_s})
