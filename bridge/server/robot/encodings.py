"""A camera's frame as an answer: the arrays in its message, then their bytes in a format. No ROS, and no event loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from bridge.codec import encode_array_base64, encode_depth_png16, encode_raw
from bridge.frame_header import FrameHeader
from bridge.server.errors import NotAcceptable
from bridge.server.media import JPEG, JSON, NPY, PCD, PLY, PNG, RAW, dump_json
from bridge.server.replies import number_text, with_arrays
from bridge.server.robot.frames import Frame, stamp_text
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.io.formats import encode_npy, encode_pcd, encode_ply, encode_png
from depth_anything_ros.io.image_header import check_image
from depth_anything_ros.messages.compressed import bgr_to_jpeg
from depth_anything_ros.messages.images import compressed_to_bgr, image_to_bgr
from depth_anything_ros.messages.ranges import cloud_view, depth_values
from depth_anything_ros.settings import ImageLimits

PICTURES = ("image", "color")
# Formats of each thing, the default first.
FORMATS = {
    "depth": (JSON, RAW, NPY, PNG),
    "points": (JSON, RAW, NPY, PLY, PCD),
    "image": (JPEG, PNG, RAW),
    "color": (JPEG, PNG, RAW),
    "camera_info": (JSON,),
}
STREAM_FORMATS = {
    "depth": ("raw", "png", "npy"),
    "points": ("raw", "ply", "pcd", "npy"),
    "image": ("jpeg", "png", "raw"),
    "color": ("jpeg", "png", "raw"),
}
MEDIA = {"raw": RAW, "npy": NPY, "png": PNG, "jpeg": JPEG, "ply": PLY, "pcd": PCD}
PICTURE_LIMITS = ImageLimits()


@dataclass(frozen=True)
class Encoded:
    """A frame in one format: its bytes, the headers of an answer, and the header of a stream's message."""

    body: bytes
    headers: dict[str, str]
    frame_header: FrameHeader | None


def encode(frame: Frame, media: str, png_scale: float) -> Encoded:
    """Encode a frame.

    Raises:
        NotAcceptable: PNG of depth without metres.
        InputError: the message contradicts itself.
    """
    if frame.what == "camera_info":
        return Encoded(dump_json(camera_info_fields(frame.message)), _headers(frame, {}), None)
    return ENCODERS[frame.what](frame, media, png_scale)


def _depth(frame: Frame, media: str, png_scale: float) -> Encoded:
    if media == PNG and frame.kind != "metric":
        raise NotAcceptable(f"a 16-bit PNG holds metres, and depth of kind {frame.kind} has none", "Accept")
    values = depth_values(frame.message)
    lowest, highest = _range(values)
    unit = "m" if frame.kind == "metric" else "none"
    scale = png_scale if media == PNG else 1.0
    said = {"kind": frame.kind, "unit": unit, "shape": values.shape, "min": lowest, "max": highest}
    makers: dict[str, Callable[[], bytes]] = {
        RAW: lambda: encode_raw(values),
        NPY: lambda: encode_npy(values),
        PNG: lambda: encode_depth_png16(values, png_scale),
        JSON: lambda: _json(frame, said, {"depth_map": values}),
    }
    headers = {
        "X-Unit": unit,
        "X-Scale": number_text(scale),
        "X-Min": number_text(lowest),
        "X-Max": number_text(highest),
    }
    headers |= {"X-Kind": str(frame.kind)} | ({"X-Model-Key": quote(frame.model)} if frame.model else {})
    intrinsics, is_distorted = _intrinsics(frame, values.shape[1], values.shape[0])
    header = FrameHeader(
        "depth",
        _format_of(media),
        frame.stamp_ns,
        values.shape[1],
        values.shape[0],
        frame.frame_id,
        kind=str(frame.kind),
        scale=scale,
        intrinsics=intrinsics,
        is_distorted=is_distorted,
        lowest=lowest,
        highest=highest,
        number=frame.number,
    )
    return Encoded(makers[media](), _headers(frame, headers, header, values.shape), header)


def _points(frame: Frame, media: str, _: float) -> Encoded:
    has_colors = any(field.name == "rgb" for field in frame.message.fields)
    cloud = cloud_view(frame.message, ["x", "y", "z", "rgb"] if has_colors else "xyz")
    points = np.stack([cloud[name].astype(np.float32, copy=False) for name in "xyz"], axis=-1).reshape(-1, 3)
    colors = _bgr(cloud["rgb"]) if has_colors and media in (PLY, PCD) else None
    said = {"kind": "metric", "unit": "m", "pointcloud_shape": points.shape}
    makers: dict[str, Callable[[], bytes]] = {
        RAW: lambda: encode_raw(points),
        NPY: lambda: encode_npy(points),
        PLY: lambda: encode_ply(points, colors),
        PCD: lambda: encode_pcd(points, colors),
        JSON: lambda: _json(frame, said, {"pointcloud": points}),
    }
    height, width = cloud.shape
    header = FrameHeader(
        "points", _format_of(media), frame.stamp_ns, width, height, frame.frame_id, "metric", number=frame.number
    )
    headers = {"X-Unit": "m", "X-Scale": "1", "X-Kind": "metric"}
    headers |= {"X-Model-Key": quote(frame.model)} if frame.model else {}
    return Encoded(makers[media](), _headers(frame, headers, header, points.shape), header)


def _picture(frame: Frame, media: str, _: float) -> Encoded:
    message = frame.message
    is_jpeg = not hasattr(message, "encoding") and bytes(message.data[:3]) == b"\xff\xd8\xff"
    if is_jpeg and media == JPEG:  # as the camera compressed it
        body = bytes(message.data)
        size = check_image(body, PICTURE_LIMITS)
        shape = (size.height, size.width, 3)
    else:
        picture = image_to_bgr(message) if hasattr(message, "encoding") else compressed_to_bgr(message)
        body, shape = _encode_picture(picture, media), picture.shape
    header = FrameHeader(
        frame.what, _format_of(media), frame.stamp_ns, shape[1], shape[0], frame.frame_id, number=frame.number
    )
    return Encoded(body, _headers(frame, {}, header, shape), header)


def _encode_picture(picture: NDArray[np.uint8], media: str) -> bytes:
    if media == RAW:
        return np.ascontiguousarray(picture).tobytes()
    return encode_png(picture) if media == PNG else bgr_to_jpeg(picture)[1]


ENCODERS: dict[str, Callable[[Frame, str, float], Encoded]] = {
    "depth": _depth,
    "points": _points,
    "image": _picture,
    "color": _picture,
}


def etag_of(frame: Frame) -> str:
    """By the stamp alone: weak, since it is the same for every format. Empty without a stamp: then nothing is known."""
    return f'W/"{stamp_text(frame.stamp_ns)}"' if frame.stamp_ns else ""


def _headers(
    frame: Frame, more: dict[str, str], header: FrameHeader | None = None, shape: tuple[int, ...] = ()
) -> dict[str, str]:
    headers = {"X-Stamp": stamp_text(frame.stamp_ns), "X-Frame-Id": quote(frame.frame_id)}
    headers |= {"ETag": etag} if (etag := etag_of(frame)) else {}
    if header is not None:
        headers["X-Shape"] = ",".join(str(length) for length in shape)
        headers |= {"X-Width": str(header.width), "X-Height": str(header.height)}
    return headers | {"Cache-Control": "no-cache", "Vary": "Accept"} | more


def _json(frame: Frame, said: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> bytes:
    fields = {"stamp": stamp_text(frame.stamp_ns), "frame_id": frame.frame_id, **said}
    return with_arrays(fields, {name: encode_array_base64(array) for name, array in arrays.items()})


def _format_of(media: str) -> str:
    """The name of a media type in streams; JSON, which no stream has, counts as raw."""
    return next((name for name, known in MEDIA.items() if known == media), "raw")


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Least and largest finite depth; NaN where there is none."""
    is_finite = np.isfinite(values)
    finite = values if is_finite.all() else values[is_finite]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)


def _bgr(packed: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours packed as bits 0x00RRGGBB of a float32 -> uint8 (H, W, 3) BGR."""
    bits = np.ascontiguousarray(packed, np.float32).view(np.uint32)
    return np.stack([bits & 255, bits >> 8 & 255, bits >> 16 & 255], axis=-1).astype(np.uint8)


def _intrinsics(frame: Frame, width: int, height: int) -> tuple[tuple[float, float, float, float] | None, bool]:
    """fx, fy, cx, cy of an image of this size (None where no CameraInfo tells), and whether its lens distorts."""
    if frame.info is None:
        return None, False
    try:
        camera = CameraModel.from_camera_info(frame.info, rectified=frame.is_rectified, size=(width, height))
    except CameraError:
        return None, False
    if (camera.width, camera.height) != (width, height):
        return None, False
    return (camera.fx, camera.fy, camera.cx, camera.cy), any(camera.distortion)


def camera_info_fields(message: Any) -> dict[str, Any]:
    """A CameraInfo as JSON has it: ROS's field names."""
    numbers = {name: [float(number) for number in getattr(message, name)] for name in "dkrp"}
    stamp, roi = message.header.stamp, message.roi
    sizes = ("x_offset", "y_offset", "height", "width")
    return {
        "header": {"stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec}, "frame_id": message.header.frame_id},
        "height": message.height,
        "width": message.width,
        "distortion_model": message.distortion_model,
        **numbers,
        "binning_x": message.binning_x,
        "binning_y": message.binning_y,
        "roi": {**{name: getattr(roi, name) for name in sizes}, "do_rectify": roi.do_rectify},
    }
