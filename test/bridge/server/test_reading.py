"""How requests are read: what is plainly meant is taken, what is not is refused by its name."""

import base64
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from hostile_images import JPEG, PNG, zeros
from running_bridge import RunningBridge

Json = dict[str, Any]
RAW = {"Accept": "application/octet-stream"}
DEPTH_BYTES = 4 * 48 * 64


@pytest.fixture(scope="module")
def client(running_bridge: RunningBridge) -> Any:
    with httpx.Client(base_url=running_bridge.url, timeout=30, headers=RAW) as client:
        yield client


def refusal(answer: httpx.Response, status: int, param: str | None) -> str:
    assert answer.status_code == status, answer.text[:300]
    assert answer.json()["error"]["param"] == param
    return str(answer.json()["detail"])


def as_json(**fields: Any) -> Json:
    return {"json": {"image": base64.b64encode(PNG).decode(), **fields}}


# Different ways to say the same.


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "image/jpg", "IMAGE/PNG; q=1", "application/octet-stream", "binary/octet-stream", "", None],
)
def test_an_image_is_read_whatever_its_type_is_called(client: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/metric_depth", content=PNG, headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, DEPTH_BYTES)


def test_json_without_a_content_type_is_read(client: httpx.Client) -> None:
    body = b' {"image": "' + base64.b64encode(PNG) + b'"}'
    assert client.post("/metric_depth", content=body).status_code == 200


SPELLINGS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: text.replace("+", "-").replace("/", "_"),
    lambda text: text.rstrip("="),
]
DATA_URLS: list[Callable[[str], str]] = [
    lambda text: f"data:image/png;base64,{text}",
    lambda text: f"DATA:image/png;BASE64,{text}",
]


@pytest.mark.parametrize("write", SPELLINGS + DATA_URLS)
def test_base64_is_read_in_its_usual_spellings(client: httpx.Client, write: Callable[[str], str]) -> None:
    text = write(base64.b64encode(PNG).decode())
    assert len(client.post("/metric_depth", json={"image": text}).content) == DEPTH_BYTES


@pytest.mark.parametrize("write", DATA_URLS)
def test_a_data_url_is_a_url(client: httpx.Client, write: Callable[[str], str]) -> None:
    text = write(base64.b64encode(PNG).decode())
    assert len(client.post("/metric_depth", json={"image_url": text}).content) == DEPTH_BYTES


def test_a_data_url_may_be_longer_than_an_address(client: httpx.Client) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    text = "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", noise)[1].tobytes()).decode()
    assert len(text) > 8192
    for send in ({"json": {"image_url": text}}, {"files": {"image_url": (None, text)}}):
        answer = client.post("/metric_depth", **send)
        assert (answer.status_code, len(answer.content)) == (200, DEPTH_BYTES), answer.text[:300]
    address = "http://camera.example/" + "x" * 8192
    refusal(client.post("/metric_depth", json={"image_url": address}), 422, "image_url")


@pytest.mark.parametrize("size", [70, 70.0])
def test_a_whole_number_may_be_written_with_a_point(client: httpx.Client, size: float) -> None:
    for answer in (
        client.post("/metric_depth", **as_json(model_input_size=size)),
        client.post(f"/metric_depth?model_input_size={size}", content=PNG),
    ):
        assert answer.headers["x-model-key"] == "toy_hypersim_70"


def test_two_accept_lines_are_one_list(client: httpx.Client) -> None:
    lines = [("Accept", "text/html"), ("Accept", "application/x-npy")]
    answer = client.post("/metric_depth", content=PNG, headers=lines)
    assert answer.headers["content-type"] == "application/x-npy"


# Options in the query and in the body.


@pytest.mark.parametrize("send", [as_json(), {"files": {"image": ("a.png", PNG)}}, {"content": PNG}])
def test_options_of_the_query_count_for_every_body(client: httpx.Client, send: Json) -> None:
    answer = client.post("/metric_depth?model_input_size=70&max_depth=7", **send)
    assert answer.headers["x-model-key"] == "toy_hypersim_70"
    assert answer.headers["x-max-depth"] == "7"


def test_null_in_the_body_leaves_an_option_to_the_query(client: httpx.Client) -> None:
    answer = client.post("/metric_depth?max_depth=7", **as_json(max_depth=None, camera_intrinsics=None))
    assert answer.headers["x-max-depth"] == "7"


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_none_is_named_in_a_query(client: httpx.Client, number: str) -> None:
    answer = client.post(f"/pc?fx={number}&fy=60&cx=32&cy=24", content=PNG)
    refusal(answer, 422, "camera_intrinsics.fx")


def test_intrinsics_that_are_no_object_are_told_their_shape(client: httpx.Client) -> None:
    for answer in (
        client.post("/pc", **as_json(camera_intrinsics=[60, 60, 32, 24])),
        client.post("/pc", files={"image": ("a.png", PNG)}, data={"camera_intrinsics": '{"fx": 60}'}),
    ):
        assert "an object with fx, fy, cx and cy" in refusal(answer, 422, "camera_intrinsics")


def test_options_of_query_and_body_may_agree_and_must_not_differ(client: httpx.Client) -> None:
    assert client.post("/metric_depth?max_depth=7.0", **as_json(max_depth=7)).headers["x-max-depth"] == "7"
    message = refusal(client.post("/metric_depth?max_depth=8", **as_json(max_depth=7)), 422, "max_depth")
    assert "different" in message
    form: Json = {"files": {"image": ("a.png", PNG)}, "data": {"max_depth": "7"}}
    refusal(client.post("/metric_depth?max_depth=8", **form), 422, "max_depth")


def test_intrinsics_of_the_query_complete_those_of_the_body(client: httpx.Client) -> None:
    whole = client.post("/pc", **as_json(camera_intrinsics={"fx": 60, "fy": 61, "cx": 31.5, "cy": 23.5}))
    parts = client.post("/pc?fx=60&fy=61", **as_json(camera_intrinsics={"cx": 31.5, "cy": 23.5}))
    assert whole.content == parts.content
    refusal(client.post("/pc?fx=62", **as_json(camera_intrinsics={"fx": 60})), 422, "fx")


@pytest.mark.parametrize(
    ("name", "param", "meant"),
    [
        ("model_inputsize", "model_inputsize", "model_input_size"),
        ("maxdepth", "maxdepth", "max_depth"),
        ("Encoder", "Encoder", "encoder"),
        ("zzz", "zzz", ""),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_right_one(
    client: httpx.Client, name: str, param: str, meant: str
) -> None:
    form: Json = {"files": {"image": ("a.png", PNG)}, "data": {name: "1"}}
    for answer in (
        client.post("/metric_depth", **as_json(**{name: 1})),
        client.post(f"/metric_depth?{name}=1", content=PNG),
        client.post("/metric_depth", **form),
    ):
        message = refusal(answer, 422, param)
        assert (f"did you mean {meant}?" in message) == bool(meant)


@pytest.mark.parametrize(("name", "meant"), [("k1", ""), ("distortionmodel", "distortion_model"), ("f_x", "fx")])
def test_an_unknown_name_among_the_intrinsics_is_named(client: httpx.Client, name: str, meant: str) -> None:
    intrinsics = {"fx": 60, "fy": 60, "cx": 32, "cy": 24, name: 0.1}
    message = refusal(client.post("/pc", **as_json(camera_intrinsics=intrinsics)), 422, f"camera_intrinsics.{name}")
    assert (f"did you mean {meant}?" in message) == bool(meant)


def test_an_unknown_name_of_a_model_gets_the_nearest_right_one(client: httpx.Client) -> None:
    assert "did you mean hypersim?" in refusal(client.post("/metric_depth?dataset=hyper", content=PNG), 422, "dataset")


def test_options_of_another_endpoint_do_no_harm(client: httpx.Client) -> None:
    everything = as_json(max_depth=7, fov_deg=60, png_scale=100)
    for path in ("/pc", "/metric_depth", "/rel_depth"):
        assert client.post(path, **everything).status_code == 200


# Forms.

IMAGE = ("image", ("a.png", PNG, "image/png"))
FORMS: dict[str, list[tuple[str, Any]]] = {
    "part image": [IMAGE],
    "part file": [("file", ("a.png", PNG, "image/png"))],
    "an empty second file": [IMAGE, ("mask", ("", b"", "application/octet-stream"))],
    "without a file name": [("image", (None, PNG, "image/png"))],
    "base64 as text": [("image", (None, base64.b64encode(PNG).decode()))],
    "a data URL as text": [("image_url", (None, "data:image/png;base64," + base64.b64encode(PNG).decode()))],
}
BAD_FORMS: dict[str, tuple[list[tuple[str, Any]], int, str]] = {
    "a second file": ([IMAGE, ("mask", ("b.png", PNG, "image/png"))], 400, "mask"),
    "a field of 2 kB": ([IMAGE, ("note", (None, "x" * 2048))], 400, "note"),
    "an unknown field": ([IMAGE, ("note", (None, "x"))], 422, "note"),
    "no image": ([("max_depth", (None, "1"))], 400, "image"),
    "only an empty file": ([("image", ("", b"", "image/png"))], 400, "image"),
    "image twice": ([IMAGE, ("image_url", (None, "http://camera.example/a.png"))], 400, "image"),
}


@pytest.mark.parametrize("parts", FORMS.values(), ids=FORMS)
def test_a_form_is_read_where_it_is_plain_what_is_meant(client: httpx.Client, parts: list[tuple[str, Any]]) -> None:
    answer = client.post("/metric_depth", files=parts)
    assert (answer.status_code, len(answer.content)) == (200, DEPTH_BYTES), answer.text[:300]


@pytest.mark.parametrize(("parts", "status", "param"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_a_form_that_is_not_plain_names_the_part(
    client: httpx.Client, parts: list[tuple[str, Any]], status: int, param: str
) -> None:
    refusal(client.post("/metric_depth", files=parts), status, param)


def test_what_a_browser_sends_where_nobody_chose_anything_is_left_out(client: httpx.Client) -> None:
    cut = b"--cut\r\nContent-Disposition: form-data; name="
    parts = [
        cut + b'"image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + PNG,
        cut + b'"mask"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n',
        cut + b'"max_depth"\r\n\r\n',
    ]
    body = b"\r\n".join([*parts, b"--cut--", b""])
    answer = client.post("/metric_depth", content=body, headers={"Content-Type": "multipart/form-data; boundary=cut"})
    assert (answer.status_code, answer.headers["x-max-depth"]) == (200, "20")


# Several images.


def test_several_images_are_answered_in_order_each_with_its_own_error(client: httpx.Client) -> None:
    small, good = zeros(20, 10), base64.b64encode(PNG).decode()
    asked: list[Json] = [
        {"image": base64.b64encode(small).decode()},
        {"image": "*"},
        {"image": good, "max_depth": 7},
        {"image": base64.b64encode(PNG[:50]).decode()},
        {"image": good, "modelinputsize": 70},
        {},
    ]
    answer = client.post("/metric_depth", json=asked, headers={"Accept": "application/json"})
    assert answer.status_code == 200
    first, *others = answer.json()["results"]
    told = {name: first[name] for name in ("shape", "max_depth", "model_key", "unit", "kind")}
    assert told == {
        "shape": [10, 20],
        "max_depth": 20,
        "model_key": "toy_hypersim_56",
        "unit": "m",
        "kind": "metric",
    }
    found = [item.get("error", {}).get("code") or item["max_depth"] for item in others]
    assert found == ["bad_base64", 7, "undecodable_image", "invalid_value", "bad_request"]
    statuses = [item["status"] for item in others if "error" in item]
    assert statuses == [400, 422, 422, 400]
    one = client.post("/metric_depth", json=asked[2], headers={"Accept": "application/json"}).json()
    assert others[1]["depth_map"] == one["depth_map"]


def test_several_files_of_a_form_share_its_fields(client: httpx.Client) -> None:
    files = [("image", ("a.png", PNG)), ("image", ("b.jpg", JPEG)), ("image", ("c.txt", b"none"))]
    answer = client.post("/pc?fov_deg=60", files=files, data={"max_depth": "7"}, headers={"Accept": "*/*"})
    first, second, third = answer.json()["results"]
    assert (first["max_depth"], second["pointcloud_shape"]) == (7, [48 * 64, 3])
    assert third["error"]["code"] == "undecodable_image"


@pytest.mark.parametrize("camera", [{"focal_px": "50"}, {"fx": "50", "fy": "50", "cx": "31.5", "cy": "23.5"}])
def test_files_of_another_size_do_not_share_a_camera_in_pixels(client: httpx.Client, camera: dict[str, str]) -> None:
    """Metres of da3metric and points would be off by as much as the sizes differ."""
    files = [("image", ("a.png", PNG)), ("image", ("b.png", zeros(32, 24))), ("image", ("c.jpg", JPEG))]
    fields = {"dataset": "da3metric"} | camera
    json = {"Accept": "application/json"}
    first, second, third = client.post("/metric_depth", files=files, data=fields, headers=json).json()["results"]
    assert (first["shape"], third["shape"]) == ([48, 64], [48, 64])
    assert second["status"] == 422
    assert "is in pixels of the first image, 64x48" in second["error"]["message"]
    fields = {"dataset": "da3metric", "fov_deg": "60"}
    alike = client.post("/metric_depth", files=files, data=fields, headers=json).json()
    assert [item["shape"] for item in alike["results"]] == [[48, 64], [24, 32], [48, 64]]


def test_several_images_have_one_format(client: httpx.Client) -> None:
    refusal(client.post("/metric_depth", json=[as_json()["json"]] * 2), 406, "Accept")
