"""WebSockets: what is noted of one, and how an error closes it."""

from __future__ import annotations

from starlette.types import Message, Send

from bridge.server.errors import Draining, answer_for
from bridge.server.exchange import Exchange

ACCEPTED = 101  # status of a handshake
GOING_AWAY = 1001
CODES = 4000  # an error's close code is its status beyond this
REASON_BYTES = 123  # RFC 6455, 5.5


def watched(exchange: Exchange) -> Send:
    """The exchange's `send`, which notes the status."""

    async def send(message: Message) -> None:
        if message["type"] == "websocket.accept":
            exchange.status = ACCEPTED
        if message["type"] == "websocket.http.response.start":
            exchange.status = message["status"]
        if message["type"] == "websocket.close" and not exchange.status:
            exchange.status = 403  # what the server answers
        await exchange.send(message)
        exchange.mark_answered()

    return send


async def close_socket(exchange: Exchange, send: Send, error: Exception) -> None:
    """Tell why, in the close frame: browsers show its code, but no status of a handshake that was refused."""
    answer = answer_for(error)
    if exchange.status not in (0, ACCEPTED):
        return
    if not exchange.status:
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    code = GOING_AWAY if isinstance(error, Draining) else CODES + answer.status
    reason = f"{answer.code}: {answer.words or error}".encode()[:REASON_BYTES].decode(errors="ignore")
    await send({"type": "websocket.close", "code": code, "reason": reason})
