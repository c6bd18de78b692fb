"""The client: against answers made up here, a host on loopback, and a real bridge."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from running_bridge import RunningBridge, eventually

from bridge.client import AsyncDepthClient, BridgeError, DepthClient, RetryPolicy, load_server
from bridge.client.cli import HYPERSIM_MAX_DEPTH_M
from bridge.client.functions import (
    decode_depth_map,
    decode_pointcloud,
    encode_image,
    get_health,
    predict_metric_depth,
    predict_pointcloud,
    predict_relative_depth,
)
from bridge.codec import encode_depth_png16, encode_npy, encode_raw
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError, ImageError, InputError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.registry import dataset_spec
from depth_anything_ros.model.weights import UNTRAINED

ROOT = Path(__file__).parents[3]
FAST = RetryPolicy(base_s=0.001)
DEPTH = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
JPEG = bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1])
INTRINSICS = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}
Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Open a client, call one method, close it: `ask(method, *arguments, client={...}, **options)`."""

    def with_client(method: str, *arguments: object, client: dict[str, Any], **options: object) -> Any:
        with DepthClient(**client) as opened:
            return getattr(opened, method)(*arguments, **options)

    def with_async_client(method: str, *arguments: object, client: dict[str, Any], **options: object) -> Any:
        async def run() -> Any:
            async with AsyncDepthClient(**client) as opened:
                return await getattr(opened, method)(*arguments, **options)

        return asyncio.run(run())

    return with_client if request.param == "sync" else with_async_client


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


def as_png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def test_the_client_imports_and_runs_without_torch_ros_or_a_web_server() -> None:
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "rclpy", "sensor_msgs", "fastapi", "starlette", "uvicorn",
                                      "pydantic", "orjson", "safetensors", "huggingface_hub", "prometheus_client"}:
            raise ImportError("not installed here: " + name)
sys.meta_path.insert(0, Refuse())
import bridge.client
from bridge.client.cli import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--server" in done.stdout


@pytest.mark.parametrize("status", [429, 503])
def test_a_request_that_was_turned_away_is_sent_again(ask: Ask, status: int) -> None:
    answers = Answers(refusal(status), httpx.ConnectError("refused"), httpx.ReadError("reset"), good())
    depth = ask("metric_depth", as_png(np.zeros((2, 2, 3), np.uint8)), max_depth=5.0, client=answers.client())
    np.testing.assert_array_equal(depth.values, DEPTH)
    assert (depth.kind, depth.model_key) == ("metric", "toy_hypersim_56")
    assert len(answers.requests) == 4
    assert len({request.content for request in answers.requests}) == 1


def test_the_wait_the_server_asks_for_is_kept(ask: Ask) -> None:
    answers = Answers(refusal(503, **{"retry-after": "1"}), httpx.Response(200, json={"status": "ok"}))
    start = time.monotonic()
    assert ask("health", client=answers.client()) == {"status": "ok"}
    assert time.monotonic() - start >= 1.0


def test_a_server_that_never_has_time_is_given_up_with_its_own_words(ask: Ask) -> None:
    for answers, requests in ((Answers(refusal(503)), 4), (Answers(refusal(503, **{"retry-after": "600"})), 1)):
        with pytest.raises(BridgeError, match="503: try later") as failure:
            ask("health", client=answers.client())
        assert (failure.value.status, failure.value.code, failure.value.request_id) == (503, "queue_full", "abc-1")
        assert len(answers.requests) == requests


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422, 424, 500, 504])
def test_any_other_error_is_raised_at_once(ask: Ask, status: int) -> None:
    answers = Answers(refusal(status))
    with pytest.raises(BridgeError) as failure:
        ask("health", client=answers.client())
    assert failure.value.status == status
    assert len(answers.requests) == 1


@pytest.mark.parametrize(
    ("error", "requests"),
    [
        (httpx.ConnectError("refused"), 4),
        (httpx.ConnectTimeout("silent"), 4),
        (httpx.RemoteProtocolError("closed"), 4),
        (httpx.ReadTimeout("slow"), 1),  # the server may still be at work on it
    ],
)
def test_no_answer_is_an_error_without_a_status(ask: Ask, error: httpx.RequestError, requests: int) -> None:
    answers = Answers(error)
    client = answers.client() | {"base_url": "http://user:secret@bridge.test"}
    with pytest.raises(BridgeError, match=r"^no answer from http://bridge\.test/metric_depth: \w+$") as failure:
        ask("metric_depth", JPEG, max_depth=1.0, client=client)
    assert failure.value.status is None
    assert len(answers.requests) == requests


@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b"[]", b'"x"', b"null", b'{"error": 3}', b'{"error": {}}']
)
def test_an_error_that_is_not_from_a_bridge_keeps_its_status(ask: Ask, body: bytes) -> None:
    answers = Answers(httpx.Response(502, content=body))
    with pytest.raises(BridgeError, match="502") as failure:
        ask("health", client=answers.client())
    assert failure.value.status == 502


def test_an_answer_that_cannot_be_read_is_an_error(ask: Ask) -> None:
    image = as_png(np.zeros((2, 2, 3), np.uint8))
    for answer in (httpx.Response(200, content=b"no array"), httpx.Response(200, content=encode_npy(DEPTH))):
        with pytest.raises(BridgeError, match="cannot be read"):
            ask("metric_depth", image, max_depth=1.0, client=Answers(answer).client())


def test_waits_grow_are_random_and_end() -> None:
    policy = RetryPolicy(attempts=5, base_s=1.0)
    full = httpx.Response(503)
    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0)):
        waits = [policy.delay_s(attempt, full) for _ in range(200)]
        numbers = [wait for wait in waits if wait is not None]
        assert len(numbers) == 200
        assert max(numbers) <= longest
        assert max(numbers) > longest * 0.8
        assert min(numbers) < longest * 0.2
    assert policy.delay_s(5, full) is None
    assert RetryPolicy(attempts=1).delay_s(1, full) is None
    dated = httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert policy.delay_s(1, dated) is not None


def test_every_kind_of_image_is_sent_as_what_it_is(ask: Ask, tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    jpeg = bytes(cv2.imencode(".jpg", photo)[1])
    path = tmp_path / "photo.png"
    path.write_bytes(as_png(photo))
    answers = Answers(good())
    client = answers.client(model="vits_vkitti_518", api_key="k1")
    for image, kind in ((path, "png"), (str(path), "png"), (jpeg, "jpeg"), (photo, "png")):
        ask("metric_depth", image, max_depth=80.0, client=client)
        request = answers.requests[-1]
        assert request.headers["content-type"] == f"image/{kind}"
        assert request.headers["authorization"] == "Bearer k1"
        asked = {"max_depth": "80.0", "encoder": "vits", "dataset": "vkitti", "model_input_size": "518"}
        assert dict(request.url.params) == asked
    ask("relative_depth", "http://photos.test/a.jpg?key=1", client=client)
    assert json.loads(answers.requests[-1].content) == {
        "image_url": "http://photos.test/a.jpg?key=1",
        "encoder": "vits",
        "dataset": "relative",
        "model_input_size": 518,
    }


def test_a_camera_that_cannot_be_used_is_refused_and_named(ask: Ask) -> None:
    depth_png = encode_depth_png16(DEPTH)
    answers = Answers(httpx.Response(200, headers={"x-model-key": "toy_hypersim_56"}, content=depth_png))
    with pytest.raises(CameraError, match="fx=0"):
        ask("point_cloud", JPEG, {**INTRINSICS, "fx": 0}, max_depth=1.0, client=answers.client())
    with pytest.raises(KeyError, match="fy"):
        ask("point_cloud", JPEG, {"fx": 1.0}, max_depth=1.0, client=answers.client())
    assert answers.requests == []
    with pytest.raises(CameraError, match="64"):
        ask("point_cloud", JPEG, CameraModel(60.0, 61.0, 31.5, 23.5, 64, 48), max_depth=1.0, client=answers.client())


def test_what_is_no_image_is_refused_before_anything_is_sent(ask: Ask, tmp_path: Path) -> None:
    answers = Answers(good())
    with pytest.raises(ImageError):
        ask("metric_depth", b"GIF89a", max_depth=1.0, client=answers.client())
    with pytest.raises(FileNotFoundError):
        ask("metric_depth", tmp_path / "none.png", max_depth=1.0, client=answers.client())
    with pytest.raises(SettingsError, match="vits_hypersim_518"):
        ask("relative_depth", as_png(np.zeros((2, 2, 3), np.uint8)), client=answers.client(model="../../x"))
    assert answers.requests == []


def test_results_of_the_json_api_are_decoded() -> None:
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    cloud, depth = (base64.b64encode(encode_raw(array)).decode() for array in (points, DEPTH))
    result = {"pointcloud": cloud, "pointcloud_shape": [4, 3], "depth_map": depth, "depth_shape": [2, 2]}
    for got in (decode_pointcloud(result), decode_pointcloud(cloud, [4, 3]), decode_pointcloud(cloud)):
        np.testing.assert_array_equal(got, points)
    for got in (decode_depth_map(result), decode_depth_map({"depth_map": depth, "shape": [2, 2]})):
        np.testing.assert_array_equal(got, DEPTH)
    np.testing.assert_array_equal(decode_depth_map(depth, [2, 2]), DEPTH)
    np.testing.assert_array_equal(decode_depth_map(depth), DEPTH.ravel())
    with pytest.raises(InputError):
        decode_depth_map(depth, [3, 3])


def test_an_image_becomes_base64_of_its_file(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(as_png(photo))
    assert base64.b64decode(encode_image(str(path))) == path.read_bytes() == base64.b64decode(encode_image(path))
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(encode_image(photo)), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, photo)


def test_without_an_image_the_functions_send_nothing() -> None:
    with pytest.raises(InputError, match="image_url"):
        predict_metric_depth(max_depth=1.0)


# Named servers.


def test_the_servers_file_in_the_repository_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "config" / "servers.yaml"
    assert load_server("local", path).base_url == "http://127.0.0.1:8000"
    with pytest.raises(SettingsError, match="ROBOT_BRIDGE_KEY"):
        load_server("robot", path)
    monkeypatch.setenv("ROBOT_BRIDGE_KEY", "k")
    server = load_server("robot", path)
    assert (server.api_key, server.model) == ("k", "vits_hypersim_518")
    assert "'k'" not in repr(server)
    assert "api_key:" not in path.read_text()


def test_the_servers_file_is_found_by_variable_and_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / ".config" / "depth_anything" / "servers.yaml"
    home.parent.mkdir(parents=True)
    home.write_text("lab: {base_url: 'http://lab', api_key: k}")
    named = tmp_path / "named.yaml"
    named.write_text("lab: {base_url: 'http://other'}")
    monkeypatch.setenv("HOME", str(tmp_path))
    server = load_server("lab")
    assert (server.base_url, server.api_key, server.model) == ("http://lab", "k", None)
    monkeypatch.setenv("DEPTH_ANYTHING_SERVERS", str(named))
    assert load_server("lab").base_url == "http://other"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "known: none"),
        ("- lab", "known: none"),
        ("other: {base_url: x}", "known: other"),
        ("lab: x", "base_url"),
        ("lab: {api_key: x}", "base_url"),
        ("lab: {base_url: x, url: y}", "base_url"),
        ("lab: {base_url: x, model: 3}", "text"),
        ("lab: {base_url: x, model: vits-hypersim}", "model 'vits-hypersim' must be as vits_hypersim_518"),
        ("lab: [", "not usable YAML"),
    ],
)
def test_a_servers_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason) as failure:
        load_server("lab", path)
    assert str(path) in str(failure.value)


def test_the_commands_default_is_the_depth_that_hypersim_was_trained_for() -> None:
    assert dataset_spec("hypersim").max_depth_m == HYPERSIM_MAX_DEPTH_M


def test_a_missing_servers_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        DepthClient.from_server("lab", tmp_path / "none.yaml")


# A host on loopback.


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


def test_a_silent_server_is_left_after_the_timeout(ask: Ask) -> None:
    gone = threading.Event()
    with host(lambda handler: (gone.wait(10), None)[1]) as (url, _):
        with pytest.raises(BridgeError, match="no answer"):
            ask("health", client={"base_url": url, "timeout_s": 0.2})
        gone.set()


def run_cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge.client.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.fixture
def photo_file(tmp_path: Path, photo: NDArray[np.uint8]) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(as_png(photo))
    return path


def test_ctrl_c_ends_the_command_without_a_traceback(photo_file: Path, tmp_path: Path) -> None:
    gone = threading.Event()
    arrived = threading.Event()

    def never(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        gone.wait(30)

    with host(never) as (url, _):
        command = [sys.executable, "-m", "bridge.client.cli", str(photo_file), "--url", url, "--out", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert arrived.wait(30)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        gone.set()
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_the_command_says_in_one_line_what_is_wrong(photo_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with host(healthy) as (url, _):
        pass  # closed again: nobody listens
    for arguments, reason in (
        ([str(photo_file), "--url", url], "no answer from"),
        ([str(text), "--url", url], "notes.txt"),
        ([str(tmp_path / "none.jpg"), "--url", url], "none.jpg"),
        ([str(photo_file), "--url", url, "--model", "x"], "model"),
        ([str(photo_file), "--server", "x", "--servers-file", str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        done = run_cli(*arguments, "--out", str(tmp_path / "out"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr


# A real bridge.


@pytest.fixture(scope="module")
def estimator() -> DepthEstimator:
    """The network that `running_bridge` has."""
    return DepthEstimator.load("toy", "hypersim", UNTRAINED, 56, "cpu", backend="torch")


def test_depth_from_a_bridge_is_the_estimators(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8], estimator: DepthEstimator
) -> None:
    depth = ask("metric_depth", photo, max_depth=20.0, client={"base_url": running_bridge.url})
    np.testing.assert_allclose(depth.values, estimator.estimate(photo, 20.0).values, atol=1e-5)
    assert (depth.kind, depth.unit, depth.model_key) == ("metric", "m", "toy_hypersim_56")


def test_relative_depth_comes_from_a_relative_model(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]
) -> None:
    depth = ask("relative_depth", photo, client={"base_url": running_bridge.url, "model": "toy_hypersim_70"})
    assert depth.values.shape == photo.shape[:2]
    assert (depth.kind, depth.unit, depth.model_key) == ("relative", "", "toy_relative_70")


def test_a_cloud_made_here_is_the_bridges_within_the_rounding_of_the_png(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]
) -> None:
    client = {"base_url": running_bridge.url}
    for max_depth, step_m in ((20.0, 1e-3), (80.0, 1 / 819)):
        result = predict_pointcloud(
            encode_image(photo),
            camera_intrinsics=INTRINSICS,
            base_url=running_bridge.url,
            encoder="toy",
            model_input_size=56,
            max_depth=max_depth,
        )
        theirs = decode_pointcloud(result).reshape(48, 64, 3)
        for camera in (INTRINSICS, CameraModel(60.0, 61.0, 31.5, 23.5, width=64, height=48)):
            points = ask("point_cloud", photo, camera, max_depth=max_depth, client=client)
            assert points.dtype == np.float32
            np.testing.assert_allclose(points, theirs, atol=0.51 * step_m)


def test_the_function_api_gives_what_the_json_api_gives(
    running_bridge: RunningBridge, photo: NDArray[np.uint8], estimator: DepthEstimator
) -> None:
    toy: dict[str, Any] = {"base_url": running_bridge.url, "encoder": "toy", "model_input_size": 56}
    image = encode_image(photo)
    metric = predict_metric_depth(image, max_depth=20.0, **toy)
    assert set(metric) == {"depth_map", "shape", "min", "max"}
    np.testing.assert_allclose(decode_depth_map(metric), estimator.estimate(photo, 20.0).values, atol=1e-5)
    relative = predict_relative_depth(image, **toy)
    np.testing.assert_allclose(decode_depth_map(relative), estimator.estimate(photo, 1.0).values, atol=1e-6)
    cloud = predict_pointcloud(image, camera_intrinsics=INTRINSICS, max_depth=20.0, **toy)
    assert set(cloud) == {"pointcloud", "pointcloud_shape", "depth_map", "depth_shape", "min", "max"}
    assert decode_pointcloud(cloud).shape == (photo.shape[0] * photo.shape[1], 3)
    np.testing.assert_array_equal(decode_depth_map(cloud), decode_depth_map(metric))
    assert "toy_hypersim_56" in get_health(running_bridge.url)["models_loaded"]


def test_an_error_of_the_bridge_keeps_its_status_code_and_request_id(ask: Ask, running_bridge: RunningBridge) -> None:
    with pytest.raises(BridgeError, match="encoder") as failure:
        ask("metric_depth", JPEG, max_depth=1.0, client={"base_url": running_bridge.url, "model": "vitx_hypersim_518"})
    assert (failure.value.status, failure.value.code) == (422, "invalid_value")

    def logged() -> list[dict[str, Any]]:
        return [line for line in running_bridge.log_lines() if line.get("request_id") == failure.value.request_id]

    eventually(logged)  # written after the answer


def test_the_key_opens_a_locked_bridge(start_bridge: Callable[..., RunningBridge]) -> None:
    locked = start_bridge("--host=127.0.0.1", "--api-key=k1")
    with DepthClient(locked.url, "k1") as client:
        assert client.metric_depth(JPEG, max_depth=1.0).values.size
    for key in (None, "wrong"):
        with DepthClient(locked.url, key) as client, pytest.raises(BridgeError) as failure:
            client.metric_depth(JPEG, max_depth=1.0)
        assert (failure.value.status, failure.value.code) == (401, "unauthorized")


def test_the_command_writes_depth_picture_and_cloud(
    running_bridge: RunningBridge, photo: NDArray[np.uint8], photo_file: Path, tmp_path: Path, estimator: DepthEstimator
) -> None:
    out = tmp_path / "out"
    intrinsics = ["--intrinsics", *map(str, INTRINSICS.values())]
    done = run_cli(str(photo_file), "--url", running_bridge.url, "--out", str(out), *intrinsics)
    assert done.returncode == 0, done.stderr
    depth = estimator.estimate(photo, 20.0).values
    levels = cv2.imread(str(out / "photo_depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    np.testing.assert_allclose(levels / 1000.0, depth, atol=0.6e-3)
    picture = cv2.imread(str(out / "photo_color.png"))
    assert picture is not None
    assert picture.shape == photo.shape
    header, _, vertices = (out / "photo.ply").read_bytes().partition(b"end_header\n")
    assert b"element vertex %d" % depth.size in header
    assert len(vertices) == depth.size * 15
    z = np.frombuffer(vertices, [("xyz", "<f4", 3), ("rgb", "u1", 3)])["xyz"][:, 2]
    np.testing.assert_allclose(z, depth.ravel(), atol=1e-5)


def test_the_command_asks_for_max_depth_where_it_cannot_know_it(
    running_bridge: RunningBridge, photo_file: Path, tmp_path: Path
) -> None:
    servers = tmp_path / "servers.yaml"
    servers.write_text(f"lab: {{base_url: '{running_bridge.url}', model: toy_vkitti_56}}")
    named = [str(photo_file), "--server", "lab", "--servers-file", str(servers), "--out", str(tmp_path / "out")]
    done = run_cli(*named)
    assert done.returncode == 1
    assert "--max-depth" in done.stderr
    done = run_cli(*named, "--max-depth", "80")
    assert done.returncode == 0, done.stderr
    assert "metres x 819" in done.stdout
    assert "fx 55.4" in done.stdout  # 60 degrees over 64 pixels


def test_a_bridge_fetches_a_url_from_an_allowed_host_and_no_other(
    ask: Ask, start_bridge: Callable[..., RunningBridge]
) -> None:
    def camera(handler: BaseHTTPRequestHandler) -> None:
        found = handler.path == "/photo.jpg?token=secret"
        handler.send_response(200 if found else 404)
        handler.send_header("content-type", "image/jpeg")
        handler.send_header("content-length", str(len(JPEG)))
        handler.end_headers()
        handler.wfile.write(JPEG)

    with host(camera) as (url, requests):
        bridge = start_bridge(f"--image-url-allow={url.removeprefix('http://')}")
        client = {"base_url": bridge.url}
        depth = ask("metric_depth", f"{url}/photo.jpg?token=secret", max_depth=1.0, client=client)
        assert depth.values.shape == (48, 64)
        refused, failing = url.replace("127.0.0.1", "127.0.0.2"), f"{url}/none.jpg?token=secret"
        for image, status, code in ((refused, 403, "image_url_refused"), (failing, 424, "image_host_failed")):
            with pytest.raises(BridgeError) as failure:
                ask("metric_depth", image, max_depth=1.0, client=client)
            assert (failure.value.status, failure.value.code) == (status, code)
    assert len(requests) == 2
    assert "secret" not in bridge.log.read_text()
