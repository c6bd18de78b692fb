"""HTTP in which every wait on the network counts against one deadline; for `DepthClient`.

httpx bounds each read on its own, so it would wait for ever for a server that sends a byte a second. Here the
network stream knows the deadline. asyncio can cancel a request as a whole, so `AsyncDepthClient` does without this.
"""

from __future__ import annotations

import math
import ssl
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_end_s: ContextVar[float] = ContextVar("end_s", default=math.inf)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let every wait inside, in this thread, end with httpx.ReadTimeout after so many seconds at the latest."""
    token = _end_s.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end_s.reset(token)


class DeadlineTransport(httpx.BaseTransport):
    """Connections over TCP and TLS, or through the proxy that the environment names for `url`, as in httpx."""

    def __init__(self, url: httpx.URL) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            proxy=_proxy(url),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer. Raises httpx.RequestError."""
        try:
            response = self._pool.request(
                request.method,
                str(request.url),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        except _FAILURES as error:  # httpx has an error of the same name for each
            raise getattr(httpx, type(error).__name__)(str(error), request=request) from error
        return httpx.Response(response.status, headers=response.headers, content=response.content)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


def _proxy(url: httpx.URL) -> httpcore.Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name, unless NO_PROXY excepts the host."""
    named = urllib.request.getproxies()
    address = named.get(url.scheme) or named.get("all")
    if not address or urllib.request.proxy_bypass(url.host):
        return None
    proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    return httpcore.Proxy(url=str(proxy.url), auth=proxy.raw_auth, headers=proxy.headers.raw)


def _left_s(timeout: float | None) -> float:
    """The time that a wait may take: the shorter of its own limit and what is left of the call."""
    left_s = _end_s.get() - time.monotonic()
    if left_s <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left_s if timeout is None else min(timeout, left_s)


class _Stream(httpcore.NetworkStream):
    """A connection whose waits end at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_s(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left_s(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._backend.connect_tcp(host, port, _left_s(timeout), local_address, socket_options))
