"""Fetch the picture behind a URL that a stranger wrote, without giving them a way into this network.

Every hop, redirects included, is checked in the same way: the URL must be plain, its host is resolved here, and
all its addresses must be allowed (`addresses`). The connection goes to one of exactly these addresses; the Host header
and the TLS name stay the URL's. So it does not matter if the name resolves to something else a moment later.

::

    DepthAnythingError
    └── ImageUrlError
        ├── UrlRefused         this server does not fetch from there
        └── ImageHostFailed    no picture came from there

The messages name hosts and reasons, never a URL's path or query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from socket import SOCK_STREAM

import httpx

from bridge.server.addresses import WEB_PORTS, Address, AllowEntry, embedded_ipv4, is_blocked, is_host_name
from depth_anything_ros.errors import DepthAnythingError

# (host, port) -> textual IP addresses; raises OSError for a name that has none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

REDIRECTS = (301, 302, 303, 307, 308)
# What storage services say for files of unknown type. Whether it is a picture is found out afterwards.
UNNAMED_TYPES = ("application/octet-stream", "binary/octet-stream")


class ImageUrlError(DepthAnythingError):
    """No picture came from an image URL."""


class UrlRefused(ImageUrlError):
    """The URL is malformed, or leads to a place that this server does not fetch from. Nothing was sent there."""


class ImageHostFailed(ImageUrlError):
    """The host has no address, does not answer, or sends something other than a picture."""


@dataclass(frozen=True)
class ImageUrlSettings:
    """What the server fetches for its clients.

    Attributes:
        enabled: False refuses every URL.
        allow: what may be reached beside public addresses on 80 and 443: a host, an IP address or a
            network, each with `:port` or without (then 80 and 443); an IPv6 address with a port
            stands in brackets. A host is trusted with every address it resolves to.
        max_bytes: largest picture.
        connect_timeout_s: for each address that is tried.
        total_timeout_s: for everything, name resolution and redirects included.
        max_redirects: how many are followed.
    """

    enabled: bool = True
    allow: tuple[str, ...] = ()
    max_bytes: int = 20 * 2**20
    connect_timeout_s: float = 3.0
    total_timeout_s: float = 10.0
    max_redirects: int = 3


def parse_url(text: str) -> httpx.URL:
    """Read a URL strictly: http or https, no user name, a host in its one canonical ASCII form.

    Raises:
        UrlRefused: anything else. `0x7f.1`, `2130706433`, `0177.0.0.1`, a trailing dot, full-width
            digits and percent-encoded hosts are all refused rather than understood.
    """
    if not text.isascii() or set(text) & set(' \\"<>^`{|}'):
        raise UrlRefused("the URL holds characters that have to be percent-encoded, or a host not in punycode")
    try:
        url = httpx.URL(text)
        host = _host(url)
    except (httpx.InvalidURL, UnicodeError):
        raise UrlRefused("the URL cannot be read") from None
    if url.scheme not in WEB_PORTS or url.userinfo or not 0 < _port(url) < 65536:
        raise UrlRefused("the URL must be http or https, without user name, on a port from 1 to 65535")
    if _literal(host) is None and not is_host_name(host):
        raise UrlRefused("the URL's host is neither a plain name nor a plain IP address")
    return url


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")  # `URL.host` would decode punycode, and fail on what is none


def _port(url: httpx.URL) -> int:
    return WEB_PORTS[url.scheme] if url.port is None else url.port


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system for a host's addresses, in the order to try them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class ImageFetcher:
    """Fetches pictures for strangers; see the module's docstring for how it guards itself.

    `resolver` and `transport` are the two ways out to the network, replaceable for tests.
    """

    def __init__(
        self,
        settings: ImageUrlSettings,
        resolver: Resolver | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._allow = tuple(AllowEntry.parse(entry) for entry in settings.allow)
        self._resolve = resolver or resolve
        # A bare transport: it has no cookie jar, follows no redirect and knows no proxy. Connections are
        # not kept, or one made for a name would be used again for another name at the same address.
        self._transport = transport or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        timeout = httpx.Timeout(settings.total_timeout_s, connect=settings.connect_timeout_s)
        self._timeout = timeout.as_dict()

    async def fetch(self, url: str) -> bytes:
        """Return the encoded picture behind `url`.

        Raises:
            UrlRefused: switched off, malformed, or a host, port or address that is not allowed.
            ImageHostFailed: unknown host, no answer in time, an error, no picture, or too large a one.
        """
        if not self._settings.enabled:
            raise UrlRefused("image URLs are switched off on this server")
        try:
            return await asyncio.wait_for(self._follow(url), self._settings.total_timeout_s)
        except asyncio.TimeoutError:
            raise ImageHostFailed(f"no picture within {self._settings.total_timeout_s:g} s") from None

    async def aclose(self) -> None:
        """Close the connections that are left."""
        await self._transport.aclose()

    async def _follow(self, text: str) -> bytes:
        for _ in range(self._settings.max_redirects + 1):
            url = parse_url(text)
            response = await self._get(url, await self._allowed_addresses(url))
            try:
                if response.status_code not in REDIRECTS:
                    return await self._read_picture(response)
                text = _redirect_target(url, response)
            except httpx.HTTPError as error:
                raise ImageHostFailed(f"{_host(url)} broke off: {type(error).__name__}") from error
            finally:
                await response.aclose()
        raise ImageHostFailed(f"more than {self._settings.max_redirects} redirects")

    async def _allowed_addresses(self, url: httpx.URL) -> list[Address]:
        """Resolve the host; one address that is not allowed refuses them all."""
        host, port = _host(url), _port(url)
        literal = _literal(host)
        addresses = [literal] if literal is not None else await self._look_up(host, port)
        for address in addresses:
            if not self._is_allowed(host, address, port):
                raise UrlRefused(f"{host}:{port} is neither a public web address nor in image_url_allow")
        return addresses

    async def _look_up(self, host: str, port: int) -> list[Address]:
        try:
            addresses = [ip_address(address) for address in await self._resolve(host, port)]
        except OSError as error:
            raise ImageHostFailed(f"{host} cannot be resolved") from error
        if not addresses:
            raise ImageHostFailed(f"{host} has no address")
        return addresses

    def _is_allowed(self, host: str, address: Address, port: int) -> bool:
        if any(entry.matches(host, address, port) for entry in self._allow):
            inner = embedded_ipv4(address)  # allowing NAT64, say, must not open what lies behind it
            return inner is None or self._is_allowed(host, inner, port)
        return port in WEB_PORTS.values() and not is_blocked(address)

    async def _get(self, url: httpx.URL, addresses: list[Address]) -> httpx.Response:
        """Connect to the first of the checked addresses that answers, in the name of the URL's host."""
        for address in addresses:
            request = httpx.Request(
                "GET",
                url.copy_with(host=str(address)),
                headers={
                    "Host": url.netloc.decode("ascii"),
                    "Accept": "image/*",
                    "Accept-Encoding": "identity",
                    "User-Agent": "depth-anything-bridge",
                },
                extensions={"timeout": self._timeout, "sni_hostname": _host(url)},
            )
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.HTTPError as error:
                raise ImageHostFailed(f"{_host(url)} broke off: {type(error).__name__}") from error
        raise ImageHostFailed(f"{_host(url)} does not accept connections")

    async def _read_picture(self, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise ImageHostFailed(f"the image host answered {response.status_code}")
        media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not media.startswith("image/") and media not in UNNAMED_TYPES:
            raise ImageHostFailed("the image host sent something other than an image")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ImageHostFailed("the image host sent a compressed body, which nobody asked for")
        limit = self._settings.max_bytes
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise ImageHostFailed(f"the picture is larger than {limit} bytes")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise ImageHostFailed(f"the picture is larger than {limit} bytes")
        return bytes(body)


def _redirect_target(url: httpx.URL, response: httpx.Response) -> str:
    location = response.headers.get("location", "")
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, UnicodeError):
        raise UrlRefused(f"{_host(url)} redirects to something that is not a URL") from None
