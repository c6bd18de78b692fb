"""Connections: kept open, apart for each process and loop, and given up at the deadline."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from client_hosts import FAST, Ask, healthy, host
from running_bridge import RunningBridge

from bridge.client import AsyncDepthClient, BridgeError, DepthClient, RetryPolicy

ROOT = Path(__file__).parents[3]
FORKS = Path(__file__).with_name("forks.py")


def test_one_connection_serves_many_calls() -> None:
    async def many(url: str) -> None:
        async with AsyncDepthClient(url) as client:
            for _ in range(3):
                assert await client.health() == {}

    with host(healthy) as (url, ports):
        with DepthClient(url) as client:
            for _ in range(3):
                assert client.health() == {}
        asyncio.run(many(url))
    assert len(ports) == 6
    assert len(set(ports)) == 2


@contextmanager
def raw_host(*replies: Callable[[socket.socket], None]) -> Iterator[str]:
    """Read a request on each connection, and treat it as the next of `replies` says, the last for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    waiting, threads = list(replies), []

    def serve(connection: socket.socket, reply: Callable[[socket.socket], None]) -> None:
        with connection:
            try:
                connection.recv(1 << 20)
                reply(connection)
            except OSError:
                pass  # the client is gone, as it should be

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection, waiting[0])))
            threads[-1].start()
            if len(waiting) > 1:
                waiting.pop(0)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join(30)


def drip(connection: socket.socket) -> None:
    for _ in range(600):
        connection.sendall(b"x")
        time.sleep(0.05)


def silent(connection: socket.socket) -> None:
    connection.recv(1)


def drips_a_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(connection)


def drips_a_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    drip(connection)


def always_full(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("reply", [silent, drip, drips_a_header, drips_a_body])
def test_a_call_ends_at_its_deadline_whatever_the_server_does(ask: Ask, reply: Callable[[socket.socket], None]) -> None:
    with raw_host(reply) as url:
        start = time.monotonic()
        with pytest.raises(BridgeError, match=r"no answer from http://127\.0\.0\.1:\d+/health: ") as failure:
            ask("health", client={"base_url": url, "timeout_s": 0.4, "retry": RetryPolicy(attempts=1)})
        assert 0.3 < time.monotonic() - start < 5  # the whole answer would take 30 s
        assert failure.value.status is None
        if reply is not drip:  # which is no HTTP, so it may be given up sooner
            assert "not finished within 0.4 s" in str(failure.value)


def test_attempts_and_the_waits_between_them_share_the_deadline(ask: Ask) -> None:
    with raw_host(always_full) as url:
        start = time.monotonic()
        retry = RetryPolicy(attempts=1000, base_s=0.1)
        with pytest.raises(BridgeError, match=r"503|not finished within 0\.5 s"):
            ask("health", client={"base_url": url, "timeout_s": 0.5, "retry": retry})
        assert time.monotonic() - start < 5


def breaks_off(part: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(part)


def test_an_answer_that_broke_off_is_asked_for_again(ask: Ask) -> None:
    """As when a worker process of the server is killed: before its answer, in its head, in its body."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    breaking = [breaks_off(whole[:length]) for length in (0, 20, len(whole) - 1)]
    with raw_host(*breaking, breaks_off(whole)) as url:
        assert ask("health", client={"base_url": url, "retry": FAST}) == {}


def test_the_proxy_that_the_environment_names_is_used_but_for_hosts_that_it_excepts(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(f"{handler.path} {handler.headers.get('proxy-authorization', '')}".strip())
        healthy(handler)

    with host(reply) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", url.replace("://", "://me:word@"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert ask("health", client={"base_url": "http://robot.test:8000"}) == {}
        assert ask("health", client={"base_url": url}) == {}
    assert asked == ["http://robot.test:8000/health Basic bWU6d29yZA==", "/health"]


def test_an_async_client_works_in_one_loop_after_another() -> None:
    with host(healthy) as (url, ports):
        client = AsyncDepthClient(url)

        async def twice() -> None:
            assert await client.health() == {}
            assert list(await asyncio.gather(client.health(), client.health())) == [{}, {}]

        for _ in range(3):
            asyncio.run(twice())
        assert len(ports) == 9
        assert len(set(ports)) <= 6

        async def closed() -> None:
            async with client:
                pass
            with pytest.raises(RuntimeError, match="closed"):
                await client.health()

        asyncio.run(closed())


def test_a_closed_client_says_so() -> None:
    client = DepthClient("http://127.0.0.1:9")
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.health()


@pytest.mark.parametrize("mode", ["between calls", "between loops", "in a loop"])
def test_every_forked_process_gets_its_own_answers(running_bridge: RunningBridge, mode: str) -> None:
    """Clients that were used before the fork are used in four children at once, each with a picture of its own size."""
    command = [sys.executable, str(FORKS), running_bridge.url, mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert results == [{"answers": 12, "others": 0}] * 4
