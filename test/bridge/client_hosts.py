"""What a client may meet in place of a bridge: answers made up here, and hosts on loopback that misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np

from bridge.client import RetryPolicy
from depth_anything_ros.io.formats import encode_npy

Ask = Callable[..., Any]  # the fixture `ask`
FAST = RetryPolicy(base_s=0.001)
DEPTH = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


class Answers(httpx.MockTransport):
    """Gives the answers in turn, the last for ever, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        super().__init__(self.answer)
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    def client(self, **options: Any) -> dict[str, Any]:
        return {"base_url": "http://bridge.test", "transport": self, "retry": FAST, **options}


def good() -> httpx.Response:
    return httpx.Response(200, headers={"x-model-key": "toy_hypersim_56"}, content=encode_npy(DEPTH))


def refusal(status: int, **headers: str) -> httpx.Response:
    error = {"message": "try later", "type": "x", "code": "queue_full", "param": None, "request_id": "abc-1"}
    return httpx.Response(status, headers=headers, json={"detail": "try later", "error": error})


@contextmanager
def host(reply: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[int]]]:
    """Answer every request with `reply`; yields the URL, and the client ports seen, one a request."""
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ports.append(self.client_address[1])
            self.rfile.read(int(self.headers.get("content-length", 0)))
            reply(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", ports
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def healthy(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "2")
    handler.end_headers()
    handler.wfile.write(b"{}")
