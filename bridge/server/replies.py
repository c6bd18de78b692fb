"""Results as answers: the format that the client accepts, its bytes and its headers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.codec import encode_array_base64, encode_depth_png16, encode_raw
from bridge.server.errors import NotAcceptable
from bridge.server.media import JSON, NPY, PCD, PLY, PNG, RAW, dump_json
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.io.formats import UNITLESS, encode_npy, encode_pcd, encode_ply

# Headers of answers that a web page may read.
EXPOSED_HEADERS = (
    "X-Shape",
    "X-Unit",
    "X-Scale",
    "X-Min",
    "X-Max",
    "X-Max-Depth",
    "X-Model-Key",
    "X-Kind",
    "X-Focal-Px",
    "X-Focal-Source",
    "X-Intrinsics",
    "X-Request-Id",
    "Server-Timing",
    "Retry-After",
    "X-Stamp",
    "X-Frame-Id",
    "X-Width",
    "X-Height",
    "ETag",
)
# Bytes of a body for each pixel, at most; an image with depth and, for a cloud, points are held beside it.
DEPTH_BYTES = {JSON: 6, RAW: 4, NPY: 4, PNG: 3}
CLOUD_BYTES = {JSON: 22, RAW: 12, NPY: 12, PLY: 15, PCD: 16}
PICTURE_BYTES = 3 + 4
POINT_BYTES = 12
MORE_BYTES = 5 + 8  # sky and confidence, as arrays and in JSON
MAX_HEADER_BYTES = 4096  # of a file, and the other fields of JSON


@dataclass(frozen=True)
class Result:
    """What a request computed.

    Attributes:
        depth: the depth map.
        image: uint8 BGR (H, W, 3), colours of the cloud.
        points: float32 (H * W, 3), metres, optical frame; None where no cloud was asked for.
        png_scale: levels of a 16-bit PNG a metre.
        max_depth: metres at the network's full output, that was used; None where there is none.
        unit: of the depth, "m" or "none".
        camera: of the depth and points, where the client does not know it.
    """

    depth: DepthMap
    image: NDArray[np.uint8]
    points: NDArray[np.float32] | None
    png_scale: float
    max_depth: float | None
    unit: str
    camera: CameraModel | None = None

    @property
    def comments(self) -> list[str]:
        """What a file of points has to say of itself."""
        said = [] if self.unit == "m" else [UNITLESS]
        if self.camera is not None and self.depth.is_focal_estimated:
            said.append(f"focal length {self.camera.fx:.1f} px is the model's estimate")
        return said


def choose_format(accept: Sequence[str], formats: tuple[str, ...]) -> str:
    """Return the first of `formats` with the highest quality in the Accept header's lines (RFC 9110, 12.5.1).

    Raises:
        NotAcceptable: the header allows none of them.
    """
    ranges = [_media_range(part) for line in accept for part in line.split(",") if part.strip()]
    if not any(line.strip() for line in accept):
        return formats[0]
    best = max(formats, key=lambda name: _quality(name, ranges))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"Accept must allow one of {', '.join(formats)}", "Accept")
    return best


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _quality(name: str, ranges: list[tuple[str, float]]) -> float:
    """The most specific range that matches decides."""
    given = dict(ranges)
    return next((given[key] for key in (name, f"{name.partition('/')[0]}/*", "*/*") if key in given), 0.0)


def answer_bytes(pixels: int, media: str, *, is_cloud: bool, has_more: bool = False) -> int:
    """Memory that an answer takes at most, with what it is made of, for an image of so many pixels.

    Args:
        has_more: the model tells sky or confidence, too.
    """
    body = CLOUD_BYTES[media] + POINT_BYTES if is_cloud else DEPTH_BYTES[media]
    return pixels * (PICTURE_BYTES + body + (MORE_BYTES if has_more else 0)) + MAX_HEADER_BYTES


def focal_source(depth: DepthMap) -> str:
    """Where a focal length comes from: from the request, or from the model."""
    return "estimate" if depth.is_focal_estimated else "given"


def intrinsics_of(camera: CameraModel) -> dict[str, float]:
    """A pinhole camera as requests have it."""
    return {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy}


def number_text(number: float) -> str:
    """A number for a header, with all its digits: JSON says the same."""
    return repr(float(number)).removesuffix(".0")


def encode(result: Result, media: str) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a result in one of the formats of its kind."""
    values = result.depth.values
    lowest, highest = result.depth.range()
    array = values if result.points is None else result.points
    headers = {
        "X-Shape": ",".join(str(length) for length in array.shape),
        "X-Unit": result.unit,
        "X-Scale": number_text(result.png_scale if media == PNG else 1),
        "X-Min": number_text(lowest),
        "X-Max": number_text(highest),
        "X-Model-Key": result.depth.model_key,
        "X-Kind": result.depth.kind,
    }
    if result.depth.focal_px is not None:
        headers["X-Focal-Px"] = number_text(result.depth.focal_px)
        headers["X-Focal-Source"] = focal_source(result.depth)
    if result.camera is not None:
        headers["X-Intrinsics"] = ",".join(number_text(number) for number in intrinsics_of(result.camera).values())
    if result.max_depth is not None:
        headers["X-Max-Depth"] = number_text(result.max_depth)
    if media == JSON:
        return _json(result, {}), headers
    return ENCODERS[media](result, array), headers


def encode_item(result: Result) -> bytes:
    """One item of an answer to several images: the JSON of a single one, and what its headers would say."""
    return _json(result, {"unit": result.unit, "kind": result.depth.kind, "model_key": result.depth.model_key})


def join_items(items: Sequence[bytes]) -> bytes:
    """The JSON body that answers several images, in their order."""
    return b'{"results":[' + b",".join(items) + b"]}"


ENCODERS: dict[str, Callable[[Result, NDArray[np.float32]], bytes]] = {
    RAW: lambda result, array: encode_raw(array),
    NPY: lambda result, array: encode_npy(array),
    PNG: lambda result, array: encode_depth_png16(array, result.png_scale),
    PLY: lambda result, array: encode_ply(array, result.image, comments=result.comments),
    PCD: lambda result, array: encode_pcd(array, result.image, comments=result.comments),
}


def _json(result: Result, said: dict[str, Any]) -> bytes:
    """The bodies that clients know: their field names are a promise."""
    values = result.depth.values
    arrays = {"depth_map": encode_array_base64(values)}
    fields: dict[str, Any] = {"shape" if result.points is None else "depth_shape": values.shape}
    if result.points is not None:
        arrays["pointcloud"] = encode_array_base64(result.points)
        fields["pointcloud_shape"] = result.points.shape
        fields |= {} if result.unit == "m" else {"unit": result.unit}
    if result.depth.sky is not None:
        arrays["sky"] = base64.b64encode(result.depth.sky.astype(np.uint8).data)
    if result.depth.confidence is not None:
        arrays["confidence"] = encode_array_base64(result.depth.confidence)
    if result.max_depth is not None:
        fields["max_depth"] = result.max_depth
    if result.depth.focal_px is not None:
        fields |= {"focal_px": result.depth.focal_px, "focal_source": focal_source(result.depth)}
    if result.camera is not None:
        fields["camera_intrinsics"] = intrinsics_of(result.camera)
    lowest, highest = result.depth.range()
    return with_arrays({**fields, "min": lowest, "max": highest, **said}, arrays)


def with_arrays(fields: dict[str, Any], arrays: dict[str, bytes]) -> bytes:
    """A JSON object of fields and arrays in base64; a serialiser would copy the arrays, which are most of the body."""
    parts = [b"{"]
    for name, array in arrays.items():
        parts += [b'"', name.encode(), b'":"', array, b'",']
    return b"".join([*parts, dump_json(fields)[1:]])
