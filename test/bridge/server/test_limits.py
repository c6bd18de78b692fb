"""Clients that send too much, too slowly, or nonsense, over raw sockets."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from running_bridge import HeldEstimator, encoded, eventually

from bridge.codec import decode_image
from bridge.server import bodies, protocol, walk
from bridge.server.protocol import DeadlineProtocol
from depth_anything_ros.settings import ImageLimits

Json = dict[str, Any]
HEAD = "POST /metric_depth HTTP/1.1\r\nHost: bridge\r\nContent-Type: application/json\r\n"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def assert_refused(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["code"] == code


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(serve_app: Callable[..., str]) -> None:
    with connected(serve_app(max_body_bytes=1000)) as connection:
        connection.sendall(f"{HEAD}Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert_refused(read_all(connection), 413, "body_too_large")


def test_a_chunked_body_is_cut_off_at_the_limit(serve_app: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LINGER_S", 0.1)
    with connected(serve_app(max_body_bytes=1000)) as connection:
        chunk = b"1f4\r\n" + 500 * b" " + b"\r\n"
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + 3 * chunk)
        assert_refused(read_all(connection), 413, "body_too_large")


def test_a_client_that_sends_everything_first_still_reads_its_refusal(serve_app: Callable[..., str]) -> None:
    url = serve_app(max_body_bytes=1000)
    answer = httpx.post(f"{url}/metric_depth", content=5_000_000 * b" ", headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


def test_a_body_at_the_limit_is_taken(serve_app: Callable[..., str], metric_request: Json) -> None:
    body = json.dumps(metric_request).encode()
    url, kind = serve_app(max_body_bytes=len(body)), {"Content-Type": "application/json"}
    assert httpx.post(f"{url}/metric_depth", content=body, headers=kind).status_code == 200
    assert httpx.post(f"{url}/metric_depth", content=body + b" ", headers=kind).status_code == 413


def test_bodies_together_are_limited_too(serve_app: Callable[..., str], metric_request: Json) -> None:
    url = serve_app(max_buffered_bytes=10_000)
    with connected(url) as connection:
        connection.sendall(f"{HEAD}Content-Length: 9900\r\n\r\n".encode() + 9800 * b" ")
        answer = eventually(lambda: refused(url, metric_request))
        assert answer.json()["error"]["code"] == "queue_full"
        connection.sendall(100 * b" ")  # makes 9900 spaces, which are no JSON
        assert b" 400 " in connection.recv(1000)
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200


def refused(url: str, body: Json) -> httpx.Response | None:
    answer = httpx.post(f"{url}/metric_depth", json=body)
    return answer if answer.status_code == 503 else None


def test_a_client_with_slow_headers_is_cut_off(serve_app: Callable[..., str]) -> None:
    with connected(serve_app(header_timeout_s=0.3)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: bri")
        assert_refused(read_all(connection), 408, "too_slow")


def test_a_byte_now_and_then_buys_no_time(serve_app: Callable[..., str]) -> None:
    with connected(serve_app(header_timeout_s=0.5)) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-A: ")
        connection.settimeout(0.05)
        answer, deadline_s = b"", time.monotonic() + 20
        while not answer and time.monotonic() < deadline_s:
            try:
                connection.sendall(b"a")
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_silent_connection_is_closed(serve_app: Callable[..., str]) -> None:
    with connected(serve_app(header_timeout_s=0.3)) as connection:
        assert_refused(read_all(connection), 408, "too_slow")


def test_the_second_request_of_a_connection_has_a_deadline_too(serve_app: Callable[..., str]) -> None:
    with connected(serve_app(header_timeout_s=0.5)) as connection:
        request = b"GET /livez HTTP/1.1\r\nHost: bridge\r\n\r\n"
        for _ in range(2):
            connection.sendall(request)
            answer = b""
            while b"alive" not in answer:
                answer += connection.recv(65536)
        connection.sendall(request[:20])
        assert_refused(read_all(connection), 408, "too_slow")


def test_a_request_may_take_longer_than_its_headers_may(serve_app: Callable[..., str], metric_request: Json) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache(), header_timeout_s=0.2)
    timer = threading.Timer(0.6, held.released.set)
    timer.start()
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200
    timer.join()


def test_slow_bodies_are_cut_off_and_keep_nobody_out(
    serve_app: Callable[..., str], metric_request: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PLACE_S", 60.0)  # until the refusal was seen, however busy the machine is
    url = serve_app(body_timeout_s=6.0, max_waiting=1)
    with connected(url) as first, connected(url) as second:
        for connection in (first, second):
            connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n".encode() + b"{")
        eventually(lambda: refused(url, metric_request))
        monkeypatch.setattr(bodies, "PLACE_S", 0.3)
        eventually(lambda: httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200)
        for connection in (first, second):
            assert_refused(read_all(connection), 408, "too_slow")


def unread_cloud(connection: socket.socket, body: Json) -> int:
    """Ask for a cloud that no socket buffer holds, and read no more than the head; returns the body's length."""
    image = encoded(".png", np.zeros((1200, 1600, 3), np.uint8))
    content = json.dumps({**body, "image": base64.b64encode(image).decode()}).encode()
    head = f"{HEAD.replace('metric_depth', 'pc')}Content-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 200 ")
    return int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_never_reads_its_answer_is_cut_off(
    serve_app: Callable[..., str], cloud_request: Json, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(loop)
    lost = threading.Event()

    class Watched(DeadlineProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    monkeypatch.setattr(protocol, "DeadlineProtocol", Watched)
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, loop=loop))
    with connected(serve_app(body_timeout_s=0.5)) as connection:
        length = unread_cloud(connection, cloud_request)
        assert lost.wait(20)
        assert len(read_all(connection)) < length


def test_a_slow_reader_of_a_large_answer_gets_all_of_it(serve_app: Callable[..., str], cloud_request: Json) -> None:
    with connected(serve_app(body_timeout_s=1.0)) as connection:
        length = unread_cloud(connection, cloud_request)
        read = 0
        for share in (length * 3 // 4, length):
            while read < share and (part := connection.recv(share - read)):
                read += len(part)
            time.sleep(1.3)  # longer than the timeout, within which more than half was taken
    assert read == length


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\xff: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + 20_000 * b"x",
    ],
)
def test_what_is_no_http_gets_the_same_form_of_answer(serve_app: Callable[..., str], request_bytes: bytes) -> None:
    with connected(serve_app()) as connection:
        connection.sendall(request_bytes)
        assert_refused(read_all(connection), 400, "bad_request")


def test_a_request_that_is_not_done_in_time_is_a_504(serve_app: Callable[..., str], metric_request: Json) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache(), request_timeout_s=0.4)
    answer = httpx.post(f"{url}/metric_depth", json=metric_request)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline"
    held.released.set()


def test_an_image_that_takes_too_long_to_decode_is_refused_and_others_are_served(
    serve_app: Callable[..., str], metric_request: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    def decode(data: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
        if len(data) < 200:
            assert may_end.wait(20)
        return decode_image(data, limits)

    monkeypatch.setattr(walk, "decode_image", decode)
    url = serve_app(decode_timeout_s=0.3)
    slow = encoded(".png", np.zeros((48, 64, 3), np.uint8))
    answer = httpx.post(f"{url}/metric_depth", content=slow)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "undecodable_image")
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200
    may_end.set()


def test_a_client_says_itself_how_long_it_waits(serve_app: Callable[..., str], metric_request: Json) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache())
    for _ in range(3):  # the first is in work, the others wait for their turn
        answer = httpx.post(f"{url}/metric_depth", json=metric_request, headers={"X-Deadline-Ms": "400"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline")
        assert 0.3 < answer.elapsed.total_seconds() < 3
    assert held.started.acquire(timeout=1)
    held.released.set()
    generous = {"X-Deadline-Ms": "60000"}
    assert httpx.post(f"{url}/metric_depth", json=metric_request, headers=generous).status_code == 200
    assert held.started.acquire(timeout=1)
    assert not held.started.acquire(timeout=0.1)  # nothing was computed for those that had given up


def test_a_body_that_outlasts_the_clients_own_deadline_is_a_408(serve_app: Callable[..., str]) -> None:
    with connected(serve_app()) as connection:
        connection.sendall(f"{HEAD}X-Deadline-Ms: 200\r\nContent-Length: 100\r\n\r\n".encode() + b"{")
        assert_refused(read_all(connection), 408, "too_slow")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "", "1e3", "\u0663"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_refused(serve_app: Callable[..., str], text: str) -> None:
    answer = httpx.get(f"{serve_app()}/livez", headers=[(b"X-Deadline-Ms", text.encode())])
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "X-Deadline-Ms")


def test_answers_that_nobody_takes_make_others_wait_and_are_dropped(
    serve_app: Callable[..., str], cloud_request: Json
) -> None:
    url = serve_app(body_timeout_s=1.0, max_answer_bytes=100_000_000)
    with connected(url) as first, connected(url) as second:
        unread_cloud(first, cloud_request)
        start_s = time.monotonic()
        unread_cloud(second, cloud_request)  # waits until the first was cut off
        assert time.monotonic() - start_s > 0.5
        assert httpx.post(f"{url}/pc", json=cloud_request).status_code == 200


def test_a_turn_that_does_not_come_in_time_is_a_504(serve_app: Callable[..., str], metric_request: Json) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache(), queue_timeout_s=0.3)
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{url}/metric_depth", json=metric_request, timeout=30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answers) == 3)
    assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(504, "deadline")}
    held.released.set()
    for thread in threads:
        thread.join()
    assert answers[-1].status_code == 200
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200
