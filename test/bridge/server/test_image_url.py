"""The image fetcher's guard. Every connection here is to loopback, or recorded instead of made."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpx
import pytest

from bridge.server.addresses import AllowEntry, embedded_ipv4, is_blocked
from bridge.server.image_url import ImageFetcher, ImageHostFailed, ImageUrlSettings, UrlRefused, parse_url, resolve
from depth_anything_ros.errors import SettingsError

PICTURE = b"\x89PNG and so on"
Reply = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

BLOCKED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"],
    "link-local": ["169.254.0.1", "fe80::1", "febf::1", "fe80::1%1"],
    "site-local": ["fec0::1", "feff::1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.255"],
    "cloud metadata": [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    ],
    "multicast and broadcast": ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "192.0.0.1", "192.88.99.1", "192.52.193.1", "100::1", "1000::1", "4000::1", "8000::1"],
    "documentation and benchmarks": [
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "2001:db8::1",
        "3fff::1",
    ],
    "IPv4 in IPv6": [
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:10.0.0.1",
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "fe80::5efe:10.0.0.1",
    ],
}
PUBLIC = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.255"]
PUBLIC_V6 = ["2001:4860:4860::8888", "2606:4700::1111", "2a00:1450:4001::1", "3ffe::1"]


async def no_resolver(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} must not be looked up")


def resolver(**addresses: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    async def look_up(host: str, port: int) -> list[str]:
        return addresses[host.partition(".")[0]]

    return look_up


class Recorder(httpx.AsyncBaseTransport):
    """Stands where packets would leave the machine: records each request and answers it."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else picture()
        if isinstance(reply, Exception):
            raise reply
        return reply

    @property
    def dialled(self) -> list[tuple[str, int | None]]:
        return [(request.url.host, request.url.port) for request in self.requests]


class Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield PICTURE


def picture() -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "image/png"}, stream=Body())


def redirect(location: str, status: int = 302) -> httpx.Response:
    return httpx.Response(status, headers={b"location": location.encode()}, stream=Body())


def fetch(
    url: str,
    recorder: httpx.AsyncBaseTransport | None = None,
    look_up: Callable[[str, int], Awaitable[list[str]]] = no_resolver,
    settings: ImageUrlSettings | None = None,
) -> bytes:
    async def run() -> bytes:
        fetcher = ImageFetcher(settings or ImageUrlSettings(), look_up, recorder or Recorder())
        try:
            return await fetcher.fetch(url)
        finally:
            await fetcher.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("address", [address for group in BLOCKED.values() for address in group])
def test_a_url_to_a_blocked_address_is_refused_and_nothing_is_dialled(address: str) -> None:
    recorder = Recorder()
    assert is_blocked(ip_address(address))
    with pytest.raises(UrlRefused):
        fetch("http://camera.example/", recorder, resolver(camera=[address]))
    if "%" not in address:
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(UrlRefused):
            fetch(f"http://{host}/", recorder)
    assert recorder.dialled == []


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_V6)
def test_a_public_address_is_fetched(address: str) -> None:
    recorder = Recorder()
    assert fetch("https://photos.example/a.png", recorder, resolver(photos=[address])) == PICTURE
    assert recorder.dialled == [(address, None)]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photo.png",
        "//example.org/photo.png",
        "http:example.org",
        "http:///photo.png",
        "file:///etc/passwd",
        "ftp://example.org/a.png",
        "gopher://example.org/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "http://user@example.org/",
        "http://user:password@example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://127.0.0.1\\.example.org/",
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://example.org./",
        "http://1.2.3.4.5/",
        "http://999.1.1.1/",
        "http://example.0x7f/",
        "http://１２７.０.０.１/",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http://exa%6dple.org/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[2606:4700::1111%25eth0]/",
        "http://[2606:4700::1111%eth0]/",
        "http://[::1/",
        "http://[1.2.3.4]/",
        "http://[::ffff:300.0.0.1]/",
        "http://exam ple.org/",
        "http://example.org/a b",
        "http://example.org/фото.png",
        "http://example.org/\r\nX-Injected: 1",
        "http://example.org/\x00",
        "http://example.org:0/",
        "http://example.org:65536/",
        "http://example.org:80:80/",
        "http://example.org:http/",
        "http://-example.org/",
        "http://exa..mple.org/",
        "http://.example.org/",
        "http://xn--/",
        "http://" + "a" * 64 + ".org/",
        "http://" + "a." * 127 + "org/",
        "http://example.org/" + "a" * 100_000,
    ],
)
def test_a_url_that_is_not_plain_is_refused_before_anything_is_looked_up(url: str) -> None:
    recorder = Recorder()
    with pytest.raises(UrlRefused) as refusal:
        fetch(url, recorder)
    assert recorder.dialled == []
    assert "password" not in str(refusal.value)


@pytest.mark.parametrize("port", [1, 22, 25, 8080, 8443, 65535])
def test_ports_other_than_80_and_443_are_refused(port: int) -> None:
    with pytest.raises(UrlRefused):
        fetch(f"http://photos.example:{port}/", look_up=resolver(photos=["8.8.8.8"]))


def test_one_blocked_address_among_public_ones_refuses_the_host() -> None:
    recorder = Recorder()
    for addresses in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::1"]):
        with pytest.raises(UrlRefused):
            fetch("http://photos.example/", recorder, resolver(photos=addresses))
    assert recorder.dialled == []


def test_the_connection_is_pinned_to_the_checked_address_even_if_the_name_changes_its_answer() -> None:
    answers = [["8.8.8.8"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    recorder = Recorder()
    fetch("https://photos.example/a.png?token=1", recorder, rebinding)
    assert recorder.dialled == [("8.8.8.8", None)]
    assert answers == [["127.0.0.1"]]  # looked up once
    request = recorder.requests[0]
    assert request.headers["host"] == "photos.example"
    assert request.extensions["sni_hostname"] == "photos.example"
    assert request.url.raw_path == b"/a.png?token=1"
    assert request.headers["accept-encoding"] == "identity"


def test_the_next_checked_address_is_tried_when_one_does_not_answer() -> None:
    recorder = Recorder(httpx.ConnectError("unreachable"), httpx.ConnectTimeout("silent"))
    assert fetch("http://photos.example/", recorder, resolver(photos=["2606:4700::1111", "8.8.8.8", "1.1.1.1"]))
    assert [host for host, _ in recorder.dialled] == ["2606:4700::1111", "8.8.8.8", "1.1.1.1"]


def test_each_redirect_is_checked_again() -> None:
    names = resolver(photos=["8.8.8.8"], cdn=["1.1.1.1"], intern=["10.0.0.1"])
    recorder = Recorder(redirect("https://cdn.example/b.png"), redirect("/c.png", 307))
    assert fetch("http://photos.example/", recorder, names) == PICTURE
    assert [(r.headers["host"], r.url.path) for r in recorder.requests][1:] == [
        ("cdn.example", "/b.png"),
        ("cdn.example", "/c.png"),
    ]
    for target in (
        "http://intern.example/",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "//[::1]/",
        "http://2130706433/",
        "http://１２７.０.０.１/",
        "file:///etc/passwd",
        "http://user@photos.example/",
        "http://photos.example:22/",
        "http://[",
    ):
        recorder = Recorder(redirect(target))
        with pytest.raises(UrlRefused):
            fetch("http://photos.example/", recorder, names)
        assert len(recorder.requests) == 1


def test_more_than_three_redirects_fail() -> None:
    names = resolver(photos=["8.8.8.8"])
    recorder = Recorder(*[redirect("/again") for _ in range(3)])
    assert fetch("http://photos.example/", recorder, names) == PICTURE
    with pytest.raises(ImageHostFailed, match="3 redirects"):
        fetch("http://photos.example/", Recorder(*[redirect("/again") for _ in range(4)]), names)


def test_a_cookie_is_not_carried_to_the_next_hop() -> None:
    first = httpx.Response(302, headers={"location": "/b", "set-cookie": "a=1; Path=/"}, stream=Body())
    recorder = Recorder(first)
    fetch("http://photos.example/", recorder, resolver(photos=["8.8.8.8"]))
    assert "cookie" not in recorder.requests[1].headers


def test_switched_off_refuses_everything() -> None:
    with pytest.raises(UrlRefused, match="switched off"):
        fetch("http://8.8.8.8/a.png", settings=ImageUrlSettings(enabled=False))


@pytest.mark.parametrize(
    ("allow", "url", "address", "reached"),
    [
        ("camera.test", "http://camera.test/", "10.0.0.5", True),
        ("camera.test", "http://CAMERA.test/", "10.0.0.5", True),
        ("camera.test", "https://camera.test/", "10.0.0.5", True),
        ("camera.test", "http://camera.test:8080/", "10.0.0.5", False),
        ("camera.test", "http://other.test/", "10.0.0.5", False),
        ("camera.test:8080", "http://camera.test:8080/", "10.0.0.5", True),
        ("camera.test:8080", "http://camera.test/", "10.0.0.5", False),
        ("10.0.0.0/8", "http://camera.test/", "10.0.0.5", True),
        ("10.0.0.0/8", "http://camera.test/", "192.168.0.5", False),
        ("10.0.0.0/8:8080", "http://camera.test:8080/", "10.0.0.5", True),
        ("10.0.0.5", "http://10.0.0.5/", None, True),
        ("10.0.0.5", "http://10.0.0.6/", None, False),
        ("10.0.0.5", "http://[::ffff:10.0.0.5]/", None, False),
        ("10.0.0.5:8080", "http://10.0.0.5:8080/", None, True),
        ("::1", "http://[::1]/", None, True),
        ("[fd00::1]:8080", "http://[fd00::1]:8080/", None, True),
        ("fd00::/8", "http://[fd00::1]/", None, True),
        ("0.0.0.0/0", "http://[::1]/", None, False),
        # allowing a translator's prefix opens what is public behind it, and nothing else
        ("64:ff9b::/96", "http://photos.test/", "64:ff9b::808:808", True),
        ("64:ff9b::/96", "http://photos.test/", "64:ff9b::7f00:1", False),
        ("::/0", "http://photos.test/", "::ffff:127.0.0.1", False),
        ("::/0", "http://photos.test/", "2002:a00:1::", False),
        ("::/0", "http://photos.test/", "2001:0:1::f5ff:fffe", False),
    ],
)
def test_an_allow_entry_opens_what_it_names_and_no_more(
    allow: str, url: str, address: str | None, reached: bool
) -> None:
    recorder = Recorder()
    names = resolver(camera=[address or ""], other=[address or ""], photos=[address or ""])
    settings = ImageUrlSettings(allow=(allow,))
    if reached:
        assert fetch(url, recorder, names, settings) == PICTURE
    else:
        with pytest.raises(UrlRefused):
            fetch(url, recorder, names, settings)
    assert bool(recorder.dialled) == reached


@pytest.mark.parametrize("entry", ["", "*", "10.0.0.1/8", "host/8", "http://camera", "camera:99999", "camera:", "a b"])
def test_an_allow_entry_that_cannot_be_read_is_named_when_the_fetcher_is_made(entry: str) -> None:
    with pytest.raises(SettingsError, match="image_url_allow"):
        ImageFetcher(ImageUrlSettings(allow=(entry,)), no_resolver, Recorder())


def test_an_embedded_ipv4_address_is_found() -> None:
    for text in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:1::f5ff:fffe", "::ffff:0:a00:1"):
        assert embedded_ipv4(ip_address(text)) == ip_address("10.0.0.1")
    assert embedded_ipv4(ip_address("2606:4700::1111")) is None
    assert embedded_ipv4(ip_address("10.0.0.1")) is None


def test_the_system_resolver_gives_addresses_as_text() -> None:
    assert set(asyncio.run(resolve("127.0.0.1", 80))) == {"127.0.0.1"}
    with pytest.raises(ImageHostFailed, match="resolved"):
        fetch("http://photos.example/", look_up=_fails)
    with pytest.raises(ImageHostFailed, match="no address"):
        fetch("http://photos.example/", look_up=resolver(photos=[]))


def test_a_host_in_bad_punycode_is_a_name_like_any_other() -> None:
    recorder = Recorder(httpx.ConnectError("refused"))
    with pytest.raises(ImageHostFailed, match="xn--a"):
        fetch("http://xn--a.example/", recorder, resolver(**{"xn--a": ["8.8.8.8"]}))
    with pytest.raises(UrlRefused, match="xn--a"):
        fetch("http://xn--a.example/", recorder, resolver(**{"xn--a": ["10.0.0.1"]}))


async def _fails(host: str, port: int) -> list[str]:
    raise OSError("no such host")


def test_a_parsed_url_keeps_its_host_and_port() -> None:
    url = parse_url("HTTPS://Photos.Example:8443/a?b=c#d")
    assert (url.scheme, url.host, url.port, url.raw_path) == ("https", "photos.example", 8443, b"/a?b=c")
    assert AllowEntry.parse("photos.example:8443").matches("photos.example", ip_address("10.0.0.1"), 8443)


# From here on real sockets, to a host on loopback that an allow entry opens.


@asynccontextmanager
async def image_host(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve one request a connection with `reply(head, writer)`; yields the port."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        try:
            await reply((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"), writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the fetcher went away: just what most of these tests want
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def fetch_from_loopback(
    reply: Reply, scheme: str = "http", tls: ssl.SSLContext | None = None, **limits: float
) -> bytes:
    async def run() -> bytes:
        async with image_host(reply, tls) as port:
            settings = ImageUrlSettings(allow=(f"camera.test:{port}",), **limits)  # type: ignore[arg-type]
            fetcher = ImageFetcher(settings, resolver(camera=["127.0.0.1"]))
            try:
                return await fetcher.fetch(f"{scheme}://camera.test:{port}/photo.png?key=secret")
            finally:
                await fetcher.aclose()

    return asyncio.run(run())


def answer(body: bytes = PICTURE, status: str = "200 OK", **headers: str) -> Reply:
    async def reply(head: str, writer: asyncio.StreamWriter) -> None:
        lines = {"content-type": "image/png", "content-length": str(len(body))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
        writer.write(f"HTTP/1.1 {status}\r\n{text}\r\n".encode("latin-1") + body)

    return reply


def test_a_picture_is_fetched_over_a_socket_in_the_name_of_its_host() -> None:
    heads: list[str] = []

    async def reply(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head.lower())
        await answer()(head, writer)

    assert fetch_from_loopback(reply) == PICTURE
    assert heads[0].startswith("get /photo.png?key=secret http/1.1")
    assert "host: camera.test:" in heads[0]
    assert "127.0.0.1" not in heads[0]


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nothing listens there
    assert fetch_from_loopback(answer()) == PICTURE


def test_tls_asks_for_the_name_of_the_url() -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has no certificate: the handshake ends after the name
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with pytest.raises(ImageHostFailed):
        fetch_from_loopback(answer(), "https", context)
    assert asked == ["camera.test"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(status="404 Not Found"), "404"),
        (answer(status="206 Partial Content"), "206"),
        (answer(status="302 Found"), "redirects"),  # without a location it leads back to itself
        (answer(content_type="text/html"), "other than an image"),
        (answer(content_type=""), "other than an image"),
        (answer(content_encoding="gzip"), "compressed"),
        (answer(content_length=str(21 * 2**20)), "larger"),
        (answer(b"x" * 2000, content_length=""), "larger"),
        (answer(content_length="10000000000000000000000000"), "broke off"),
        (answer(b"short", content_length="900"), "broke off"),
        (answer(status="banana"), "broke off"),
        (answer(x="y\r\n" * 200_000), "broke off"),
    ],
)
def test_a_host_that_sends_no_picture_of_allowed_size_fails(reply: Reply, reason: str) -> None:
    with pytest.raises(ImageHostFailed, match=reason) as failure:
        fetch_from_loopback(reply, max_bytes=1000)
    assert "secret" not in str(failure.value)


def test_an_endless_picture_is_cut_off_at_the_limit() -> None:
    sent = 0

    async def reply(head: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()
            sent += 0x10000

    with pytest.raises(ImageHostFailed, match="larger"):
        fetch_from_loopback(reply, max_bytes=2**20)
    assert sent < 16 * 2**20


def test_a_host_that_drips_or_stays_silent_is_left_after_the_total_timeout() -> None:
    async def drip(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def silent(head: str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    for reply in (drip, silent):
        with pytest.raises(ImageHostFailed, match=r"0\.3 s"):
            fetch_from_loopback(reply, total_timeout_s=0.3)


def test_a_resolver_that_hangs_is_left_after_the_total_timeout() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    with pytest.raises(ImageHostFailed, match=r"0\.1 s"):
        fetch("http://photos.example/", look_up=hang, settings=ImageUrlSettings(total_timeout_s=0.1))


def test_a_port_where_nobody_listens_fails() -> None:
    async def run() -> None:
        async with image_host(answer()) as port:
            pass  # closed again: the port is free and silent
        fetcher = ImageFetcher(ImageUrlSettings(allow=(f"camera.test:{port}",)), resolver(camera=["127.0.0.1"]))
        with pytest.raises(ImageHostFailed, match="does not accept"):
            await fetcher.fetch(f"http://camera.test:{port}/")
        await fetcher.aclose()

    asyncio.run(run())
