"""What the client asks, and how it reads the answers: everything that is the same with and without `await`.

No function here touches the network.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast, get_args

import httpx
import numpy as np
from numpy.typing import NDArray

from bridge.client.cameras import INTRINSICS, Said, given, pinhole
from bridge.client.errors import BridgeError
from bridge.client.images import Image, encoded, is_url
from bridge.client.retries import Outcome
from bridge.client.servers import MODEL_KEY
from bridge.codec import decode_array_base64, decode_base64, decode_depth_png16, decode_npy, fitting_png_scale
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap, Kind
from depth_anything_ros.errors import CameraError, SettingsError
from depth_anything_ros.io.image_header import read_header

T = TypeVar("T")

NPY, PNG, JSON = "application/x-npy", "image/png", "application/json"
# Datasets of /rel_depth. Their kind is in the answer: relative, or scale_invariant.
SCALE_INVARIANT_DATASETS = ("da3mono", "da3")
DATASETS_WITHOUT_METRES = ("relative", *SCALE_INVARIANT_DATASETS)
DATASETS_WITH_MORE = "da3"  # how datasets begin that tell sky or confidence, too; only JSON carries those
ESTIMATE = "estimate"  # what the server says of a focal length that the model found
MAX_MESSAGE_CHARACTERS = 500  # of a text from a server


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, as arguments of `httpx.Client.request`, and how its good answer is read."""

    request: dict[str, Any]
    parse: Callable[[httpx.Response], T]

    def read(self, outcome: Outcome) -> T:
        """Return what the answer says.

        Raises:
            BridgeError: no answer, an error, or something that cannot be read.
            CameraError: the caller's camera does not fit the image.
        """
        if isinstance(outcome, httpx.RequestError):
            reason = str(outcome) or type(outcome).__name__
            raise BridgeError(f"no answer from {_where(outcome.request.url)}: {reason}") from outcome
        if not outcome.is_success:
            raise _error(outcome)
        try:
            return self.parse(outcome)
        except CameraError:
            raise  # the caller's camera is of another size than the image
        except (ValueError, KeyError, TypeError) as error:
            raise BridgeError(
                f"the answer of {_where(outcome.url)} cannot be read: is it a bridge?", status=outcome.status_code
            ) from error


@dataclass(frozen=True)
class ServedDepth(DepthMap):
    """Depth from a bridge. Where the sky is, `values` is infinite.

    Attributes:
        max_depth: metres at the network's full output, as the server used them; None where there are none, or an
            older server does not say.
        camera: the pinhole camera of an image that the server rectified; None for images as they were sent.
    """

    max_depth: float | None = None
    camera: CameraModel | None = None


def _where(url: httpx.URL) -> str:
    """A URL for messages: without password and query."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"


# ---- the calls


def metric_depth_call(image: Image, max_depth: float | None, camera: Said, model: str | None) -> Call[ServedDepth]:
    """Ask for metric depth."""
    fields = _fields(model) | given(max_depth=max_depth) | camera.fields
    return Call(_image_request("/metric_depth", image, _depth_format(fields), fields), partial(_depth_of, camera))


def metric_depths_call(
    images: Sequence[Image], max_depth: float | None, camera: Said, model: str | None
) -> Call[list[ServedDepth | BridgeError]]:
    """Ask for metric depth of several images of one camera as JSON."""
    fields = _fields(model) | given(max_depth=max_depth) | camera.fields
    request = {"method": "POST", "url": "/metric_depth", "json": [_json_image(image) | fields for image in images]}
    return Call(request, lambda response: [_item(item, "metric", camera) for item in response.json()["results"]])


def relative_depth_call(image: Image, camera: Said, model: str | None) -> Call[ServedDepth]:
    """Ask for depth without metres: of the model's dataset if it has none, else of `relative`."""
    fields = _fields(model) | camera.fields
    if has_metres(model):
        fields["dataset"] = "relative"
    return Call(_image_request("/rel_depth", image, _depth_format(fields), fields), partial(_depth_of, camera))


def point_cloud_call(
    image: Image, camera: Said, max_depth: float | None, model: str | None
) -> Call[NDArray[np.float32]]:
    """Ask for depth, and make the cloud here; of a model without metres it is one up to a factor.

    Depth travels as a 16-bit PNG, a sixth of the cloud's bytes at most, where `max_depth` tells its scale.

    Raises:
        SettingsError: nothing is said of the camera, or a `max_depth` where there are no metres.
    """
    if _fields(model).get("dataset") in SCALE_INVARIANT_DATASETS:
        if max_depth is not None:
            raise SettingsError(f"max_depth does not apply to model {model}, which has no metres: leave it out")
        depth_call = relative_depth_call(image, camera, model)
        return Call(depth_call.request, lambda response: _points(_depth_map(response), camera))
    if camera.is_nothing:
        raise SettingsError("a cloud needs the camera: give camera, fov_deg or focal_px")
    if camera.undistort is not None:
        depth_call = metric_depth_call(image, max_depth, camera, model)
        return Call(depth_call.request, lambda response: _points(_depth_map(response), camera))
    fields = _fields(model) | given(max_depth=max_depth) | camera.fields
    if max_depth is None:
        request = _image_request("/metric_depth", image, NPY, fields)
        return Call(request, lambda response: camera.of_depth(decode_npy(response.content)))
    scale = fitting_png_scale(max_depth)
    request = _image_request("/metric_depth", image, PNG, fields | {"png_scale": scale})
    return Call(request, lambda response: camera.of_depth(decode_depth_png16(response.content, scale)))


def _points(depth: ServedDepth, camera: Said) -> NDArray[np.float32]:
    """Points by the camera that the answer tells, else by what is said of it, else by the model's estimate.

    Raises:
        KeyError: an older server, which does not rectify.
        CameraError: the camera is of another size than the image, or the model finds no focal length.
    """
    if camera.undistort is not None and depth.camera is None:
        raise KeyError("x-intrinsics")
    if depth.camera is not None:
        return depth.camera.back_project(depth.values)
    if not camera.is_nothing:
        return camera.of_depth(depth.values)
    if depth.focal_px is None:
        raise CameraError("the model finds no focal length in this image: give camera, fov_deg or focal_px")
    return Said(focal_px=depth.focal_px).of_depth(depth.values)


def models_call() -> Call[dict[str, Any]]:
    """Ask which models there are."""
    return Call({"method": "GET", "url": "/models"}, read_json)


def health_call() -> Call[dict[str, Any]]:
    """Ask how the server is."""
    return Call({"method": "GET", "url": "/health"}, read_json)


# ---- requests


def has_metres(model: str | None) -> bool:
    """Whether a model gives metres, by its name; one that is not named does."""
    return _fields(model).get("dataset") not in DATASETS_WITHOUT_METRES


def _fields(model: str | None) -> dict[str, Any]:
    """A model key as the API's three fields; without one the server chooses."""
    match = MODEL_KEY.fullmatch(model or "")
    return {} if match is None else match.groupdict() | {"model_input_size": int(match["model_input_size"])}


def _depth_format(fields: Mapping[str, Any]) -> str:
    return JSON if fields.get("dataset", "").startswith(DATASETS_WITH_MORE) else NPY


def _image_request(path: str, image: Image, accept: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A URL travels in JSON; everything else as the bytes of the image, with the fields in the query."""
    request: dict[str, Any] = {"method": "POST", "url": path, "headers": {"Accept": accept}}
    if is_url(image):
        return request | {"json": _json_image(image) | fields}
    data = encoded(image)
    request["headers"]["Content-Type"] = f"image/{read_header(data).format}"
    return request | {"content": data, "params": _flat(fields)}


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as a query has them: intrinsics stand by themselves."""
    flat = {name: value for name, value in fields.items() if name != "camera_intrinsics"}
    intrinsics = dict(fields.get("camera_intrinsics", {}))
    if "d" in intrinsics:
        intrinsics["d"] = ",".join(repr(number) for number in intrinsics["d"])
    return flat | {name: value for name, value in intrinsics.items() if value != ""}


def _json_image(image: Image) -> dict[str, Any]:
    """An image as JSON carries it. Raises OSError or ImageError for one that no server would take."""
    if is_url(image):
        return {"image_url": image}
    data = encoded(image)
    read_header(data)
    return {"image": base64.b64encode(data).decode("ascii")}


# ---- answers


def read_json(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in an answer. Raises ValueError."""
    return dict(response.json())


def _depth_of(camera: Said, response: httpx.Response) -> ServedDepth:
    """Depth of an image of the camera's size. Raises as `_depth_map`. CameraError: it has another."""
    depth = _depth_map(response)
    camera.check_size(depth.values.shape)
    return depth


def _depth_map(response: httpx.Response) -> ServedDepth:
    """Depth as `.npy` or JSON. Raises KeyError, TypeError or ValueError."""
    said = response.headers
    kind = _kind(said.get("x-kind") or ("relative" if response.url.path.endswith("/rel_depth") else "metric"))
    if said.get("content-type", "").startswith(JSON):
        return _depth_of_json(response.json() | {"model_key": said["x-model-key"]}, kind)
    max_depth, focal_px = (float(said[name]) if name in said else None for name in ("x-max-depth", "x-focal-px"))
    values = decode_npy(response.content)
    camera = None
    if "x-intrinsics" in said:
        camera = pinhole(dict(zip(INTRINSICS, map(float, said["x-intrinsics"].split(",")), strict=True)), values.shape)
    return ServedDepth(
        values,
        kind,
        said["x-model-key"],
        focal_px=focal_px,
        is_focal_estimated=said.get("x-focal-source") == ESTIMATE,
        max_depth=max_depth,
        camera=camera,
    )


def _item(item: Mapping[str, Any], kind: Kind, camera: Said) -> ServedDepth | BridgeError:
    """One answer of several; an error, too, where the image is not of the camera's size.

    Raises KeyError, TypeError or ValueError.
    """
    if "error" in item:
        return error_of_body(int(item["status"]), item, "")
    depth = _depth_of_json(item, kind)
    try:
        camera.check_size(depth.values.shape)
    except CameraError as error:
        return BridgeError(str(error))
    return depth


def _depth_of_json(item: Mapping[str, Any], kind: Kind) -> ServedDepth:
    """Depth as JSON, with sky and confidence where the model tells them. Raises KeyError, TypeError or ValueError."""
    shape = tuple(item["shape"])
    sky, confidence = item.get("sky"), item.get("confidence")
    return ServedDepth(
        decode_array_base64(item["depth_map"], shape),
        kind,
        item["model_key"],
        sky=None if sky is None else np.frombuffer(decode_base64(sky), np.uint8).reshape(shape) != 0,
        confidence=None if confidence is None else decode_array_base64(confidence, shape),
        focal_px=item.get("focal_px"),
        is_focal_estimated=item.get("focal_source") == ESTIMATE,
        camera=pinhole(item["camera_intrinsics"], shape) if "camera_intrinsics" in item else None,
        max_depth=item.get("max_depth"),
    )


def _kind(text: str) -> Kind:
    """A kind of depth by its name. Raises ValueError for one that this client does not know."""
    for kind in get_args(Kind):
        if kind == text:
            return cast(Kind, kind)
    raise ValueError(text)


def _error(response: httpx.Response) -> BridgeError:
    try:
        body = response.json()
    except ValueError:
        body = None
    # Without an error's form it is a proxy in between that answers, or another server.
    reason = f"{response.reason_phrase}, from {_where(response.url)}"
    error = error_of_body(response.status_code, body, reason)
    error.request_id = error.request_id or plain(response.headers.get("x-request-id", ""))
    return error


def error_of_body(status: int, body: object, reason: str) -> BridgeError:
    """The error in a body; only the reason if it comes from a proxy in between and not from a bridge."""
    try:
        error = body["error"]  # type: ignore[index]
        told = {name: plain(str(error[name])) for name in ("message", "code", "request_id")}
    except (KeyError, TypeError):
        told = {"message": "", "code": "", "request_id": ""}
    message = f"{status}: {told.pop('message') or reason}"
    return BridgeError(message, status=status, **told)


def plain(text: str) -> str:
    """Text from a server on one line of bounded length, for messages and logs."""
    shown = text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)
