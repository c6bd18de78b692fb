"""The camera that a request describes: lenses, fields of view, and models whose metres follow from it."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from hostile_images import PNG
from numpy.typing import NDArray
from running_bridge import RunningBridge

from bridge.codec import decode_image, decode_npy
from bridge.server.replies import Result, encode
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.messages.rectification import Rectification
from depth_anything_ros.serving.model_cache import ModelCache

Json = dict[str, Any]
PLAIN: Json = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}
D = [0.1, -0.05, 0.001, -0.002, 0.01]
SKIES: list[Json] = [{}, {"sky": "inf"}, {"sky": "fill"}]


@pytest.fixture(scope="module")
def client(running_bridge: RunningBridge) -> Any:
    with httpx.Client(base_url=running_bridge.url, timeout=30) as client:
        yield client


def ask(client: httpx.Client, path: str, accept: str = "application/x-npy", **fields: Any) -> httpx.Response:
    body = {"image": base64.b64encode(PNG).decode(), **fields}
    return client.post(path, json=body, headers={"Accept": accept})


def points_of(answer: httpx.Response) -> NDArray[np.float32]:
    assert answer.status_code == 200, answer.text[:300]
    return decode_npy(answer.content)


def expected(client: httpx.Client, camera: CameraModel) -> NDArray[np.float32]:
    return np.asarray(camera.back_project(points_of(ask(client, "/metric_depth"))).reshape(-1, 3))


def refusal(answer: httpx.Response, param: str) -> str:
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.text[:300]
    return str(answer.json()["detail"])


@pytest.mark.parametrize(
    ("lens", "d"),
    [("plumb_bob", D), ("radtan", D[:4]), ("rational_polynomial", [*D, 0.01, 0.0, 0.0]), ("equidistant", D[:4])],
)
def test_points_honour_the_lens(client: httpx.Client, lens: str, d: list[float]) -> None:
    known = {"radtan": "plumb_bob"}.get(lens, lens)
    camera = CameraModel(**PLAIN, width=64, height=48, distortion_model=known, distortion=tuple(d))
    points = points_of(ask(client, "/pc", camera_intrinsics={**PLAIN, "distortion_model": lens, "d": d}))
    np.testing.assert_allclose(points, expected(client, camera), rtol=1e-5, atol=1e-6)
    assert np.abs(points - expected(client, CameraModel(**PLAIN, width=64, height=48))).max() > 0.01


def test_a_lens_may_stand_in_a_query(client: httpx.Client) -> None:
    query = {**PLAIN, "distortion_model": "plumb_bob", "d": ",".join(map(str, D))}
    answer = client.post("/pc", params=query, content=PNG, headers={"Accept": "application/x-npy"})
    body = ask(client, "/pc", camera_intrinsics={**PLAIN, "distortion_model": "plumb_bob", "d": D})
    assert points_of(answer).tobytes() == points_of(body).tobytes()


def test_a_lens_of_zeros_is_no_lens(client: httpx.Client) -> None:
    without = points_of(ask(client, "/pc", camera_intrinsics=PLAIN))
    zeros = points_of(ask(client, "/pc", camera_intrinsics={**PLAIN, "distortion_model": "plumb_bob", "d": [0] * 5}))
    assert without.tobytes() == zeros.tobytes()


def test_a_lens_that_is_not_known_is_refused_by_name(client: httpx.Client) -> None:
    answer = ask(client, "/pc", camera_intrinsics={**PLAIN, "distortion_model": "bent", "d": D})
    assert "bent" in refusal(answer, "camera_intrinsics")
    assert "plumb_bob" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "camera"),
    [
        ({"fov_deg": 60}, CameraModel.from_fov(60, 64, 48)),
        ({"focal_px": 50}, CameraModel(50, 50, 31.5, 23.5, 64, 48)),
    ],
)
def test_a_field_of_view_or_a_focal_length_is_a_camera_too(
    client: httpx.Client, fields: Json, camera: CameraModel
) -> None:
    np.testing.assert_allclose(points_of(ask(client, "/pc", **fields)), expected(client, camera), rtol=1e-5)


@pytest.mark.parametrize("fov_deg", [5e-324, 1e-310, 180 - 1e-14])
def test_a_field_of_view_that_makes_no_camera_is_refused_or_answered(client: httpx.Client, fov_deg: float) -> None:
    for dataset in ("hypersim", "da3metric"):
        answer = ask(client, "/pc", fov_deg=fov_deg, dataset=dataset)
        assert answer.status_code in (200, 422), answer.text


def test_a_camera_is_described_in_one_way(client: httpx.Client) -> None:
    refusal(ask(client, "/pc", fov_deg=60, focal_px=50), "focal_px")
    answer = ask(client, "/pc")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "camera_intrinsics")
    assert "fov_deg" in answer.json()["detail"]


# Depth Anything 3.


@pytest.mark.parametrize(
    ("fields", "focal"),
    [
        ({"camera_intrinsics": PLAIN}, (60.0, 61.0)),
        ({"focal_px": 50}, (50.0, 50.0)),
        ({"fov_deg": 60}, (CameraModel.from_fov(60, 64, 48).fx,) * 2),
    ],
)
@pytest.mark.parametrize("sky", ["inf", "fill"])
def test_metres_follow_from_the_focal_length(
    client: httpx.Client, fields: Json, focal: tuple[float, float], sky: str
) -> None:
    answer = ask(client, "/metric_depth", dataset="da3metric", sky=sky, **fields)
    estimator = DepthEstimator.load("toy", "da3metric", "untrained", 56, "cpu", backend="torch")
    depth = estimator.estimate(decode_image(PNG), focal_px=focal)
    assert depth.sky is not None
    values = np.where(depth.sky, np.inf, depth.values) if sky == "inf" else depth.values
    np.testing.assert_allclose(points_of(answer), values, rtol=1e-4)
    assert float(answer.headers["x-focal-px"]) == pytest.approx(sum(focal) / 2, rel=1e-4)
    assert (answer.headers["x-unit"], answer.headers["x-kind"]) == ("m", "metric")
    assert "x-max-depth" not in answer.headers


@pytest.mark.parametrize("filled_with", [9.0, 0.5, np.inf])
def test_least_and_largest_depth_are_measured_however_the_sky_is_filled(filled_with: float) -> None:
    values = np.array([[filled_with, filled_with], [2.0, 5.0]], np.float32)
    depth = DepthMap(values, "metric", "toy_da3metric_56", np.array([[True, True], [False, False]]))
    result = Result(depth, np.zeros((2, 2, 3), np.uint8), None, 1000.0, None, "m")
    body, headers = encode(result, "application/json")
    assert (headers["X-Min"], headers["X-Max"]) == ("2", "5")
    assert (json.loads(body)["min"], json.loads(body)["max"]) == (2, 5)
    sky_alone = replace(result, depth=replace(depth, sky=np.ones((2, 2), np.bool_)))
    body, headers = encode(sky_alone, "application/json")
    assert (headers["X-Min"], headers["X-Max"]) == ("nan", "nan")
    assert (json.loads(body)["min"], json.loads(body)["max"]) == (None, None)


@pytest.mark.parametrize(
    ("path", "dataset"), [("/metric_depth", "hypersim"), ("/pc", "hypersim"), ("/rel_depth", "da3")]
)
def test_how_the_sky_is_filled_changes_nothing_where_no_model_tells_it(
    client: httpx.Client, path: str, dataset: str
) -> None:
    plain, *others = (ask(client, path, dataset=dataset, fov_deg=60, **sky) for sky in SKIES)
    for answer in others:
        assert answer.status_code == 200
        assert answer.content == plain.content


def test_without_a_focal_length_there_are_no_metres(client: httpx.Client) -> None:
    assert "fov_deg" in refusal(ask(client, "/metric_depth", dataset="da3metric"), "camera_intrinsics")
    refusal(ask(client, "/metric_depth", dataset="da3metric", focal_px=50, max_depth=10), "max_depth")
    assert "/metric_depth" in refusal(ask(client, "/rel_depth", dataset="da3metric"), "dataset")
    assert points_of(ask(client, "/pc", dataset="da3metric", focal_px=50)).shape == (48 * 64, 3)


@pytest.mark.parametrize(("dataset", "array"), [("da3mono", "sky"), ("da3", "confidence")])
def test_what_a_model_tells_beside_depth_is_in_the_json(client: httpx.Client, dataset: str, array: str) -> None:
    answer = ask(client, "/rel_depth", "application/json", dataset=dataset, sky="fill")
    body, kind = answer.json(), np.uint8 if array == "sky" else np.float32
    found = np.frombuffer(base64.b64decode(body[array]), kind).reshape(body["shape"])
    estimator = DepthEstimator.load("toy", dataset, "untrained", 56, "cpu", backend="torch")
    np.testing.assert_allclose(found, getattr(estimator.estimate(decode_image(PNG)), array), rtol=1e-3)
    assert (answer.headers["x-kind"], answer.headers["x-unit"]) == ("scale_invariant", "none")
    assert "/rel_depth" in refusal(ask(client, "/metric_depth", dataset=dataset, fov_deg=60), "dataset")
    png = ask(client, "/rel_depth", "image/png", dataset=dataset)
    assert png.status_code == 406


def test_points_up_to_a_factor_have_no_unit(client: httpx.Client) -> None:
    answer = ask(client, "/pc", dataset="da3mono", fov_deg=60)
    assert (answer.headers["x-kind"], answer.headers["x-unit"]) == ("scale_invariant", "none")
    assert points_of(answer).shape == (48 * 64, 3)
    body = ask(client, "/pc", "application/json", dataset="da3mono", fov_deg=60).json()
    assert (body["unit"], "camera_intrinsics" in body) == ("none", False)
    for media in ("application/x-ply", "application/x-pcd"):
        assert (
            b"no unit: the points are known up to a factor"
            in ask(client, "/pc", media, dataset="da3mono", fov_deg=60).content
        )
    refusal(ask(client, "/pc", dataset="da3mono", fov_deg=60, max_depth=10), "max_depth")
    answer = ask(client, "/pc", dataset="da3mono")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "camera_intrinsics"), "it estimates none"
    assert "unit" not in ask(client, "/pc", "application/json", fov_deg=60).json()


def test_a_server_of_depth_up_to_a_factor_gives_its_points_to_those_alone_who_name_it(
    serve_app: Callable[..., str],
) -> None:
    with httpx.Client(base_url=serve_app(default_dataset="da3mono"), timeout=60) as client:
        assert "no metres" in refusal(ask(client, "/pc", fov_deg=60), "dataset")
        assert ask(client, "/pc", dataset="da3mono", fov_deg=60).headers["x-unit"] == "none"


@pytest.mark.parametrize("focal_px", [52.5, None])
def test_points_without_a_camera_take_the_focal_length_that_the_model_estimates_and_say_so(
    serve_app: Callable[..., str], focal_px: float | None
) -> None:
    values = np.full((48, 64), 3.0, np.float32)
    depth = DepthMap(values, "scale_invariant", "toy_da3_56", focal_px=focal_px, is_focal_estimated=True)
    backend = SimpleNamespace(name="held", precision="fp32")
    estimator = SimpleNamespace(estimate=lambda *_: depth, weight_bytes=0, backend=backend)
    cache = ModelCache(devices=["cpu"], load=lambda _: cast(DepthEstimator, estimator))
    with httpx.Client(base_url=serve_app(cache=cache), timeout=60) as client:
        answer = ask(client, "/pc", dataset="da3")
        if focal_px is None:
            assert "no focal length" in refusal(answer, "fov_deg")
            return
        camera = CameraModel(focal_px, focal_px, 31.5, 23.5, 64, 48)
        np.testing.assert_allclose(points_of(answer), camera.back_project(values).reshape(-1, 3), rtol=1e-6)
        said = answer.headers
        assert (said["x-focal-px"], said["x-focal-source"], said["x-unit"]) == ("52.5", "estimate", "none")
        assert said["x-intrinsics"] == "52.5,52.5,31.5,23.5"
        body = ask(client, "/pc", "application/json", dataset="da3").json()
        assert (body["focal_source"], body["camera_intrinsics"]["fx"], body["unit"]) == ("estimate", 52.5, "none")
        ply = ask(client, "/pc", "application/x-ply", dataset="da3").content
        assert b"comment focal length 52.5 px is the model's estimate\n" in ply
        given = ask(client, "/pc", dataset="da3", fov_deg=60)
        assert "x-intrinsics" not in given.headers


# Undistort.

LENS = {**PLAIN, "distortion_model": "plumb_bob", "d": [-0.2, 0.03, 0.0, 0.0, 0.0]}
LENS_CAMERA = CameraModel(60, 61, 31.5, 23.5, 64, 48, "plumb_bob", (-0.2, 0.03, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("path", ["/pc", "/metric_depth", "/rel_depth"])
@pytest.mark.parametrize("focal_px", [None, 90.0])
def test_an_image_is_rectified_before_the_network_and_the_answer_tells_its_camera(
    client: httpx.Client, path: str, focal_px: float | None
) -> None:
    asked: Json = {} if focal_px is None else {"undistort_focal_px": focal_px}
    answer = ask(client, path, camera_intrinsics=LENS, undistort=True, **asked)
    rectification = Rectification(LENS_CAMERA, focal_px)
    pinhole = rectification.camera
    estimator = DepthEstimator.load("toy", "hypersim", "untrained", 56, "cpu", backend="torch")
    max_depth = 1.0 if path == "/rel_depth" else None  # there the network's output is left as it is
    depth = estimator.estimate(rectification(decode_image(PNG)), max_depth).values
    values = depth if path != "/pc" else pinhole.back_project(depth).reshape(-1, 3)
    np.testing.assert_allclose(points_of(answer), values, rtol=1e-4, atol=1e-5)
    said = [float(number) for number in answer.headers["x-intrinsics"].split(",")]
    assert said == [pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy]
    body = ask(client, path, "application/json", camera_intrinsics=LENS, undistort=True, **asked).json()
    assert list(body["camera_intrinsics"].values()) == said
    query = {**LENS, "d": "-0.2,0.03,0,0,0", "undistort": "true", **asked}
    flat = client.post(path, params=query, content=PNG, headers={"Accept": "application/x-npy"})
    assert points_of(flat).tobytes() == points_of(answer).tobytes()


def test_metres_of_a_rectified_image_follow_the_pinholes_focal_length(client: httpx.Client) -> None:
    answer = ask(client, "/metric_depth", dataset="da3metric", sky="fill", camera_intrinsics=LENS, undistort=True)
    pinhole = Rectification(LENS_CAMERA).camera
    assert float(answer.headers["x-focal-px"]) == pytest.approx((pinhole.fx + pinhole.fy) / 2)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"fov_deg": 60, "undistort": True}, "undistort"),
        ({"camera_intrinsics": LENS, "undistort_focal_px": 90}, "undistort_focal_px"),
        ({"camera_intrinsics": LENS, "undistort": True, "undistort_focal_px": 10}, "undistort"),
        ({"camera_intrinsics": {**LENS, "cx": 5000}, "undistort": True}, "undistort"),
        ({"camera_intrinsics": LENS, "undistort": "yes"}, "undistort"),
    ],
)
def test_what_cannot_be_rectified_is_refused(client: httpx.Client, fields: Json, param: str) -> None:
    for path in ("/pc", "/rel_depth"):
        refusal(ask(client, path, **fields), param)


@pytest.mark.parametrize(
    ("fields", "focal_px"),
    [({"focal_px": 80}, 80.0), ({"fov_deg": 90}, 32.0), ({"camera_intrinsics": PLAIN}, 60.5)],
)
@pytest.mark.parametrize("dataset", ["da3", "da3mono"])
def test_depth_up_to_a_factor_has_the_focal_length_that_is_given(
    client: httpx.Client, dataset: str, fields: Json, focal_px: float
) -> None:
    answer = ask(client, "/rel_depth", dataset=dataset, **fields)
    assert points_of(answer).shape == (48, 64)
    said = answer.headers
    assert float(said["x-focal-px"]) == pytest.approx(focal_px)
    assert said["x-focal-source"] == "given"
    assert (said["x-unit"], "x-intrinsics" in said) == ("none", False)
    body = ask(client, "/rel_depth", "application/json", dataset=dataset, **fields).json()
    assert (body["focal_px"], body["focal_source"]) == (pytest.approx(focal_px), "given")
    assert ask(client, "/pc", dataset=dataset, **fields).headers["x-focal-source"] == "given"


def test_every_endpoint_takes_one_camera(client: httpx.Client) -> None:
    for path in ("/pc", "/metric_depth", "/rel_depth"):
        refusal(ask(client, path, focal_px=80, fov_deg=60), "focal_px")


def test_a_model_that_does_not_exist_is_refused_by_name(client: httpx.Client) -> None:
    message = refusal(ask(client, "/rel_depth", dataset="da3", encoder="vitl"), "encoder")
    assert "vits, vitb" in message


def test_the_models_say_what_can_be_asked_for(client: httpx.Client) -> None:
    ask(client, "/metric_depth")
    body = client.get("/models").json()
    models = {(model["encoder"], model["dataset"]): model for model in body["models"]}
    assert body["default"] == "toy_hypersim_56"
    assert "toy_hypersim_56" in models["toy", "hypersim"]["loaded"]
    assert {model["weights"] for model in models.values()} == {"untrained"}
    assert (models["vits", "hypersim"]["license"], models["vitl", "hypersim"]["license"]) == (
        "Apache-2.0",
        "CC-BY-NC-4.0",
    )
    assert (models["vitl", "da3metric"]["license"], models["vitl", "da3metric"]["needs_focal"]) == ("Apache-2.0", True)
    assert (models["toy", "vkitti"]["max_depth"], models["toy", "da3metric"]["max_depth"]) == (80, None)
    assert ("vitl", "da3") not in models
