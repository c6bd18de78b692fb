"""What the three endpoints promise, asked over a real socket from a real server process."""

import asyncio
import base64
import io
import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from running_bridge import HeldEstimator, RunningBridge, encoded, eventually, toy_settings

from bridge.codec import decode_depth_png16, decode_image, decode_npy
from bridge.server import fetching
from bridge.server.app import create_app
from bridge.server.image_url import ImageHostFailed, UrlRefused
from bridge.server.models import model_settings, warn_without_weights
from bridge.server.settings_sources import load_settings
from bridge.server.worker import create_cache
from depth_anything_ros.errors import OutOfMemory, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.checkpoint_search import CHECKPOINTS_VARIABLE, checkpoint_name
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import ModelSettings

Json = dict[str, Any]
ERROR_FIELDS = {"message", "type", "code", "param", "request_id"}


@pytest.fixture(scope="module")
def expected(jpeg: bytes) -> NDArray[np.float32]:
    """What the core says of the picture, in the range 0..1."""
    estimator = DepthEstimator.load("toy", "hypersim", "untrained", 56, "cpu", backend="torch")
    return estimator.estimate(decode_image(jpeg), 1.0).values


def floats(text: str, shape: list[int]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """Check the form of an error, and return its message."""
    assert response.status_code == status, response.text[:300]
    body = response.json()
    assert set(body) == {"detail", "error"}
    assert set(body["error"]) == ERROR_FIELDS
    assert (body["error"]["code"], body["error"]["param"]) == (code, param)
    assert body["detail"] == body["error"]["message"]
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    return str(body["detail"])


# The API that existing clients speak.


def test_metric_depth_is_the_networks_output_times_max_depth(
    http: httpx.Client, metric_request: Json, expected: NDArray[np.float32]
) -> None:
    body = http.post("/metric_depth", json=metric_request).json()
    assert set(body) == {"depth_map", "shape", "min", "max", "max_depth"}
    assert body["max_depth"] == 20
    depth = floats(body["depth_map"], body["shape"])
    np.testing.assert_allclose(depth, 20 * expected, rtol=1e-4)
    assert (body["min"], body["max"]) == (pytest.approx(depth.min()), pytest.approx(depth.max()))


def test_points_are_the_depth_back_projected_row_by_row(http: httpx.Client, cloud_request: Json) -> None:
    body = http.post("/pc", json=cloud_request).json()
    assert set(body) == {"pointcloud", "pointcloud_shape", "depth_map", "depth_shape", "min", "max", "max_depth"}
    assert body["pointcloud_shape"] == [48 * 64, 3]
    z = floats(body["depth_map"], body["depth_shape"])
    v, u = np.mgrid[:48, :64]
    points = np.stack([(u - 31.5) / 60 * z, (v - 23.5) / 61 * z, z], axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(floats(body["pointcloud"], body["pointcloud_shape"]), points, rtol=1e-5)


def test_relative_depth_is_the_metric_networks_output_at_unit_scale(
    http: httpx.Client, metric_request: Json, expected: NDArray[np.float32]
) -> None:
    body = http.post("/rel_depth", json={"image": metric_request["image"]}).json()
    assert set(body) == {"depth_map", "shape", "min", "max"}
    np.testing.assert_allclose(floats(body["depth_map"], body["shape"]), expected, rtol=1e-4)


def test_relative_depth_with_dataset_relative_is_that_networks_own_output(http: httpx.Client, jpeg: bytes) -> None:
    answer = http.post("/rel_depth?dataset=relative", content=jpeg, headers=headers("image/jpeg", "application/x-npy"))
    estimator = DepthEstimator.load("toy", "relative", "untrained", 56, "cpu", backend="torch")
    np.testing.assert_allclose(decode_npy(answer.content), estimator.estimate(decode_image(jpeg)).values, atol=1e-5)
    assert answer.headers["x-unit"] == "none"
    assert answer.headers["x-model-key"] == "toy_relative_56"


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_an_image_may_be_base64_or_a_data_url(http: httpx.Client, metric_request: Json, prefix: str) -> None:
    image = prefix + metric_request["image"][:40] + "\n" + metric_request["image"][40:]
    assert http.post("/metric_depth", json={**metric_request, "image": image}).status_code == 200


@pytest.mark.parametrize("path", ["/metric_depth", "/pc"])
@pytest.mark.parametrize(("dataset", "own"), [("hypersim", 20.0), ("vkitti", 80.0)])
def test_without_max_depth_the_datasets_own_is_taken_and_said(
    http: httpx.Client, cloud_request: Json, path: str, dataset: str, own: float
) -> None:
    asked = {**cloud_request, "dataset": dataset}
    given, absent, null = (
        http.post(path, json={**asked, "max_depth": own}),
        http.post(path, json={name: value for name, value in asked.items() if name != "max_depth"}),
        http.post(path, json={**asked, "max_depth": None}),
    )
    for answer in (given, absent, null):
        assert answer.json() == given.json()
        assert answer.json()["max_depth"] == own
        assert float(answer.headers["x-max-depth"]) == own


def test_an_answer_without_metres_says_no_max_depth(http: httpx.Client, metric_request: Json) -> None:
    answer = http.post("/rel_depth", json=metric_request)
    assert "max_depth" not in answer.json()
    assert "x-max-depth" not in answer.headers


def test_the_default_model_is_the_nodes() -> None:
    assert model_settings(load_settings([])).key == ModelSettings().key == "vits_hypersim_518"


def test_health_needs_no_key_and_names_the_models(http: httpx.Client, metric_request: Json) -> None:
    before = http.get("/health").json()["request_counter"]
    http.post("/metric_depth", json={**metric_request, "model_input_size": 70})
    health = http.get("/health").json()
    assert "toy_hypersim_70" in health["models_loaded"]
    assert health["total_model_instances"] == len(health["models_loaded"])
    assert health["request_counter"] == before + 1
    assert (health["status"], health["device"], health["worker_id"]) == ("healthy", "cpu", 0)
    assert (health["gpu_id"], health["gpu_count"]) == (None, 0)
    instance = {"model": "toy_hypersim_70", "device": "cpu", "backend": "torch", "precision": "fp32"}
    assert instance in health["model_instances"]


# What was added to it: other bodies and other answers.


def headers(content_type: str, accept: str = "application/octet-stream") -> dict[str, str]:
    return {"Content-Type": content_type, "Accept": accept}


def test_json_raw_and_multipart_bodies_give_the_same_depth(
    http: httpx.Client, metric_request: Json, jpeg: bytes
) -> None:
    as_json = http.post("/metric_depth", json=metric_request, headers={"Accept": "application/octet-stream"})
    as_raw = http.post("/metric_depth?max_depth=20", content=jpeg, headers=headers("image/jpeg"))
    as_form = http.post(
        "/metric_depth",
        files={"image": ("a.jpg", jpeg)},
        data={"max_depth": "20"},
        headers={"Accept": "application/octet-stream"},
    )
    assert as_json.content == as_raw.content == as_form.content
    assert len(as_raw.content) == 4 * 48 * 64


def test_every_depth_format_holds_the_same_depth(
    http: httpx.Client, jpeg: bytes, expected: NDArray[np.float32]
) -> None:
    def ask(accept: str) -> httpx.Response:
        return http.post("/metric_depth?max_depth=20", content=jpeg, headers=headers("image/jpeg", accept))

    raw, npy, png = ask("application/octet-stream"), ask("application/x-npy"), ask("image/png")
    for answer in (raw, npy, png):
        assert answer.headers["x-shape"] == "48,64"
        assert answer.headers["x-unit"] == "m"
        assert float(answer.headers["x-min"]) == pytest.approx(20 * expected.min(), rel=1e-4)
        assert float(answer.headers["x-max"]) == pytest.approx(20 * expected.max(), rel=1e-4)
        assert re.findall(r"(\w+);dur=[\d.]+", answer.headers["server-timing"]) == [
            "queue",
            "decode",
            "infer",
            "encode",
        ]
    np.testing.assert_allclose(np.frombuffer(raw.content, "<f4").reshape(48, 64), 20 * expected, rtol=1e-4)
    np.testing.assert_allclose(np.load(io.BytesIO(npy.content)), 20 * expected, rtol=1e-4)
    assert png.headers["x-scale"] == "1000"
    np.testing.assert_allclose(decode_depth_png16(png.content), 20 * expected, atol=6e-4)


def test_the_png_scale_is_the_clients_choice(http: httpx.Client, jpeg: bytes, expected: NDArray[np.float32]) -> None:
    path = "/metric_depth?max_depth=200&png_scale=300"
    answer = http.post(path, content=jpeg, headers=headers("image/jpeg", "image/png"))
    assert answer.headers["x-scale"] == "300"
    np.testing.assert_allclose(decode_depth_png16(answer.content, 300), 200 * expected, atol=2e-3)


def test_every_cloud_format_holds_the_same_points(http: httpx.Client, cloud_request: Json, jpeg: bytes) -> None:
    def ask(accept: str) -> bytes:
        return http.post("/pc", json=cloud_request, headers={"Accept": accept}).content

    points = np.frombuffer(ask("application/octet-stream"), "<f4").reshape(-1, 3)
    np.testing.assert_array_equal(decode_npy(ask("application/x-npy")), points)
    ply, pcd = ask("application/x-ply"), ask("application/x-pcd")
    kind = [("xyz", "<f4", 3), ("rgb", "u1", 3)]
    vertices = np.frombuffer(ply[ply.index(b"end_header\n") + 11 :], kind)
    np.testing.assert_array_equal(vertices["xyz"], points)
    np.testing.assert_array_equal(vertices["rgb"][:, ::-1], decode_image(jpeg).reshape(-1, 3))
    assert b"POINTS 3072\n" in pcd
    np.testing.assert_array_equal(np.frombuffer(pcd[pcd.index(b"binary\n") + 7 :], "<f4").reshape(-1, 4)[:, :3], points)


def test_intrinsics_stand_in_the_query_of_a_raw_body(http: httpx.Client, cloud_request: Json, jpeg: bytes) -> None:
    query = {"max_depth": 20, **cloud_request["camera_intrinsics"]}
    raw = http.post("/pc", params=query, content=jpeg, headers=headers("image/jpeg"))
    by_json = http.post("/pc", json=cloud_request, headers={"Accept": "application/octet-stream"})
    assert raw.content == by_json.content
    assert raw.headers["x-shape"] == "3072,3"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("image/*", "image/png"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0.5, application/x-npy", "application/x-npy"),
        ("application/json;q=0, */*", "application/octet-stream"),
    ],
)
def test_accept_is_followed_with_its_qualities(http: httpx.Client, jpeg: bytes, accept: str, chosen: str) -> None:
    answer = http.post("/metric_depth?max_depth=1", content=jpeg, headers=headers("image/jpeg", accept))
    assert answer.headers["content-type"] == chosen


def test_a_request_id_is_echoed_where_it_is_plain_and_replaced_where_not(running_bridge: RunningBridge) -> None:
    answer = httpx.get(f"{running_bridge.url}/readyz", headers={"X-Request-Id": "robot-7.frame:12"})
    assert answer.headers["x-request-id"] == "robot-7.frame:12"
    eventually(lambda: [line for line in running_bridge.log_lines() if line.get("request_id") == "robot-7.frame:12"])
    answer = httpx.get(f"{running_bridge.url}/readyz", headers={"X-Request-Id": "a b<script>"})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_the_documentation_describes_every_endpoint(http: httpx.Client) -> None:
    assert http.get("/docs").status_code == 200
    document = http.get("/openapi.json").json()
    assert {
        "/pc",
        "/metric_depth",
        "/rel_depth",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/models",
        "/session",
        "/tickets",
    } == set(document["paths"])
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    content = document["paths"]["/pc"]["post"]["responses"]["200"]["content"]
    assert {"application/json", "application/x-ply", "application/x-pcd"} < set(content)
    assert set(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}
    health = document["components"]["schemas"]["HealthReply"]
    assert set(health["required"]) == set(http.get("/health").json())


def test_the_documented_form_requires_what_the_route_does(http: httpx.Client, jpeg: bytes) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/pc", "/metric_depth", "/rel_depth"):
        form = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["image"]
        ways = [way["required"] for way in form.get("oneOf", [{"required": []}])]
        for names in ways:
            answer = http.post(path, files={"image": ("a.jpg", jpeg)}, data=dict.fromkeys(names, "50"))
            assert answer.status_code == 200, (path, names)
        if path == "/pc":
            assert http.post(path, files={"image": ("a.jpg", jpeg)}).status_code == 400


# Every error, in one form.


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_request"),
        (b"[]", "bad_request"),
        (b'{"max_depth": NaN}', "bad_request"),
        (b'{"max_depth": 1, "max_depth": 2}', "bad_request"),
        (b'{"max_depth": 1}', "bad_request"),
        (b'{"max_depth": 1, "image": "QQ==", "image_url": "http://example.com/a.jpg"}', "bad_request"),
        (b'{"max_depth": 1, "image": "*"}', "bad_base64"),
        (b'{"max_depth": 1, "image": "data:image/png,abc"}', "bad_base64"),
        (b'{"a": ' + 200 * b"[" + 200 * b"]" + b"}", "bad_request"),
        (b'{"a": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", "bad_request"),
        (b"\xff\xfe", "bad_request"),
    ],
)
def test_malformed_json_is_a_400(http: httpx.Client, body: bytes, code: str) -> None:
    answer = http.post("/metric_depth", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


def test_nesting_up_to_the_limit_is_taken(http: httpx.Client, metric_request: Json) -> None:
    nested: Any = 0
    for _ in range(99):
        nested = [nested]
    taken = http.post("/metric_depth", json={**metric_request, "extra": nested})
    assert_error(taken, 422, "invalid_value", "extra")  # its depth is none of its faults
    assert_error(http.post("/metric_depth", json={**metric_request, "extra": [nested]}), 400, "bad_request")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_depth": 0}, "max_depth"),
        ({"max_depth": -1}, "max_depth"),
        ({"max_depth": 1000.1}, "max_depth"),
        ({"max_depth": "20"}, "max_depth"),
        ({"max_depth": True}, "max_depth"),
        ({"encoder": "vitg"}, "encoder"),
        ({"dataset": "../../x"}, "dataset"),
        ({"dataset": "relative"}, "dataset"),
        ({"model_input_size": 55}, "model_input_size"),
        ({"model_input_size": 1037}, "model_input_size"),
        ({"model_input_size": 56.5}, "model_input_size"),
        ({"camera_intrinsics": {"fx": 0, "fy": 1, "cx": 1, "cy": 1}}, "camera_intrinsics.fx"),
        ({"camera_intrinsics": {"fx": 1, "fy": 1, "cx": None, "cy": 1}}, "camera_intrinsics.cx"),
        ({"camera_intrinsics": [1, 1, 1, 1]}, "camera_intrinsics"),
        ({"image": 1}, "image"),
    ],
)
def test_a_value_out_of_range_is_a_422_that_names_it(
    http: httpx.Client, cloud_request: Json, change: Json, param: str
) -> None:
    said = assert_error(http.post("/pc", json={**cloud_request, **change}), 422, "invalid_value", param)
    (value,) = change.values()
    if isinstance(value, (int, float)):
        assert str(value) in said


def test_names_that_are_unknown_are_repeated_where_they_are_plain(http: httpx.Client, metric_request: Json) -> None:
    for name, shown in (("vitg", "unknown encoder vitg"), ("<script>", "unknown encoder (a name of 8 characters)")):
        answer = http.post("/metric_depth", json={**metric_request, "encoder": name})
        assert shown in assert_error(answer, 422, "invalid_value", "encoder")


@pytest.mark.parametrize("pair", [("vits", "synthetic"), ("vitt", "hypersim"), ("vitl", "da3"), ("vits", "da3mono")])
def test_an_encoder_and_a_dataset_that_nobody_trained_together_are_the_clients_fault(
    serve_app: Callable[..., str], metric_request: Json, pair: tuple[str, str]
) -> None:
    url = serve_app(None, HeldEstimator().cache(), checkpoint=None, default_encoder="vits")
    request = {**metric_request, "encoder": pair[0], "dataset": pair[1]}
    del request["max_depth"]
    said = assert_error(httpx.post(f"{url}/rel_depth", json=request), 422, "invalid_value", "encoder")
    assert pair[0] in said
    assert pair[1] in said


@pytest.mark.parametrize(
    ("change", "param"),
    [({"camera_intrinsics": None}, "camera_intrinsics"), ({"camera_intrinsics": {"fx": 1}}, "camera_intrinsics.fy")],
)
def test_missing_intrinsics_are_named(http: httpx.Client, cloud_request: Json, change: Json, param: str) -> None:
    body = {name: value for name, value in {**cloud_request, **change}.items() if value is not None}
    assert_error(http.post("/pc", json=body), 400, "bad_request", param)


def test_an_infinite_number_in_a_query_is_refused(http: httpx.Client, jpeg: bytes) -> None:
    for value in ("inf", "nan", "1e999"):
        answer = http.post(f"/metric_depth?max_depth={value}", content=jpeg, headers=headers("image/jpeg"))
        assert_error(answer, 422, "invalid_value", "max_depth")


def test_a_parameter_given_twice_is_refused(http: httpx.Client, jpeg: bytes) -> None:
    answer = http.post("/metric_depth?max_depth=1&max_depth=2", content=jpeg, headers=headers("image/jpeg"))
    assert_error(answer, 400, "bad_request", "max_depth")


def test_a_png_that_cannot_hold_the_depth_is_refused(http: httpx.Client, jpeg: bytes) -> None:
    for query in ("max_depth=65.5", "max_depth=20&png_scale=0.05"):
        answer = http.post(f"/metric_depth?{query}", content=jpeg, headers=headers("image/jpeg", "image/png"))
        assert answer.status_code == 200
    for query in ("max_depth=65.6", "max_depth=20&png_scale=1e9", "max_depth=20&png_scale=0.049"):
        answer = http.post(f"/metric_depth?{query}", content=jpeg, headers=headers("image/jpeg", "image/png"))
        assert_error(answer, 422, "png_scale")


def test_what_no_format_can_hold_is_a_406(http: httpx.Client, cloud_request: Json, jpeg: bytes) -> None:
    assert_error(http.post("/pc", json=cloud_request, headers={"Accept": "image/png"}), 406, "not_acceptable", "Accept")
    answer = http.post("/rel_depth?dataset=relative", content=jpeg, headers=headers("image/jpeg", "image/png"))
    assert_error(answer, 406, "not_acceptable", "Accept")


def test_unknown_paths_methods_and_content_types_have_their_status(http: httpx.Client, jpeg: bytes) -> None:
    said = assert_error(http.get("/metric_dept"), 404, "not_found")
    assert said == "there is no path '/metric_dept'; did you mean /metric_depth? GET /docs shows all"
    for path in ("/pc/", "/x//pc", "/PC"):
        assert_error(http.post(path, json={}), 404, "not_found")
    answer = http.get("/pc")
    assert assert_error(answer, 405, "method_not_allowed") == "'/pc' takes POST, not 'GET'"
    assert answer.headers["allow"] == "POST"
    for content_type in ("image/svg+xml", "text/plain", "application/x-www-form-urlencoded"):
        answer = http.post("/metric_depth", content=jpeg, headers=headers(content_type))
        assert content_type in assert_error(answer, 415, "unsupported_media_type", "Content-Type")
    packed = {**headers("image/jpeg"), "Content-Encoding": "gzip"}
    assert_error(
        http.post("/metric_depth", content=jpeg, headers=packed), 415, "unsupported_media_type", "Content-Encoding"
    )


def test_forms_have_few_images_and_few_fields(http: httpx.Client, jpeg: bytes) -> None:
    too_many = [("image", ("a.jpg", jpeg))] * 17
    assert_error(http.post("/metric_depth", files=too_many), 400, "bad_request", "image")
    assert_error(http.post("/metric_depth", files={"max_depth": (None, "1")}), 400, "bad_request", "image")
    fields = {f"field{index}": "1" for index in range(10_000)}
    assert_error(http.post("/metric_depth", files={"image": ("a.jpg", jpeg)}, data=fields), 400, "bad_request")
    broken = headers("multipart/form-data")
    assert_error(http.post("/metric_depth", content=b"--x", headers=broken), 400, "bad_request", "Content-Type")


def test_an_image_that_would_make_too_many_tokens_is_refused(http: httpx.Client) -> None:
    image = encoded(".png", np.zeros((100, 700, 3), np.uint8))
    query = "max_depth=1&model_input_size=1036"
    answer = http.post(f"/metric_depth?{query}", content=image, headers=headers("image/png"))
    assert_error(answer, 422, "image_size")
    assert "take a smaller input size" in answer.json()["detail"]


def test_an_undecodable_or_oversized_image_is_a_422(http: httpx.Client, jpeg: bytes) -> None:
    long = encoded(".png", np.zeros((1, 4000), np.uint8))
    for image, code in ((jpeg[:-200], "undecodable_image"), (b"", "undecodable_image"), (long, "image_size")):
        answer = http.post("/metric_depth?max_depth=1", content=image, headers=headers("image/jpeg"))
        assert_error(answer, 422, code)


class StubFetcher:
    """Stands for the network: gives an image, or raises."""

    def __init__(self, outcome: bytes | Exception) -> None:
        self.outcome = outcome

    async def fetch(self, url: str) -> bytes:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def aclose(self) -> None:
        pass


def test_an_image_url_is_fetched(serve_app: Callable[..., str], jpeg: bytes) -> None:
    url = serve_app(StubFetcher(jpeg))
    answer = httpx.post(f"{url}/metric_depth", json={"image_url": "http://camera/a.jpg", "max_depth": 1})
    assert answer.json()["shape"] == [48, 64]


def test_a_url_that_is_refused_is_a_403_and_a_failing_host_a_424(serve_app: Callable[..., str]) -> None:
    body = {"image_url": "http://camera/secret?token=1", "max_depth": 1}
    for outcome, status, code in (
        (UrlRefused("10.0.0.1 is private"), 403, "image_url_refused"),
        (ImageHostFailed("camera said /secret"), 424, "image_host_failed"),
    ):
        answer = httpx.post(f"{serve_app(StubFetcher(outcome))}/metric_depth", json=body)
        message = assert_error(answer, status, code)
        assert "10.0.0.1" not in message
        assert "secret" not in message


def test_nothing_is_fetched_for_a_request_that_is_refused_anyway(serve_app: Callable[..., str]) -> None:
    url = serve_app(StubFetcher(AssertionError("fetched")))
    cases: tuple[tuple[str, Json, int], ...] = (
        ("/pc", {}, 400),
        ("/metric_depth", {"max_depth": -1}, 422),
        ("/metric_depth", {"max_depth": 1, "dataset": "relative"}, 422),
    )
    for path, body, status in cases:
        answer = httpx.post(f"{url}{path}", json={"image_url": "http://camera/a.jpg", **body})
        assert answer.status_code == status


class HangingFetcher(StubFetcher):
    """Stands for hosts that send nothing until they are let go."""

    def __init__(self, outcome: bytes) -> None:
        super().__init__(outcome)
        self.may_answer = threading.Event()
        self.asked = 0

    async def fetch(self, url: str) -> bytes:
        self.asked += 1
        while not self.may_answer.is_set():
            await asyncio.sleep(0.01)
        return await super().fetch(url)


def test_slow_hosts_of_image_urls_keep_nobody_else_out(
    serve_app: Callable[..., str], jpeg: bytes, metric_request: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_FETCHES", 2)
    hosts = HangingFetcher(jpeg)
    url = serve_app(hosts, max_waiting=1)
    by_url = {"image_url": "http://camera/a.jpg", "max_depth": 1}
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(httpx.post, f"{url}/metric_depth", json=by_url, timeout=30) for _ in range(2)]
        try:
            eventually(lambda: hosts.asked == 2)
            third = httpx.post(f"{url}/metric_depth", json=by_url)
            assert "fetched" in assert_error(third, 503, "queue_full")
            assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200
        finally:
            hosts.may_answer.set()
        assert [answer.result().status_code for answer in slow] == [200, 200]


def failing_cache(error: BaseException) -> ModelCache:
    def load(_: Any) -> DepthEstimator:
        raise error

    return ModelCache(devices=["cpu"], load=load)


def test_running_out_of_memory_is_a_503_and_the_next_request_works(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    outcomes: list[Exception] = [OutOfMemory("cpu has no memory"), MemoryError()]

    def load(settings: Any) -> DepthEstimator:
        if outcomes:
            raise outcomes.pop()
        return DepthEstimator.from_settings(settings)

    url = serve_app(None, ModelCache(devices=["cpu"], load=load))
    for _ in range(2):
        answer = httpx.post(f"{url}/metric_depth", json=metric_request)
        assert_error(answer, 503, "out_of_memory")
        assert answer.headers["retry-after"] == "5"
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200


def test_an_unforeseen_error_is_opaque_and_logged_with_the_request_id(
    serve_app: Callable[..., str], metric_request: Json, caplog: pytest.LogCaptureFixture
) -> None:
    url = serve_app(None, failing_cache(ZeroDivisionError("/secret/path")))
    answer = httpx.post(f"{url}/metric_depth", json=metric_request, headers={"X-Request-Id": "find-me"})
    message = assert_error(answer, 500, "internal")
    assert "secret" not in answer.text
    assert "request_id" in message
    (record,) = [r for r in caplog.records if r.exc_info]
    assert getattr(record, "fields")["request_id"] == "find-me"  # noqa: B009


def test_settings_that_fail_when_a_model_is_loaded_are_not_the_clients_fault(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    url = serve_app(None, failing_cache(SettingsError("checkpoint /secret/path")))
    answer = httpx.post(f"{url}/metric_depth", json=metric_request)
    assert "secret" not in assert_error(answer, 500, "misconfigured")


def test_an_encoder_without_weights_of_its_own_is_known_only_where_it_can_be_had(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    held = HeldEstimator()
    held.released.set()
    with_weights = ["vits", "vitb", "vitl", "vitt"]
    cases: tuple[tuple[Json, list[str]], ...] = (
        ({"checkpoint": None, "default_encoder": "vits"}, with_weights),
        ({"checkpoint": None}, [*with_weights, "toy"]),
        ({"default_encoder": "vits"}, [*with_weights, "toy"]),
    )
    for changes, known in cases:
        url = serve_app(None, held.cache(), **changes)
        properties = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]["MetricDepthRequest"]
        assert properties["properties"]["encoder"]["anyOf"][0]["enum"] == known
        answer = httpx.post(f"{url}/metric_depth", json={**metric_request, "encoder": "toy"})
        if "toy" in known:
            assert answer.status_code == 200
        else:
            assert_error(answer, 422, "invalid_value", "encoder")


def test_probes_answer_head_as_they_answer_get(http: httpx.Client) -> None:
    for path in ("/health", "/livez", "/readyz", "/metrics"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_missing_and_corrupt_checkpoints_are_a_503_that_names_no_path(
    start_bridge: Callable[..., RunningBridge], toy_folder: Path, tmp_path: Path, metric_request: Json
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    good = (toy_folder / checkpoint_name("toy", "hypersim")).read_bytes()
    running = start_bridge(untrained=False, env={CHECKPOINTS_VARIABLE: str(weights)})
    with httpx.Client(base_url=running.url) as client:
        file = weights / checkpoint_name("toy", "vkitti")
        request = {**metric_request, "dataset": "vkitti", "model_input_size": 56}
        for content, code in ((None, "weights_missing"), (good[:999], "weights_unusable"), (b"no", "weights_unusable")):
            if content is not None:
                file.write_bytes(content)
            answer = client.post("/metric_depth", json=request)
            assert_error(answer, 503, code)
            assert str(tmp_path) not in answer.text
            assert "encoder toy with dataset vkitti" in answer.json()["detail"]
            assert "retry-after" not in answer.headers  # weights do not come by themselves
        file.write_bytes((toy_folder / file.name).read_bytes())
        assert client.post("/metric_depth", json=request).status_code == 200


def test_a_request_cannot_name_a_checkpoint(http: httpx.Client, metric_request: Json) -> None:
    for option in ("checkpoint", "device", "download"):
        body = {**metric_request, option: "/etc/passwd"}
        message = assert_error(http.post("/metric_depth", json=body), 422, "invalid_value", option)
        assert "unknown option" in message


def test_an_unknown_default_model_is_refused_at_start() -> None:
    settings = toy_settings(default_encoder="vitx")
    with pytest.raises(SettingsError, match="vitx"):
        create_app(create_cache(settings, ["cpu"]), settings)
    for preload in ("vits", "vits:hypersim:big", "vitx:hypersim:518", "vits:hypersim:5000"):
        settings = toy_settings(preload=(preload,))
        with pytest.raises(SettingsError, match="vit"):
            create_app(create_cache(settings, ["cpu"]), settings)
    settings = toy_settings(default_encoder="vitl", default_dataset="da3")
    with pytest.raises(SettingsError, match="'da3' has no encoder 'vitl'; it has: vits, vitb"):
        create_app(create_cache(settings, ["cpu"]), settings)


def test_missing_weights_of_the_default_model_are_told_at_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DEPTH_ANYTHING_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    warn_without_weights(toy_settings())
    assert caplog.text == ""
    warn_without_weights(toy_settings(checkpoint=None, default_encoder="vits", default_dataset="vkitti"))
    assert "no weights for the default model vits_vkitti" in caplog.text
