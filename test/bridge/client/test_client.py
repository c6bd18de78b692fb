"""The client: against answers made up here, a host on loopback, and a real bridge."""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from client_hosts import DEPTH, Answers, Ask, good, host, refusal
from numpy.typing import NDArray
from running_bridge import TOY, UNTRAINED, RunningBridge, eventually, start

from bridge.client import AsyncDepthClient, BridgeError, DepthClient, RetryPolicy, Undistort
from bridge.client.functions import (
    decode_depth_map,
    decode_pointcloud,
    encode_image,
    get_health,
    predict_metric_depth,
    predict_pointcloud,
    predict_relative_depth,
)
from bridge.codec import encode_array_base64, encode_depth_png16, encode_raw
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError, ImageError, InputError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import encode_npy
from depth_anything_ros.messages.rectification import Rectification

ROOT = Path(__file__).parents[3]
JPEG = bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1])
INTRINSICS = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}


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


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_request_that_was_turned_away_is_sent_again(ask: Ask, status: int) -> None:
    answers = Answers(refusal(status), httpx.ConnectError("refused"), httpx.ReadError("reset"), good())
    depth = ask("metric_depth", as_png(np.zeros((2, 2, 3), np.uint8)), max_depth=5.0, client=answers.client())
    np.testing.assert_array_equal(depth.values, DEPTH)
    assert (depth.kind, depth.model_key) == ("metric", "toy_hypersim_56")
    assert len(answers.requests) == 4
    assert len({request.content for request in answers.requests}) == 1


def test_a_500_is_sent_again_if_it_is_a_proxys_and_not_if_it_is_the_bridges(ask: Ask) -> None:
    lost = httpx.Response(500, text="Internal Server Error")  # what Ray's proxy says where a replica died
    ask("metric_depth", JPEG, client=Answers(lost, good()).client())
    answers = Answers(refusal(500), good())
    with pytest.raises(BridgeError, match="500"):
        ask("metric_depth", JPEG, client=answers.client())
    assert len(answers.requests) == 1


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
    reason = "not finished within 75 s" if isinstance(error, httpx.ReadTimeout) else str(error)
    with pytest.raises(BridgeError, match=rf"^no answer from http://bridge\.test/metric_depth: {reason}$") as failure:
        ask("metric_depth", JPEG, max_depth=1.0, client=client)
    assert failure.value.status is None
    assert len(answers.requests) == requests


@pytest.mark.parametrize(
    "body", [b"<html>Bad gateway</html>", b"[]", b'"x"', b"null", b'{"error": 3}', b'{"error": {}}']
)
def test_an_error_that_is_not_from_a_bridge_keeps_its_status(ask: Ask, body: bytes) -> None:
    answers = Answers(httpx.Response(502, content=body))
    with pytest.raises(BridgeError, match=r"^502: Bad Gateway, from http://\S+/health$") as failure:
        ask("health", client=answers.client())
    assert failure.value.status == 502


def test_an_answer_that_cannot_be_read_is_an_error(ask: Ask) -> None:
    image = as_png(np.zeros((2, 2, 3), np.uint8))
    for answer in (httpx.Response(200, content=b"no array"), httpx.Response(200, content=encode_npy(DEPTH))):
        with pytest.raises(BridgeError, match=r"http://\S+ cannot be read: is it a bridge\?$"):
            ask("metric_depth", image, max_depth=1.0, client=Answers(answer).client())


def test_a_call_that_is_cancelled_as_its_answer_comes_is_cancelled() -> None:
    """In whichever pass of the event loop after the answer: `asyncio.wait_for` returned the answer in some of them."""

    async def cancelled_after(passes: int) -> bool:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def answer(_: httpx.Request) -> httpx.Response:
            asked.set()
            await answered.wait()
            return httpx.Response(200, json={"status": "ok"})

        async with AsyncDepthClient("http://bridge.test", transport=httpx.MockTransport(answer)) as client:
            call = asyncio.ensure_future(client.health())
            await asked.wait()
            answered.set()
            for _ in range(passes):
                await asyncio.sleep(0)
            if call.done():
                return False
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return True

    passes = 0
    while asyncio.run(cancelled_after(passes)):
        passes += 1
    assert passes > 0


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
    url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    for image, kind in ((path, "png"), (str(path), "png"), (jpeg, "jpeg"), (photo, "png"), (url, "jpeg")):
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
    with pytest.raises(ImageError, match="not a file name"):
        ask("metric_depth", "a\0b.png", client=answers.client())
    os.mkfifo(tmp_path / "pipe.png")  # nobody writes to it
    for endless in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a regular file"):
            ask("metric_depth", endless, client=answers.client())
    with pytest.raises(SettingsError, match="vits_hypersim_518"):
        ask("relative_depth", as_png(np.zeros((2, 2, 3), np.uint8)), client=answers.client(model="../../x"))
    assert answers.requests == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 2, 3), np.float32),
        np.ones((2, 2, 3), np.float64),
        np.ones((2, 2, 3), bool),
        np.ones((2, 2, 3), np.uint16),
        np.ones((2, 2, 3), np.int64),
        [[0, 1]],
    ],
    ids=lambda image: str(getattr(image, "dtype", "list")),
)
def test_a_picture_in_other_levels_than_0_to_255_is_refused_before_anything_is_sent(ask: Ask, image: Any) -> None:
    answers = Answers(good())
    with pytest.raises(ImageError, match=r"must be a uint8 NumPy array .* got (float|bool|uint16|int64|list)"):
        ask("metric_depth", image, client=answers.client())
    assert answers.requests == []
    with pytest.raises(ImageError, match="uint8"):
        encode_image(image)


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 1), (2, 2, 4), (2, 3), (1, 2, 2, 3)])
def test_a_picture_of_another_shape_than_the_estimator_takes_is_refused(ask: Ask, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"must have shape \(H, W, 3\)"):
        ask("metric_depth", np.zeros(shape, np.uint8), client=Answers(good()).client())


def test_a_picture_may_be_a_view_with_any_strides(ask: Ask, photo: NDArray[np.uint8]) -> None:
    answers = Answers(good())
    ask("metric_depth", photo[::2, ::-1], client=answers.client())
    sent = cv2.imdecode(np.frombuffer(answers.requests[0].content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(sent, photo[::2, ::-1])


def test_without_max_depth_the_server_takes_the_datasets_own(ask: Ask) -> None:
    answers = Answers(good())
    ask("metric_depth", JPEG, client=answers.client())
    points = ask("point_cloud", JPEG, {"fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0}, client=answers.client())
    assert all("max_depth" not in request.url.params for request in answers.requests)
    np.testing.assert_array_equal(points[..., 2], DEPTH)  # not rounded


def test_what_a_server_says_is_bounded_and_on_one_line(ask: Ask) -> None:
    error = {"message": "a\nb\x1b[31m" + "x" * 10_000, "code": "c\n", "request_id": "r\r\n"}
    with pytest.raises(BridgeError, match=r"^422: a") as failure:
        ask("health", client=Answers(httpx.Response(422, json={"error": error})).client())
    told = (str(failure.value), failure.value.code, failure.value.request_id)
    assert all(text.isprintable() and len(text) < 600 for text in told)


def test_several_images_are_answered_in_their_order_each_with_its_own_error(ask: Ask) -> None:
    depth = {
        "depth_map": encode_array_base64(DEPTH).decode(),
        "shape": [2, 2],
        "model_key": "toy_hypersim_56",
        "max_depth": 20,
    }
    error = {"message": "it is empty", "code": "image_size", "request_id": "abc-1"}
    answers = Answers(httpx.Response(200, json={"results": [depth, {"error": error, "status": 422}, depth]}))
    images = [JPEG, "http://photos.test/a.jpg", np.zeros((2, 2, 3), np.uint8)]
    first, second, third = ask(
        "metric_depths", images, max_depth=20.0, focal_px=300.0, client=answers.client(model="toy_hypersim_56")
    )
    for got in (first, third):
        np.testing.assert_array_equal(got.values, DEPTH)
        assert (got.kind, got.model_key, got.max_depth) == ("metric", "toy_hypersim_56", 20)
    assert isinstance(second, BridgeError)
    assert (str(second), second.status, second.code) == ("422: it is empty", 422, "image_size")
    (request,) = answers.requests
    sent = json.loads(request.content)
    assert [base64.b64decode(sent[0]["image"]), sent[1]["image_url"]] == [JPEG, "http://photos.test/a.jpg"]
    common = {"encoder": "toy", "dataset": "hypersim", "model_input_size": 56, "max_depth": 20.0, "focal_px": 300.0}
    assert all(common.items() <= item.items() for item in sent)


def test_sky_and_confidence_come_with_models_that_tell_them(ask: Ask) -> None:
    values = np.array([[1.0, np.inf], [3.0, 4.0]], np.float32)
    body = {
        "depth_map": encode_array_base64(values).decode(),
        "shape": [2, 2],
        "min": 1.0,
        "max": 4.0,
        "sky": base64.b64encode(bytes([0, 1, 0, 0])).decode(),
        "confidence": encode_array_base64(DEPTH).decode(),
        "focal_px": 615.0,
    }
    headers = {"x-model-key": "vits_da3_504", "x-kind": "scale_invariant"}
    answers = Answers(httpx.Response(200, headers=headers, json=body))
    depth = ask("relative_depth", JPEG, client=answers.client(model="vits_da3_504"))
    np.testing.assert_array_equal(depth.values, values)
    np.testing.assert_array_equal(depth.sky, [[False, True], [False, False]])
    np.testing.assert_array_equal(depth.confidence, DEPTH)
    assert (depth.kind, depth.focal_px, depth.model_key) == ("scale_invariant", 615.0, "vits_da3_504")
    (request,) = answers.requests
    assert (request.headers["accept"], request.url.params["dataset"]) == ("application/json", "da3")


def test_the_kind_of_depth_is_what_the_server_says(ask: Ask) -> None:
    headers = {"x-model-key": "vits_da3_504", "x-focal-px": "615"}
    answer = httpx.Response(200, headers=headers | {"x-kind": "scale_invariant"}, content=encode_npy(DEPTH))
    depth = ask("relative_depth", JPEG, client=Answers(answer).client())
    assert (depth.kind, depth.unit, depth.focal_px) == ("scale_invariant", "", 615.0)
    unknown = httpx.Response(200, headers=headers | {"x-kind": "disparity"}, content=encode_npy(DEPTH))
    with pytest.raises(BridgeError, match="cannot be read"):
        ask("relative_depth", JPEG, client=Answers(unknown).client())


@pytest.mark.parametrize("body", [{}, {"results": 3}, {"results": [3]}, {"results": [{"shape": [2, 2]}]}, []])
def test_several_answers_that_cannot_be_read_are_an_error(ask: Ask, body: Any) -> None:
    with pytest.raises(BridgeError, match="cannot be read"):
        ask("metric_depths", [JPEG], client=Answers(httpx.Response(200, json=body)).client())


def test_the_server_is_told_how_long_its_answer_is_waited_for(ask: Ask) -> None:
    answers = Answers(refusal(503), good())
    ask("metric_depth", JPEG, client=answers.client(timeout_s=10.0, retry=RetryPolicy(base_s=0.2)))
    first, second = (int(request.headers["x-deadline-ms"]) for request in answers.requests)
    assert 0 < second <= first <= 10_000


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


# A real bridge.


def test_depth_from_a_bridge_is_the_estimators(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8], estimator: DepthEstimator
) -> None:
    depth = ask("metric_depth", photo, max_depth=20.0, client={"base_url": running_bridge.url})
    np.testing.assert_allclose(depth.values, estimator.estimate(photo, 20.0).values, atol=1e-5)
    assert (depth.kind, depth.unit, depth.model_key) == ("metric", "m", "toy_hypersim_56")


def test_several_images_of_several_kinds_come_back_in_one_answer(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8], estimator: DepthEstimator
) -> None:
    images = [photo, JPEG, as_png(np.zeros((9, 900, 3), np.uint8))]
    first, second, third = ask("metric_depths", images, client={"base_url": running_bridge.url})
    np.testing.assert_allclose(first.values, estimator.estimate(photo).values, atol=1e-5)
    assert (first.kind, first.model_key, first.max_depth) == ("metric", "toy_hypersim_56", 20.0)
    assert second.values.shape == (48, 64)
    assert isinstance(third, BridgeError)
    assert (third.status, third.code) == (422, "image_size")
    (alone,) = ask("metric_depths", [photo], max_depth=5.0, client={"base_url": running_bridge.url})
    assert alone.max_depth == 5.0


def test_the_server_says_which_max_depth_it_used(ask: Ask, running_bridge: RunningBridge) -> None:
    for model, asked, used in (("toy_hypersim_56", None, 20.0), ("toy_vkitti_56", None, 80.0), (None, 7.5, 7.5)):
        client = {"base_url": running_bridge.url, "model": model}
        assert ask("metric_depth", JPEG, max_depth=asked, client=client).max_depth == used
    assert ask("relative_depth", JPEG, client={"base_url": running_bridge.url}).max_depth is None


def test_depth_up_to_a_factor_comes_with_its_confidence(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]
) -> None:
    depth = ask("relative_depth", photo, client={"base_url": running_bridge.url, "model": "toy_da3_56"})
    assert (depth.kind, depth.model_key) == ("scale_invariant", "toy_da3_56")
    assert depth.confidence.shape == depth.values.shape == photo.shape[:2]


def test_metres_that_follow_from_the_focal_length_need_it(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]
) -> None:
    client = {"base_url": running_bridge.url, "model": "toy_da3metric_56"}
    with pytest.raises(BridgeError, match="focal_px"):
        ask("metric_depth", photo, client=client)
    near, far = (ask("metric_depth", photo, focal_px=focal_px, client=client) for focal_px in (300.0, 600.0))
    assert (near.kind, near.max_depth, far.focal_px) == ("metric", None, 600.0)
    np.testing.assert_array_equal(near.sky, np.isinf(near.values))
    np.testing.assert_allclose(far.values[~far.sky], 2 * near.values[~near.sky], rtol=1e-5)
    points = ask("point_cloud", photo, {**INTRINSICS, "fx": 300.0, "fy": 300.0}, client=client)
    np.testing.assert_allclose(points[~near.sky][:, 2], near.values[~near.sky], rtol=1e-5)


@pytest.mark.parametrize("method", ["metric_depth", "metric_depths", "relative_depth"])
def test_a_camera_of_another_size_is_refused_for_depth_too(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8], method: str
) -> None:
    """Its focal length is in pixels of other images: metres would be off by as much as the sizes differ."""
    height, width = photo.shape[:2]
    model = "toy_da3_56" if method == "relative_depth" else "toy_da3metric_56"
    client = {"base_url": running_bridge.url, "model": model}
    image = [photo] if method == "metric_depths" else photo
    ask(method, image, camera=CameraModel.from_fov(60.0, width, height), client=client)
    other = CameraModel.from_fov(60.0, 2 * width, 2 * height)
    said = rf"depth is \({height}, {width}\), this camera's images are \({2 * height}, {2 * width}\)"
    if method == "metric_depths":
        [error] = ask(method, image, camera=other, client=client)
        assert isinstance(error, BridgeError)
        assert re.search(said, str(error))
        return
    with pytest.raises(CameraError, match=said):
        ask(method, image, camera=other, client=client)


def test_an_image_is_rectified_on_the_server(ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]) -> None:
    height, width = photo.shape[:2]
    lens = CameraModel(60.0, 61.0, 31.0, 23.0, width, height, "plumb_bob", (-0.2, 0.03, 0.0, 0.0, 0.0))
    client = {"base_url": running_bridge.url}
    depth = ask("metric_depth", photo, undistort=Undistort(lens), client=client)
    assert depth.camera == Rectification(lens).camera
    assert ask("metric_depth", photo, client=client).camera is None
    points = ask("point_cloud", photo, Undistort(lens, 90.0), client=client)
    narrow = ask("metric_depth", photo, undistort=Undistort(lens, 90.0), client=client)
    np.testing.assert_allclose(points, narrow.camera.back_project(narrow.values), rtol=1e-6)
    assert narrow.camera.fx == pytest.approx(90.0)
    with pytest.raises(SettingsError, match="leave focal_px out"):
        ask("metric_depth", photo, focal_px=60.0, undistort=Undistort(lens), client=client)
    relative = ask("relative_depth", photo, undistort=Undistort(lens), client=client)
    assert (relative.kind, relative.camera) == ("relative", depth.camera)
    several = ask("metric_depths", [photo, photo], undistort=Undistort(lens), client=client)
    for one in several:
        np.testing.assert_array_equal(one.values, depth.values)
        assert one.camera == depth.camera
    intrinsics = {
        "fx": 60.0,
        "fy": 61.0,
        "cx": 31.0,
        "cy": 23.0,
        "distortion_model": "plumb_bob",
        "d": [-0.2, 0.03, 0, 0],
    }
    answer = predict_pointcloud(
        encode_image(photo), camera_intrinsics=intrinsics, base_url=running_bridge.url, undistort=True
    )
    assert answer["camera_intrinsics"]["fx"] == pytest.approx(depth.camera.fx, rel=1e-6)


def test_a_cloud_is_of_the_camera_however_it_is_said(
    ask: Ask, running_bridge: RunningBridge, photo: NDArray[np.uint8]
) -> None:
    height, width = photo.shape[:2]
    camera = CameraModel(32.0, 32.0, (width - 1) / 2, (height - 1) / 2, width, height)
    for model in ("toy_hypersim_56", "toy_da3_56", "toy_da3mono_56"):
        client = {"base_url": running_bridge.url, "model": model}
        expected = ask("point_cloud", photo, camera, client=client)
        for said in ({"focal_px": 32.0}, {"fov_deg": 90.0}, {"camera": {"fx": 32, "fy": 32, "cx": 31.5, "cy": 23.5}}):
            np.testing.assert_allclose(ask("point_cloud", photo, client=client, **said), expected, rtol=1e-6)
        method = "metric_depth" if model == "toy_hypersim_56" else "relative_depth"
        depth = ask(method, photo, fov_deg=90.0, client=client)
        np.testing.assert_allclose(expected, camera.back_project(depth.values), rtol=1e-6)
        if method == "relative_depth":
            assert (depth.focal_px, depth.is_focal_estimated) == (pytest.approx(32.0), False)
            with pytest.raises(SettingsError, match="max_depth does not apply"):
                ask("point_cloud", photo, camera, max_depth=20.0, client=client)
    with pytest.raises(SettingsError, match="a cloud needs the camera"):
        ask("point_cloud", photo, client={"base_url": running_bridge.url})
    with pytest.raises(SettingsError, match="given as fov_deg and camera"):
        ask("point_cloud", photo, camera, fov_deg=90.0, client={"base_url": running_bridge.url})


def test_points_follow_the_focal_length_that_the_model_estimates(ask: Ask) -> None:
    body: dict[str, Any] = {"depth_map": base64.b64encode(encode_raw(DEPTH)).decode(), "shape": [2, 2]}
    body |= {"focal_px": 2.0, "focal_source": "estimate"}
    headers = {"x-model-key": "vits_da3_504", "x-kind": "scale_invariant", "content-type": "application/json"}
    model = "vits_da3_504"
    points = ask(
        "point_cloud", JPEG, client=Answers(httpx.Response(200, headers=headers, json=body)).client(model=model)
    )
    np.testing.assert_allclose(points, CameraModel(2.0, 2.0, 0.5, 0.5, 2, 2).back_project(DEPTH))
    unknown = httpx.Response(200, headers=headers, json={name: body[name] for name in ("depth_map", "shape")})
    with pytest.raises(CameraError, match="finds no focal length"):
        ask("point_cloud", JPEG, client=Answers(unknown).client(model=model))


def test_the_models_of_a_bridge_are_told(ask: Ask, running_bridge: RunningBridge) -> None:
    assert ask("models", client={"base_url": running_bridge.url})["default"] == "toy_hypersim_56"


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
    for max_depth, step_m in ((20.0, 1e-3), (80.0, 1 / 819), (None, 1e-6)):
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
    assert set(metric) == {"depth_map", "shape", "min", "max", "max_depth"}
    np.testing.assert_allclose(decode_depth_map(metric), estimator.estimate(photo, 20.0).values, atol=1e-5)
    relative = predict_relative_depth(image, **toy)
    np.testing.assert_allclose(decode_depth_map(relative), estimator.estimate(photo, 1.0).values, atol=1e-6)
    cloud = predict_pointcloud(image, camera_intrinsics=INTRINSICS, max_depth=20.0, **toy)
    assert set(cloud) == {"pointcloud", "pointcloud_shape", "depth_map", "depth_shape", "min", "max", "max_depth"}
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


def test_the_key_opens_a_locked_bridge(serve_app: Callable[..., str]) -> None:
    url = serve_app(api_key="k1")
    with DepthClient(url, "k1\n") as client:
        assert client.metric_depth(JPEG, max_depth=1.0).values.size
    for key in (None, "wrong"):
        with DepthClient(url, key) as client, pytest.raises(BridgeError) as failure:
            client.metric_depth(JPEG, max_depth=1.0)
        assert (failure.value.status, failure.value.code) == (401, "unauthorized")


def camera(handler: BaseHTTPRequestHandler) -> None:
    found = handler.path == "/photo.jpg?token=secret"
    handler.send_response(200 if found else 404)
    handler.send_header("content-type", "image/jpeg")
    handler.send_header("content-length", str(len(JPEG)))
    handler.end_headers()
    handler.wfile.write(JPEG)


@pytest.fixture(scope="module")
def fetching_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningBridge, str, list[int]]]:
    """A bridge that may fetch from one host; the host's URL, and the ports of its clients."""
    with host(camera) as (url, requests):
        allowed = f"--image-url-allow={url.removeprefix('http://')}"
        bridge = start(tmp_path_factory.mktemp("fetching") / "log", *TOY, *UNTRAINED, allowed)
        yield bridge, url, requests
        bridge.end()


def test_a_bridge_fetches_a_url_from_an_allowed_host_and_no_other(
    ask: Ask, fetching_bridge: tuple[RunningBridge, str, list[int]]
) -> None:
    bridge, url, requests = fetching_bridge
    requests.clear()
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
