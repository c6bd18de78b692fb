"""What strangers throw at a bridge: each gets the right 4xx, nothing leaks, and the server lives on."""

import base64
import json
import re
import socket
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hostile_images import IMAGES, ODD_IMAGES, PNG, Build, zeros
from running_bridge import TOY, UNTRAINED, RunningBridge, start

KEY = "correct-horse-battery-staple"
METRIC = "/metric_depth?max_depth=1"
# Traces of a program: paths, tracebacks, reprs, and the names of what it is made of.
LEAK = re.compile(
    rb"Traceback|File \"|\.py\b|site-packages|/usr/|/home/|/root/|/tmp/|/opt/|0x[0-9a-f]{6,}| object at |<class "
    rb"|\w+(Error|Exception)\b|pydantic|starlette|fastapi|uvicorn|cv2|OpenCV|torch|numpy|errno|input_value|untrained|"
    + re.escape(str(Path(__file__).parents[3])).encode(),
    re.IGNORECASE,
)


@pytest.fixture
def open_port(running_bridge: RunningBridge) -> int:
    """Port of a bridge without a key."""
    return running_bridge.port


@pytest.fixture(scope="module")
def locked_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge with a key: after all that, it works, its worker never died, and its log does not have the key."""
    log = tmp_path_factory.mktemp("locked") / "log"
    running = start(log, *TOY, *UNTRAINED, "--host=127.0.0.1", env={"DEPTH_BRIDGE_API_KEY": KEY})
    yield running
    bearer = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "image/png")]
    assert exchange(running.port, message(body=PNG, headers=bearer)).status == 200
    assert len(running.workers()) == 1
    assert running.end() == 0
    assert KEY not in log.read_text()


@pytest.fixture
def locked_port(locked_bridge: RunningBridge) -> int:
    return locked_bridge.port


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, request: bytes) -> Reply:
    """Send bytes as they are, read one answer. A server may answer, and close, before it was sent all."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass
        response = HTTPResponse(connection)
        response.begin()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def message(
    method: str = "POST",
    path: str = METRIC,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """An HTTP request; Host, Content-Length and Connection are added where they are not given."""
    given = {name.lower() for name, _ in headers}
    added = [("Host", "bridge"), ("Content-Length", str(len(body))), ("Connection", "close")]
    lines = [*headers, *((name, value) for name, value in added if name.lower() not in given)]
    if "transfer-encoding" in given:
        lines = [(name, value) for name, value in lines if name != "Content-Length" or name in dict(headers)]
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("latin-1") + body


def picture_body(data: bytes, path: str = METRIC, content_type: str = "image/png") -> bytes:
    return message(path=path, body=data, headers=[("Content-Type", content_type)])


def json_text(text: bytes, path: str = "/metric_depth") -> bytes:
    return message(path=path, body=text, headers=[("Content-Type", "application/json")])


def json_body(path: str = "/metric_depth", **fields: Any) -> bytes:
    """A good request with some fields replaced; a field set to `...` is left out."""
    good: dict[str, Any] = {"image": base64.b64encode(PNG).decode(), "max_depth": 1.0}
    if path == "/pc":
        good["camera_intrinsics"] = {"fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0}
    return json_text(json.dumps({k: v for k, v in (good | fields).items() if v is not ...}).encode(), path)


def lens_body(model: str, d: list[Any]) -> bytes:
    intrinsics = {"fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0, "distortion_model": model, "d": d}
    return json_body("/pc", camera_intrinsics=intrinsics)


def lens_text(number: bytes) -> bytes:
    return b'{"image": "AAAA", "camera_intrinsics": {"fx": 1, "fy": 1, "cx": 1, "cy": 1, "d": [' + number + b"]}}"


def url_body(url: Any) -> bytes:
    return json_body(image=..., image_url=url)


# Bodies.

DEEP = b'{"a":' * 1000 + b"1" + b"}" * 1000
BODIES: dict[str, tuple[int, Build]] = {
    "no JSON": (400, lambda: json_text(b"")),
    "half a JSON": (400, lambda: json_text(b'{"image":')),
    "a list": (400, lambda: json_text(b"[]")),
    "null": (400, lambda: json_text(b"null")),
    "a number": (400, lambda: json_text(b"7")),
    "not UTF-8": (400, lambda: json_text(b'{"image": "\xff\xfe"}')),
    "lone surrogate": (400, lambda: json_text(b'{"image": "\\ud800", "max_depth": 1}')),
    "NaN": (400, lambda: json_text(b'{"image": "AAAA", "max_depth": NaN}')),
    "Infinity": (400, lambda: json_text(b'{"image": "AAAA", "max_depth": -Infinity}')),
    "1e999": (422, lambda: json_text(b'{"image": "AAAA", "max_depth": 1e999}')),
    "5000 digits": (400, lambda: json_text(b'{"image": "AAAA", "max_depth": ' + b"9" * 5000 + b"}")),
    "400 digits": (422, lambda: json_text(b'{"image": "AAAA", "max_depth": ' + b"9" * 400 + b"}")),
    "1000 deep": (400, lambda: json_text(DEEP)),
    "1000 deep lists": (400, lambda: json_text(b"[" * 1000 + b"]" * 1000)),
    "101 deep": (400, lambda: json_text(b'{"a":' * 101 + b"1" + b"}" * 101)),
    "a million deep": (400, lambda: json_text(b"[" * 1_000_000)),
    "a million values": (400, lambda: json_text(b'{"a": [' + b"0," * 1_000_000 + b"0]}")),
    "one name twice": (400, lambda: json_text(b'{"image": "AAAA", "max_depth": 1, "max_depth": 2}')),
    "no image": (400, lambda: json_body(image=...)),
    "two images": (400, lambda: json_body(image_url="http://photos.example/a.png")),
    "image null": (400, lambda: json_body(image=None)),
    "image a number": (422, lambda: json_body(image=5)),
    "image a list": (422, lambda: json_body(image=["AAAA"])),
    "image an object": (422, lambda: json_body(image={"$ref": "file:///etc/passwd"})),
    "image empty": (422, lambda: json_body(image="")),
    "image not base64": (400, lambda: json_body(image="!!!!")),
    "image cut base64": (400, lambda: json_body(image="AAAAA")),
    "image url-safe base64": (422, lambda: json_body(image="-_-_")),
    "image a path": (400, lambda: json_body(image="../../../../etc/passwd")),
    "image full-width": (400, lambda: json_body(image="ＡＡＡＡ")),
    "data: of text": (422, lambda: json_body(image="data:text/html;base64,PGh0bWw+")),
    "data: without base64": (400, lambda: json_body(image="data:image/png,AAAA")),
    "data: without a comma": (400, lambda: json_body(image="data:image/png;base64")),
    "max_depth a string": (422, lambda: json_body(max_depth="1")),
    "max_depth true": (422, lambda: json_body(max_depth=True)),
    "max_depth a list": (422, lambda: json_body(max_depth=[1])),
    "max_depth 0": (422, lambda: json_body(max_depth=0)),
    "max_depth -1": (422, lambda: json_body(max_depth=-1)),
    "max_depth 1000.1": (422, lambda: json_body(max_depth=1000.1)),
    "dataset ../../x": (422, lambda: json_body(dataset="../../x")),
    "dataset relative": (422, lambda: json_body(dataset="relative")),
    "dataset with a zero byte": (422, lambda: json_body(dataset="hypersim\x00")),
    "dataset a number": (422, lambda: json_body(dataset=1)),
    "encoder unknown": (422, lambda: json_body(encoder="vitg")),
    "encoder empty": (422, lambda: json_body(encoder="")),
    "encoder of code": (422, lambda: json_body(encoder="__import__('os').system('id')")),
    "encoder of 1 MB": (422, lambda: json_body(encoder="v" * 1_000_000)),
    "encoder an object": (422, lambda: json_body(encoder={"__class__": "x"})),
    "input size 0": (422, lambda: json_body(model_input_size=0)),
    "input size -14": (422, lambda: json_body(model_input_size=-14)),
    "input size 55": (422, lambda: json_body(model_input_size=55)),
    "input size 1037": (422, lambda: json_body(model_input_size=1037)),
    "input size 10^30": (422, lambda: json_body(model_input_size=10**30)),
    "input size 56.5": (422, lambda: json_body(model_input_size=56.5)),
    "input size a string": (422, lambda: json_body(model_input_size="56")),
    "too many tokens": (422, lambda: picture_body(zeros(800, 100), f"{METRIC}&model_input_size=1036")),
    "png_scale 0": (422, lambda: json_body(png_scale=0)),
    "cloud without a camera": (400, lambda: json_body("/pc", camera_intrinsics=...)),
    "camera without cy": (400, lambda: json_body("/pc", camera_intrinsics={"fx": 1, "fy": 1, "cx": 1})),
    "camera a list": (422, lambda: json_body("/pc", camera_intrinsics=[1, 1, 1, 1])),
    "camera null": (400, lambda: json_body("/pc", camera_intrinsics=None)),
    "fx 0": (422, lambda: json_body("/pc", camera_intrinsics={"fx": 0, "fy": 1, "cx": 1, "cy": 1})),
    "fy -1": (422, lambda: json_body("/pc", camera_intrinsics={"fx": 1, "fy": -1, "cx": 1, "cy": 1})),
    "cx a string": (422, lambda: json_body("/pc", camera_intrinsics={"fx": 1, "fy": 1, "cx": "1", "cy": 1})),
    "cx 1e999": (
        422,
        lambda: json_text(
            b'{"image": "AAAA", "max_depth": 1, "camera_intrinsics": {"fx": 1, "fy": 1, "cx": 1e999, "cy": 1}}', "/pc"
        ),
    ),
    "query and body differ": (422, lambda: json_body("/metric_depth?max_depth=2")),
    "query max_depth empty": (422, lambda: picture_body(PNG, "/metric_depth?max_depth=")),
    "query max_depth=nan": (422, lambda: picture_body(PNG, "/metric_depth?max_depth=nan")),
    "query max_depth=inf": (422, lambda: picture_body(PNG, "/metric_depth?max_depth=inf")),
    "query max_depth=%00": (422, lambda: picture_body(PNG, "/metric_depth?max_depth=%00")),
    "query max_depth=%ff": (422, lambda: picture_body(PNG, "/metric_depth?max_depth=%ff")),
    "query max_depth twice": (400, lambda: picture_body(PNG, "/metric_depth?max_depth=1&max_depth=2")),
    "query dataset=../../x": (422, lambda: picture_body(PNG, f"{METRIC}&dataset=..%2f..%2fx")),
    "query without fx": (400, lambda: picture_body(PNG, "/pc?max_depth=1&fy=1&cx=1&cy=1")),
    "over 32 MiB": (413, lambda: message(body=bytes(2**25 + 1), headers=[("Content-Type", "image/png")])),
    "over 32 MiB announced": (
        413,
        lambda: message(headers=[("Content-Length", str(10**15)), ("Content-Type", "image/png")]),
    ),
    "over 32 MiB in chunks": (
        413,
        lambda: message(
            body=(b"100000\r\n" + bytes(2**20) + b"\r\n") * 33 + b"0\r\n\r\n",
            headers=[("Transfer-Encoding", "chunked"), ("Content-Type", "image/png")],
        ),
    ),
    "gzip": (
        415,
        lambda: message(body=b"\x1f\x8b", headers=[("Content-Type", "image/png"), ("Content-Encoding", "gzip")]),
    ),
    "multipart, 10k parts": (400, lambda: form(b"".join(part(b"f%d" % i, b"x") for i in range(10_000)))),
    "multipart, 10k files": (400, lambda: form(b"".join(part(b"image", PNG[:9], b"a.png") for _ in range(10_000)))),
    "multipart without a boundary": (
        400,
        lambda: message(body=b"x", headers=[("Content-Type", "multipart/form-data")]),
    ),
    "multipart cut": (400, lambda: message(body=part(b"image", PNG, b"a.png")[:99], headers=[("Content-Type", FORM)])),
    "multipart without an image": (400, lambda: form(part(b"max_depth", b"1"))),
    "multipart, image as text": (422, lambda: form(part(b"image", b"AAAA") + part(b"max_depth", b"1"))),
    "multipart, two files": (400, lambda: form(part(b"image", PNG, b"a.png") + part(b"mask", PNG, b"a.png"))),
    "multipart, a file and text": (400, lambda: form(part(b"image", PNG, b"a.png") + part(b"image", b"AAAA"))),
    "two kinds of answer": (400, lambda: json_text(b'[{"image": "AAAA"}, 7]')),
    "a list of lists": (400, lambda: json_text(b"[[]]")),
    "17 images": (400, lambda: json_text(b"[" + b",".join([b"{}"] * 17) + b"]")),
    "unknown option": (422, lambda: json_body(maxdepth=1)),
    "unknown option of 1 MB": (422, lambda: json_text(b'{"image": "AAAA", "' + b"x" * 10**6 + b'": 1}')),
    "unknown option of code": (422, lambda: json_text(b'{"image": "AAAA", "<script>": 1}')),
    "unknown option of the camera": (
        422,
        lambda: json_body("/pc", camera_intrinsics={"fx": 1, "fy": 1, "cx": 1, "cy": 1, "k1": 0}),
    ),
    "lens of another name": (422, lambda: lens_body("__class__", [1.0])),
    "lens with NaN": (422, lambda: json_text(lens_text(b"1e999"), "/pc")),
    "lens of 100 numbers": (422, lambda: lens_body("plumb_bob", [0.1] * 100)),
    "lens of text": (422, lambda: lens_body("plumb_bob", ["a"])),
    "fov_deg 180": (422, lambda: json_body("/pc", camera_intrinsics=..., fov_deg=180)),
    "focal_px 0": (422, lambda: json_body("/pc", camera_intrinsics=..., focal_px=0)),
    "two cameras": (422, lambda: json_body("/pc", fov_deg=60)),
    "multipart, file ../../x": (422, lambda: form(part(b"image", b"x", b"../../x") + part(b"max_depth", b"1"))),
    "multipart, field of 1 MB": (400, lambda: form(part(b"image", PNG, b"a.png") + part(b"max_depth", b"1" * 10**6))),
    "multipart, header of 1 MB": (400, lambda: form(part(b"i" * 10**6, PNG, b"a.png"))),
    "multipart, name not UTF-8": (400, lambda: form(part(b"\xff", b"1") + part(b"image", PNG, b"a.png"))),
}
FORM = "multipart/form-data; boundary=cut"


def part(name: bytes, data: bytes, file: bytes | None = None) -> bytes:
    suffix = b"" if file is None else b'; filename="' + file + b'"\r\nContent-Type: image/png'
    return b'--cut\r\nContent-Disposition: form-data; name="' + name + b'"' + suffix + b"\r\n\r\n" + data + b"\r\n"


def form(parts: bytes) -> bytes:
    return message(path="/metric_depth", body=parts + b"--cut--\r\n", headers=[("Content-Type", FORM)])


ACCEPTS = {
    "text/html": 406,
    "nonsense": 406,
    "image/png;q=0": 406,
    "*/*;q=0": 406,
    "application/x-ply": 406,  # depth has no cloud format
    ", , ;q=": 406,
    "text/html," * 1000: 406,
}
CONTENT_TYPES = [
    "image/gif",
    "image/svg+xml",
    "text/plain",
    "application/x-www-form-urlencoded",
    "x" * 5000,
    "image",
]
HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.0.1.",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "１２７.0.0.1",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a00:1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[fc00::1]",
    "[ff02::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "user@127.0.0.1",
    "example.org@127.0.0.1",
    "example.org\\@127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "127.0.0.1:22",
    "127.0.0.1:8000",
]
URLS = [
    *(f"http://{host}/latest/meta-data/" for host in HOSTS),
    "https://127.0.0.1/",
    "//127.0.0.1/a.png",
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.png",
    "gopher://127.0.0.1:6379/_INFO",
    "http://",
    "http:127.0.0.1",
    "nonsense",
    "",
    "http://127.0.0.1\r\nX: y/",
    "\x00",
]
PATHS = [
    "//pc",
    "/pc/",
    "/PC",
    "/pc%2f",
    "/pc%00",
    "/./pc",
    "/health/../pc",
    "/pc;x=1",
    "/pc//",
    "/%70c/.",
    "/pc/../docs/x",
]
AUTHORIZATIONS: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "Basic": [("Authorization", "Basic " + base64.b64encode(f"user:{KEY}".encode()).decode())],
    "empty": [("Authorization", "")],
    "Bearer alone": [("Authorization", "Bearer")],
    "Bearer and a space": [("Authorization", "Bearer ")],
    "wrong": [("Authorization", "Bearer wrong")],
    "half": [("Authorization", f"Bearer {KEY[:-1]}")],
    "longer": [("Authorization", f"Bearer {KEY}x")],
    "upper case": [("Authorization", f"Bearer {KEY.upper()}")],
    "without a scheme": [("Authorization", KEY)],
    "two words": [("Authorization", f"Bearer {KEY} {KEY}")],
    "a list": [("Authorization", f"Bearer wrong, Bearer {KEY}")],
    "two headers": [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer wrong")],
    "twice the same": [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    "non-ASCII": [("Authorization", "Bearer \xe9\xff\xa0")],
    "a megabyte": [("Authorization", "Bearer " + "x" * 60_000)],
    "another header": [("X-Api-Key", KEY)],
    "a cookie": [("Cookie", f"api_key={KEY}")],
}
# Below HTTP: the server's parser answers, in its own words; (statuses it may choose from).
RAW: dict[str, Build] = {
    "noise": lambda: np.random.default_rng(1).bytes(2000) + b"\r\n\r\n",
    "TLS hello": lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "HTTP/2 preface": lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": lambda: b"GET /health HTTP/1.1\r\n\r\n",
    "a space in the path": lambda: b"GET /health x HTTP/1.1\r\nHost: bridge\r\n\r\n",
    "a header without a name": lambda: b"GET /health HTTP/1.1\r\nHost: bridge\r\n: x\r\n\r\n",
    "a folded header": lambda: b"GET /health HTTP/1.1\r\nHost: bridge\r\nX : y\r\n\r\n",
    "length of letters": lambda: message(headers=[("Content-Length", "abc")]),
    "length -1": lambda: message(headers=[("Content-Length", "-1")]),
    "two lengths": lambda: message(headers=[("Content-Length", "1"), ("Content-Length", "2")], body=b"xx"),
    "an unknown transfer coding": lambda: message(headers=[("Transfer-Encoding", "gzip, chunked")]),
    "a chunk of letters": lambda: message(headers=[("Transfer-Encoding", "chunked")], body=b"zz\r\n\r\n"),
    "a header of 1 MB": lambda: message(headers=[("X", "x" * 2**20)]),
    "10,000 headers": lambda: message(headers=[(f"X{i}", "x" * 20) for i in range(10_000)]),
    "a path of 1 MB": lambda: message(path="/" + "a" * 2**20),
}


def cases(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)), id=name) for name, value in table.items()]


def assert_refused(reply: Reply, status: int) -> None:
    """The status, the body every error has, and nothing of the server's inside in it."""
    assert reply.status == status, reply
    assert not LEAK.search(reply.body), reply.body
    body = json.loads(reply.body)
    assert body["detail"] == body["error"]["message"]
    assert set(body["error"]) == {"message", "type", "code", "param", "request_id"}
    assert body["error"]["request_id"] == reply.headers["x-request-id"]
    assert len(reply.body) < 1000


@pytest.mark.parametrize("build", cases(IMAGES))
def test_a_hostile_image_is_refused(open_port: int, build: Build) -> None:
    data = build()
    assert_refused(exchange(open_port, picture_body(data)), 422)
    assert_refused(exchange(open_port, json_body(image=base64.b64encode(data).decode())), 422)


@pytest.mark.parametrize(("build", "shape"), cases(ODD_IMAGES))
def test_an_unusual_image_is_answered_on_its_stored_grid(open_port: int, build: Build, shape: tuple[int, int]) -> None:
    reply = exchange(open_port, picture_body(build()))
    assert reply.status == 200, reply
    assert tuple(json.loads(reply.body)["shape"]) == shape


@pytest.mark.parametrize(("status", "build"), cases(BODIES))
def test_a_hostile_body_is_refused(open_port: int, status: int, build: Build) -> None:
    assert_refused(exchange(open_port, build()), status)


@pytest.mark.parametrize("accept", ACCEPTS)
def test_an_answer_that_cannot_be_made_is_refused(open_port: int, accept: str) -> None:
    request = message(body=PNG, headers=[("Content-Type", "image/png"), ("Accept", accept)])
    assert_refused(exchange(open_port, request), 406)


def test_a_depth_that_does_not_fit_into_a_png_is_refused(open_port: int) -> None:
    headers = [("Content-Type", "image/png"), ("Accept", "image/png")]
    for query in ("max_depth=66", "max_depth=1&png_scale=65536"):
        assert_refused(exchange(open_port, message(path=f"/metric_depth?{query}", body=PNG, headers=headers)), 422)


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_a_body_of_another_type_is_refused(open_port: int, content_type: str) -> None:
    assert_refused(exchange(open_port, picture_body(PNG, content_type=content_type)), 415)


@pytest.mark.parametrize("url", URLS)
def test_an_image_url_into_this_network_is_refused(open_port: int, url: str) -> None:
    assert_refused(exchange(open_port, url_body(url)), 403)


@pytest.mark.parametrize("url", [5, [], {"url": "http://127.0.0.1/"}, True, "http://127.0.0.1/" + "a" * 100_000])
def test_an_image_url_of_another_type_or_length_is_refused(open_port: int, url: Any) -> None:
    assert_refused(exchange(open_port, url_body(url)), 422)


@pytest.mark.parametrize("headers", cases(AUTHORIZATIONS))
def test_without_the_key_nothing_but_health_is_told(locked_port: int, headers: list[tuple[str, str]]) -> None:
    for method, path in (("POST", "/pc"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/metrics")):
        reply = exchange(locked_port, message(method, path, PNG, headers))
        assert_refused(reply, 401)
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert KEY.encode() not in reply.body
    assert exchange(locked_port, message("GET", "/health", headers=headers)).status == 200


@pytest.mark.parametrize("path", [*PATHS, f"/pc?api_key={KEY}", f"/pc?authorization=Bearer%20{KEY}"])
def test_no_spelling_of_a_path_goes_round_the_key(locked_port: int, path: str) -> None:
    assert_refused(exchange(locked_port, message(path=path, body=PNG)), 401)


@pytest.mark.parametrize(
    "path", [*PATHS, "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/static/x", "/" + "a" * 5000]
)
def test_a_path_that_does_not_exist_is_not_found(open_port: int, path: str) -> None:
    assert_refused(exchange(open_port, message(path=path, body=PNG)), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"])
def test_another_method_is_refused(open_port: int, method: str) -> None:
    reply = exchange(open_port, message(method, "/pc"))
    assert_refused(reply, 405)
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("build", cases(RAW))
def test_what_is_hardly_http_is_refused(open_port: int, build: Build) -> None:
    try:
        reply = exchange(open_port, build())
    except (HTTPException, ConnectionResetError):
        return  # closed without a word, which tells nothing
    assert 400 <= reply.status < 500
    assert not LEAK.search(reply.body), reply.body


@pytest.mark.parametrize("request_id", ["x" * 1000, "<script>", "a b", "\xe9", "../../x", "%0d%0a", "a;b", ""])
def test_a_request_id_that_is_not_plain_is_not_repeated(open_port: int, request_id: str) -> None:
    reply = exchange(open_port, message("GET", "/nowhere", headers=[("X-Request-Id", request_id)]))
    assert_refused(reply, 404)
    assert reply.headers["x-request-id"] != request_id
