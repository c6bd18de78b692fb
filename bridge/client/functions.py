"""The JSON API call by call, as functions: for scripts that were written against it.

Each call opens a connection of its own. `DepthClient` keeps its connections, and knows all formats.

Parameters that are None are not sent: the server takes its default model, and the dataset's own `max_depth`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.client.calls import Call, read_json
from bridge.client.client import DEFAULT_TIMEOUT_S, DEFAULT_URL, DepthClient
from bridge.client.images import Image, encoded
from bridge.codec import FLOAT32, decode_base64, decode_raw
from depth_anything_ros.errors import InputError


def encode_image(image: Image) -> str:
    """A path, an encoded image or a uint8 BGR array (sent as PNG) -> base64. Raises ImageError or OSError."""
    return base64.b64encode(encoded(image)).decode("ascii")


def predict_pointcloud(
    image: str | None = None,
    image_url: str | None = None,
    camera_intrinsics: Mapping[str, Any] | None = None,
    base_url: str = DEFAULT_URL,
    encoder: str | None = None,
    dataset: str | None = None,
    model_input_size: int | None = None,
    max_depth: float | None = None,
    api_key: str | None = None,
    *,
    fov_deg: float | None = None,
    focal_px: float | None = None,
    undistort: bool | None = None,
    undistort_focal_px: float | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> dict[str, Any]:
    """`POST /pc`: a dict with pointcloud, pointcloud_shape, depth_map, depth_shape, min and max.

    `image` is base64 (`encode_image`). The camera is one of `camera_intrinsics` (fx, fy, cx, cy, and it may have
    distortion_model and d), `fov_deg` and `focal_px`. With `undistort` the image is rectified first, and the answer's
    `camera_intrinsics` are those of its depth. The other functions take the camera, too.
    """
    fields: dict[str, Any] = {"encoder": encoder, "dataset": dataset, "model_input_size": model_input_size}
    fields |= {"max_depth": max_depth, "camera_intrinsics": camera_intrinsics, "fov_deg": fov_deg}
    fields |= {"focal_px": focal_px, "undistort": undistort, "undistort_focal_px": undistort_focal_px}
    return _post_json("/pc", image, image_url, fields, base_url, api_key, timeout_s)


def predict_metric_depth(
    image: str | None = None,
    image_url: str | None = None,
    base_url: str = DEFAULT_URL,
    encoder: str | None = None,
    dataset: str | None = None,
    model_input_size: int | None = None,
    max_depth: float | None = None,
    api_key: str | None = None,
    *,
    camera_intrinsics: Mapping[str, Any] | None = None,
    fov_deg: float | None = None,
    focal_px: float | None = None,
    undistort: bool | None = None,
    undistort_focal_px: float | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> dict[str, Any]:
    """`POST /metric_depth`: a dict with depth_map, shape, min and max.

    The camera (`predict_pointcloud`) is for models whose metres depend on its focal length, and for `undistort`.
    """
    fields: dict[str, Any] = {"encoder": encoder, "dataset": dataset, "model_input_size": model_input_size}
    fields |= {"max_depth": max_depth, "camera_intrinsics": camera_intrinsics, "fov_deg": fov_deg}
    fields |= {"focal_px": focal_px, "undistort": undistort, "undistort_focal_px": undistort_focal_px}
    return _post_json("/metric_depth", image, image_url, fields, base_url, api_key, timeout_s)


def predict_relative_depth(
    image: str | None = None,
    image_url: str | None = None,
    base_url: str = DEFAULT_URL,
    encoder: str | None = None,
    dataset: str | None = None,
    model_input_size: int | None = None,
    api_key: str | None = None,
    *,
    camera_intrinsics: Mapping[str, Any] | None = None,
    fov_deg: float | None = None,
    focal_px: float | None = None,
    undistort: bool | None = None,
    undistort_focal_px: float | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> dict[str, Any]:
    """`POST /rel_depth`: a dict with depth_map, shape, min and max.

    With a metric dataset near is small, 0 to 1; with `dataset="relative"` near is large. The camera
    (`predict_pointcloud`) is for `undistort`, and for the focal length of depth up to a factor.
    """
    fields: dict[str, Any] = {"encoder": encoder, "dataset": dataset, "model_input_size": model_input_size}
    fields |= {"camera_intrinsics": camera_intrinsics, "fov_deg": fov_deg, "focal_px": focal_px}
    fields |= {"undistort": undistort, "undistort_focal_px": undistort_focal_px}
    return _post_json("/rel_depth", image, image_url, fields, base_url, api_key, timeout_s)


def get_health(
    base_url: str = DEFAULT_URL, api_key: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> dict[str, Any]:
    """`GET /health`."""
    with DepthClient(base_url, api_key, timeout_s=timeout_s) as client:
        return client.health()


def decode_pointcloud(pointcloud: str | Mapping[str, Any], shape: Sequence[int] | None = None) -> NDArray[np.float32]:
    """The result of `predict_pointcloud`, or its `pointcloud` and shape -> float32 (N, 3)."""
    if isinstance(pointcloud, str):
        return _floats(pointcloud, shape).reshape(-1, 3)
    return _floats(pointcloud["pointcloud"], pointcloud["pointcloud_shape"])


def decode_depth_map(depth_map: str | Mapping[str, Any], shape: Sequence[int] | None = None) -> NDArray[np.float32]:
    """A function's result, or its `depth_map` and shape -> float32 (H, W); without a shape, flat."""
    if isinstance(depth_map, str):
        return _floats(depth_map, shape)
    return _floats(depth_map["depth_map"], depth_map.get("shape") or depth_map["depth_shape"])


def _floats(text: str, shape: Sequence[int] | None) -> NDArray[np.float32]:
    data = decode_base64(text)
    return decode_raw(data, tuple(shape) if shape else (len(data) // FLOAT32.itemsize,))


def _post_json(
    path: str,
    image: str | None,
    image_url: str | None,
    fields: dict[str, Any],
    base_url: str,
    api_key: str | None,
    timeout_s: float,
) -> dict[str, Any]:
    if not image and not image_url:
        raise InputError("either image or image_url must be given")
    source = {"image": image} if image else {"image_url": image_url}
    given = {name: value for name, value in fields.items() if value is not None}
    with DepthClient(base_url, api_key, timeout_s=timeout_s) as client:
        return client.run(Call({"method": "POST", "url": path, "json": {**source, **given}}, read_json))
