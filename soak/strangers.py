"""Clients that a bridge could do without: some vanish in the middle, some send what makes no sense."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

VANISHING, NONSENSE = 20, 60  # at once, in a row
TIMEOUT_S = 20.0
# /pc, which nobody else asks for: these requests are left out where answers are counted.
PATH = "/pc"
PICTURE = b"\x89PNG\r\n\x1a\n"
FRAGMENTS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"image":',
    b'{"image": "AAAA"}',
    b'{"image": 5, "camera_intrinsics": []}',
    b'{"image": "AAAA", "max_depth": 1e999}',
    b"\xff\xfe\x00",
    PICTURE,
    PICTURE + bytes(100),
    b"\xff\xd8\xff\xe0" + bytes(50),
    b"--x\r\n\r\n",
)
TYPES = ("application/json", "image/png", "image/jpeg", "multipart/form-data; boundary=x", "text/html", "")


def request(key: str, body: bytes, content_type: str, length: int | None = None) -> bytes:
    """Return an HTTP request; `length` is what it says of its body, right or not."""
    head = [
        f"POST {PATH} HTTP/1.1",
        "Host: bridge",
        "Connection: close",
        f"Authorization: Bearer {key}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=TIMEOUT_S)


def abandon_requests(url: str, key: str) -> None:
    """Open many connections, send all or a part of a request over each, and leave without reading an answer."""
    whole = request(key, b'{"image": "AAAA"}', "application/json", 17)
    connections: list[socket.socket] = []
    for number in range(VANISHING):
        connection = _connect(url)
        connection.sendall(whole[: max(1, len(whole) * number // (VANISHING - 1))])
        connections.append(connection)
    for connection in connections:
        connection.close()


def send_nonsense(url: str, key: str, seed: int = 0) -> list[str]:
    """Send requests that make no sense, one after the other; return what was wrong with the answers."""
    rng = random.Random(seed)
    bodies = [_nonsense(rng) for _ in range(NONSENSE)]
    statuses = [_status_of(url, request(key, body, rng.choice(TYPES))) for body in bodies]
    return wrong_statuses(statuses)


def wrong_statuses(statuses: Sequence[int | None]) -> list[str]:
    """Return a complaint for every answer to nonsense that was no refusal; None is a connection that was closed."""
    return [f"nonsense was answered with status {s}" for s in statuses if s is not None and not 400 <= s < 500]


def _nonsense(rng: random.Random) -> bytes:
    body = rng.choice(FRAGMENTS) + rng.randbytes(rng.choice((0, 1, 100)))
    return body[: rng.randint(0, len(body))] if rng.random() < 0.3 else body


def _status_of(url: str, message: bytes) -> int | None:
    with _connect(url) as connection:
        connection.sendall(message)
        try:
            response = HTTPResponse(connection)
            response.begin()
            response.read()
        except (HTTPException, ConnectionResetError):
            return None
        return response.status
