"""What the client asks and how it reads the answers: everything that is the same with and without `await`.

No function here touches the network.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray

from bridge.client.servers import MODEL_KEY
from bridge.codec import decode_depth_png16, decode_npy, fitting_png_scale
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap, Kind
from depth_anything_ros.errors import CameraError, DepthAnythingError, SettingsError
from depth_anything_ros.io.formats import encode_png
from depth_anything_ros.io.image_header import read_header

# A path, an http(s) URL that the server fetches, the bytes of a JPEG, PNG or WebP, or uint8 BGR (H, W, 3).
Image = str | os.PathLike[str] | bytes | NDArray[np.uint8]
Camera = CameraModel | Mapping[str, float]
T = TypeVar("T")


class BridgeError(DepthAnythingError):
    """The bridge answered with an error, or not at all.

    Attributes:
        status: HTTP status; None when no answer came.
        code: the server's word for the error, such as `queue_full`; "" when it gave none.
        request_id: what to look for in the server's log; "" when there is none.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


@dataclass(frozen=True)
class RetryPolicy:
    """How often to ask again, and how long to wait before that.

    Attributes:
        attempts: requests in all; 1 never repeats.
        base_s: the random wait is up to this before the second attempt, and doubles with each.
        longest_s: a server that asks for a longer wait gets its error raised instead.
    """

    attempts: int = 4
    base_s: float = 0.25
    longest_s: float = 30.0

    def delay_s(self, attempt: int, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """Seconds to wait after the `attempt`-th request (from 1), or None to leave it at that."""
        if attempt >= self.attempts or not _may_pass(outcome):
            return None
        delay = _retry_after_s(outcome) + random.uniform(0, self.base_s * 2 ** (attempt - 1))
        return delay if delay <= self.longest_s else None


def _may_pass(outcome: httpx.Response | httpx.RequestError) -> bool:
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (429, 503)
    return isinstance(outcome, (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError))


def _retry_after_s(outcome: httpx.Response | httpx.RequestError) -> float:
    text = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(text) if re.fullmatch(r"\d{1,9}", text) else 0.0


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, as arguments of `httpx.Client.request`, and how its good answer is read."""

    request: dict[str, Any]
    parse: Callable[[httpx.Response], T]

    def read(self, outcome: httpx.Response | httpx.RequestError) -> T:
        """Return what the answer says.

        Raises:
            BridgeError: no answer, an error, or something that cannot be read.
            CameraError: the caller's camera does not fit the image.
        """
        if isinstance(outcome, httpx.RequestError):
            url, reason = outcome.request.url, str(outcome) or type(outcome).__name__
            where = f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}"  # neither password nor query
            raise BridgeError(f"no answer from {where}: {reason}") from outcome
        if not outcome.is_success:
            raise _error(outcome)
        try:
            return self.parse(outcome)
        except CameraError:
            raise  # the caller's camera is of another size than the image
        except (ValueError, KeyError) as error:
            raise BridgeError("the server's answer cannot be read", status=outcome.status_code) from error


def _error(response: httpx.Response) -> BridgeError:
    told = _told(response)
    return BridgeError(
        f"{response.status_code}: {told.get('message') or response.reason_phrase}",
        status=response.status_code,
        code=told.get("code", ""),
        request_id=told.get("request_id") or response.headers.get("x-request-id", ""),
    )


def _told(response: httpx.Response) -> dict[str, str]:
    """What the body says of the error; nothing if it is not from a bridge but from a proxy in between."""
    try:
        error = response.json()["error"]
        return {name: str(error[name]) for name in ("message", "code", "request_id")}
    except (ValueError, KeyError, TypeError):
        return {}


def metric_depth_call(image: Image, max_depth: float, model: str | None) -> Call[DepthMap]:
    """Ask for metric depth as `.npy`."""
    request = _image_request("/metric_depth", image, "application/x-npy", {"max_depth": max_depth, **_fields(model)})
    return Call(request, lambda response: _depth_map(response, "metric"))


def relative_depth_call(image: Image, model: str | None) -> Call[DepthMap]:
    """Ask for relative depth as `.npy`."""
    request = _image_request("/rel_depth", image, "application/x-npy", {**_fields(model), "dataset": "relative"})
    return Call(request, lambda response: _depth_map(response, "relative"))


def point_cloud_call(image: Image, camera: Camera, max_depth: float, model: str | None) -> Call[NDArray[np.float32]]:
    """Ask for depth as a 16-bit PNG, a sixth of the cloud's bytes at most, and make the cloud here."""
    if not isinstance(camera, CameraModel):
        pinhole(camera)  # a bad one is refused before anything is sent
    scale = fitting_png_scale(max_depth)
    fields = {"max_depth": max_depth, "png_scale": scale, **_fields(model)}
    request = _image_request("/metric_depth", image, "image/png", fields)
    return Call(request, lambda response: back_project(decode_depth_png16(response.content, scale), camera))


def health_call() -> Call[dict[str, Any]]:
    """Ask how the server is."""
    return Call({"method": "GET", "url": "/health"}, read_json)


def pinhole(intrinsics: Mapping[str, float], shape: tuple[int, ...] = (1, 1)) -> CameraModel:
    """Camera of images of shape (H, W) from fx, fy, cx, cy. Raises KeyError or CameraError."""
    fx, fy, cx, cy = (intrinsics[name] for name in ("fx", "fy", "cx", "cy"))
    return CameraModel(fx, fy, cx, cy, width=shape[1], height=shape[0])


def back_project(depth: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """Depth (H, W) in metres -> points (H, W, 3) in the optical frame. Raises CameraError."""
    model = camera if isinstance(camera, CameraModel) else pinhole(camera, depth.shape)
    return model.back_project(depth)


def _fields(model: str | None) -> dict[str, Any]:
    """A model key as the API's three fields; none leaves the choice to the server."""
    if model is None:
        return {}
    match = MODEL_KEY.fullmatch(model)
    if not match:
        raise SettingsError(f"model {model!r} is no model key: write encoder_dataset_size, such as vits_hypersim_518")
    return match.groupdict() | {"model_input_size": int(match["model_input_size"])}


def _image_request(path: str, image: Image, accept: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A URL travels in JSON; everything else as the bytes of the image, with the fields in the query."""
    request: dict[str, Any] = {"method": "POST", "url": path, "headers": {"Accept": accept}}
    if isinstance(image, str) and urlsplit(image).scheme in ("http", "https"):
        return request | {"json": {"image_url": image, **fields}}
    data = encoded(image)
    request["headers"]["Content-Type"] = f"image/{read_header(data).format}"
    return request | {"content": data, "params": fields}


def encoded(image: Image) -> bytes:
    """A path's content, encoded bytes as they are, an array as PNG. Raises OSError or InputError."""
    if isinstance(image, bytes):
        return image
    return encode_png(image) if isinstance(image, np.ndarray) else Path(image).read_bytes()


def _depth_map(response: httpx.Response, kind: Kind) -> DepthMap:
    return DepthMap(decode_npy(response.content), kind, response.headers["x-model-key"])


def read_json(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in an answer. Raises ValueError."""
    return dict(response.json())
