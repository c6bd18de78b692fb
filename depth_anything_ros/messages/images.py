"""What is in image messages: the encodings cameras really send, read without ROS.

Messages are anything with the fields of sensor_msgs: rclpy's, or those of a bag that `rosbags` reads.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError
from depth_anything_ros.io.formats import depth_to_uint16

BgrImage = NDArray[np.uint8]


class Image(Protocol):
    """The part of sensor_msgs/Image that is read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any  # a sequence of bytes with a buffer


class CompressedImage(Protocol):
    """The part of sensor_msgs/CompressedImage that is read."""

    format: str
    data: Any


@dataclass(frozen=True)
class Layout:
    """How an encoding stores a pixel, and OpenCV's code that makes BGR of it (None: it is BGR)."""

    bits: int
    channels: int
    to_bgr: int | None


# sensor_msgs/image_encodings.hpp. OpenCV names a Bayer pattern by its second row, ROS by its first.
_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerBG2BGR,
    "bayer_bggr": cv2.COLOR_BayerRG2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGR2BGR,
    "bayer_grbg": cv2.COLOR_BayerGB2BGR,
}
LAYOUTS: dict[str, Layout] = {
    "mono8": Layout(8, 1, cv2.COLOR_GRAY2BGR),
    "8UC1": Layout(8, 1, cv2.COLOR_GRAY2BGR),
    "mono16": Layout(16, 1, cv2.COLOR_GRAY2BGR),
    "16UC1": Layout(16, 1, cv2.COLOR_GRAY2BGR),
    "bgr8": Layout(8, 3, None),
    "8UC3": Layout(8, 3, None),
    "rgb8": Layout(8, 3, cv2.COLOR_RGB2BGR),
    "bgra8": Layout(8, 4, cv2.COLOR_BGRA2BGR),
    "8UC4": Layout(8, 4, cv2.COLOR_BGRA2BGR),
    "rgba8": Layout(8, 4, cv2.COLOR_RGBA2BGR),
    "bgr16": Layout(16, 3, None),
    "rgb16": Layout(16, 3, cv2.COLOR_RGB2BGR),
    "yuv422": Layout(8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": Layout(8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": Layout(8, 2, cv2.COLOR_YUV2BGR_YUYV),
    "yuyv": Layout(8, 2, cv2.COLOR_YUV2BGR_YUYV),
    **{f"{name}{bits}": Layout(bits, 1, code) for name, code in _BAYER.items() for bits in (8, 16)},
}


def image_to_bgr(msg: Image) -> BgrImage:
    """Read an Image of any common encoding, either byte order, padded rows included.

    Returns:
        uint8 (H, W, 3) BGR: a view of the message's data for bgr8, else a new array. 16-bit pixels
        keep their high byte.

    Raises:
        ImageError: zero size, a step or data too short for the size, or an unknown encoding.
    """
    if msg.width == 0 or msg.height == 0:
        raise ImageError(f"image of zero size: {msg.width}x{msg.height}")
    layout = LAYOUTS.get(msg.encoding)
    if layout is None:
        raise ImageError(f"unknown image encoding {msg.encoding!r}; known: {', '.join(LAYOUTS)}")
    pixels = _pixels(msg, layout)
    if layout.bits == 16:
        pixels = (pixels >> 8).astype(np.uint8)
    if layout.to_bgr is None:
        return pixels
    try:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_bgr)  # type: ignore[return-value]
    except cv2.error as error:
        raise ImageError(f"a {msg.encoding} image cannot be {msg.width}x{msg.height} pixels") from error


def _pixels(msg: Image, layout: Layout) -> NDArray[Any]:
    """See the message's data as (H, W, channels), its own step and byte order respected, without a copy."""
    pixel_bytes = layout.channels * layout.bits // 8
    if msg.step < msg.width * pixel_bytes:
        raise ImageError(
            f"step of a {msg.width} pixels wide {msg.encoding} image is {msg.step} bytes; "
            f"needed are {msg.width * pixel_bytes} or more"
        )
    if len(msg.data) < msg.step * msg.height:
        raise ImageError(
            f"data of a {msg.width}x{msg.height} {msg.encoding} image with step {msg.step} has {len(msg.data)} bytes; "
            f"needed are {msg.step * msg.height}"
        )
    dtype = np.dtype(np.uint8) if layout.bits == 8 else np.dtype(">u2" if msg.is_bigendian else "<u2")
    shape = (msg.height, msg.width, layout.channels)
    strides = (msg.step, pixel_bytes, layout.bits // 8)
    pixels: NDArray[Any] = np.ndarray(shape, dtype, buffer=memoryview(msg.data), strides=strides)
    return pixels


def compressed_to_bgr(msg: CompressedImage) -> BgrImage:
    """Decode a JPEG or PNG CompressedImage to uint8 (H, W, 3) BGR; EXIF rotation is ignored, as CameraInfo does.

    Raises:
        ImageError: a compressedDepth message, or data that cannot be decoded.
    """
    if "compressedDepth" in msg.format:
        raise ImageError(f"format {msg.format!r} holds depth, not a picture")
    data = np.frombuffer(msg.data, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # OpenCV 4 raises for a header that announces too much
        image = None
    if image is None:
        raise ImageError(f"compressed image of format {msg.format!r} and {data.size} bytes cannot be decoded")
    return image  # type: ignore[return-value]


def depth_pixels(depth: NDArray[np.float32], encoding: str) -> NDArray[Any]:
    """Depth (H, W) in metres -> pixels of an Image: `32FC1` as it is, `16UC1` millimetres, 0 invalid (REP 118)."""
    return depth if encoding == "32FC1" else depth_to_uint16(depth)


def image_fields(pixels: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return the fields of the Image of these pixels, (H, W) or (H, W, channels), but for header and data."""
    height, width = pixels.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(sys.byteorder == "big"),
        "step": width * pixels[0, 0].nbytes,
    }
