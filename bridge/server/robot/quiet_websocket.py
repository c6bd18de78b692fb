"""uvicorn's WebSocket protocol, without its log."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class QuietWebSocket(WebSocketsSansIOProtocol):
    """It would log each handshake with its query, and so a ticket."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = logging.getLogger("bridge.websockets")
        self.logger.setLevel(logging.WARNING)
