"""What streams cost at least: a server that sends the same bytes to whoever connects, and does nothing else.

`python -m benchmarks._bare_stream PORT BYTES RATE_HZ`, a process of its own, on the bridge's event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import time

import uvloop

from bridge.frame_header import FrameHeader
from bridge.server.robot.quiet_websocket import frame_header

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455, 1.3
CLOSE = 8  # a frame's opcode
CLOSED = b"\x88\x00"


class Client(asyncio.Protocol):
    """Shakes hands as a WebSocket's server, and sees a client leave; reads nothing else."""

    def __init__(self, ready: set[asyncio.Transport]) -> None:
        self._ready = ready
        self._head = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the request."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request, once it is there; later, go when the client does."""
        if self._transport in self._ready:
            if data[0] & 0xF == CLOSE:
                self._transport.write(CLOSED)
                self._transport.close()
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        lines = (line.partition(b": ") for line in self._head.split(b"\r\n"))
        key = next(value for name, _, value in lines if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._transport.write(head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self._ready.add(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the client."""
        self._ready.discard(self._transport)


def message_of(payload_bytes: int) -> bytes:
    """A framed message with depth of so many bytes; its stamp is when it was made."""
    header = FrameHeader("depth", "raw", time.time_ns(), payload_bytes // 4, 1, kind="metric").pack(payload_bytes)
    return frame_header(len(header) + payload_bytes) + header + bytes(payload_bytes)


async def serve(port: int, payload_bytes: int, rate_hz: float) -> None:
    """Send until the process is ended."""
    loop, ready = asyncio.get_running_loop(), set[asyncio.Transport]()
    await loop.create_server(lambda: Client(ready), "127.0.0.1", port)
    message, due_s = message_of(payload_bytes), loop.time()
    while True:
        due_s += 1 / rate_hz
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        for transport in ready:
            transport.write(message)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("payload_bytes", type=int)
    parser.add_argument("rate_hz", type=float)
    args = parser.parse_args()
    uvloop.run(serve(args.port, args.payload_bytes, args.rate_hz))


if __name__ == "__main__":
    main()
