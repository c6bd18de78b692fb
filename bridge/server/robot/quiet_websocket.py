"""uvicorn's WebSocket protocol, without its log, and with messages that are framed once for all clients."""

from __future__ import annotations

import logging
import struct
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

FRAMED = "framed"  # of an ASGI message, beside its bytes: the same with the header of their frame in front
WHOLE_BINARY = 0x82  # first byte of a frame: the only one of its message, binary (RFC 6455, 5.2)


class QuietWebSocket(WebSocketsSansIOProtocol):
    """It would log each handshake with its query, and so a ticket. And it would frame a message for each client anew.

    No extension is ever agreed upon (`worker.create_server`), so all clients may have the same bytes.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = logging.getLogger("bridge.websockets")
        self.logger.setLevel(logging.WARNING)

    async def send(self, message: Any) -> None:
        """Send an ASGI message. Raises ClientDisconnected."""
        framed = message.get(FRAMED)
        if framed is None or not self.handshake_complete or self.close_sent:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(framed)


def frame_header(payload_bytes: int) -> bytes:
    """What stands in front of a message of so many bytes that a server sends in one frame."""
    if payload_bytes < 126:
        return struct.pack(">BB", WHOLE_BINARY, payload_bytes)
    if payload_bytes < 1 << 16:
        return struct.pack(">BBH", WHOLE_BINARY, 126, payload_bytes)
    return struct.pack(">BBQ", WHOLE_BINARY, 127, payload_bytes)
