"""Read image messages in the encodings that cameras send. Needs no ROS.

A message is anything with the fields of sensor_msgs, such as those of rclpy, or of a bag that `rosbags` reads.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, quoted
from depth_anything_ros.io.formats import depth_to_uint16
from depth_anything_ros.io.image_header import ALL_FORMATS, check_image
from depth_anything_ros.messages.cdr import Bytes, CdrBuffer, image_head
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.remarks import Remark, unheard
from depth_anything_ros.messages.rows import row_bytes
from depth_anything_ros.settings import ImageLimits

BgrImage = NDArray[np.uint8]
DECODED_LIMITS = ImageLimits(formats=ALL_FORMATS)


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
    """How an encoding stores a pixel, and OpenCV's code to convert it to BGR (None: it is BGR)."""

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
    "16UC3": Layout(16, 3, None),
    "rgb16": Layout(16, 3, cv2.COLOR_RGB2BGR),
    "bgra16": Layout(16, 4, cv2.COLOR_BGRA2BGR),
    "16UC4": Layout(16, 4, cv2.COLOR_BGRA2BGR),
    "rgba16": Layout(16, 4, cv2.COLOR_RGBA2BGR),
    "yuv422": Layout(8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": Layout(8, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": Layout(8, 2, cv2.COLOR_YUV2BGR_YUYV),
    "yuyv": Layout(8, 2, cv2.COLOR_YUV2BGR_YUYV),
    **{f"{name}{bits}": Layout(bits, 1, code) for name, code in _BAYER.items() for bits in (8, 16)},
}


# A plane of luma, then a plane with both chroma values in turn: one pair for 2x2 pixels, in nv24 for each pixel.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21, "nv24": None}
ENCODINGS = (*LAYOUTS, *_SEMI_PLANAR)
_BY_LOWER_CASE = {name.lower(): name for name in ENCODINGS}


def known_encoding(name: str) -> str | None:
    """Return the name in `ENCODINGS` that a message means, upper or lower case; None for any other."""
    return name if name in ENCODINGS else _BY_LOWER_CASE.get(name.strip().lower())


def image_to_bgr(msg: Image, levels: LevelFinder | None = None, remark: Remark = unheard) -> BgrImage:
    """Read an Image of any common encoding, either byte order, padded rows included.

    Args:
        levels: the camera's levels, for 16-bit pixels; None keeps their high byte.
        remark: is told what is odd about a message that can be read.

    Returns:
        uint8 (H, W, 3) BGR: a view of the message's data for bgr8, else a new array.

    Raises:
        ImageError: zero size, a step or data too short for the size, or an unknown encoding.
    """
    if msg.width == 0 or msg.height == 0:
        raise ImageError(f"image of zero size: {msg.width}x{msg.height}")
    encoding = known_encoding(msg.encoding)
    if encoding is None:
        raise ImageError(f"unknown image encoding {quoted(msg.encoding)}; known: {', '.join(ENCODINGS)}")
    if encoding != msg.encoding:
        remark(f"image encoding {quoted(msg.encoding)} is read as {encoding}")
    if msg.step == 0:
        remark(f"step of the {encoding} images is 0; their rows are taken to have no padding")
    try:
        if encoding in _SEMI_PLANAR:
            return _semi_planar_to_bgr(msg, encoding)
        layout = LAYOUTS[encoding]
        return _to_bgr(_pixels(msg, encoding, layout), layout.to_bgr, levels)
    except cv2.error as error:
        raise ImageError(f"a {encoding} image cannot be {msg.width}x{msg.height} pixels") from error


def _to_bgr(pixels: NDArray[Any], to_bgr: int | None, levels: LevelFinder | None) -> BgrImage:
    """8-bit or 16-bit pixels (H, W, channels) -> uint8 (H, W, 3) BGR, by OpenCV's code."""
    if pixels.dtype.itemsize == 2:
        pixels = levels.to_uint8(pixels) if levels is not None else (pixels >> 8).astype(np.uint8)
    return pixels if to_bgr is None else cv2.cvtColor(np.ascontiguousarray(pixels), to_bgr)  # type: ignore[return-value]


def _pixels(msg: Image, encoding: str, layout: Layout) -> NDArray[Any]:
    """Return a view of the message's data as (H, W, channels), in its own step and byte order."""
    pixel_bytes = layout.channels * layout.bits // 8
    step = _checked_step(msg, encoding, msg.width * pixel_bytes, msg.height)
    dtype = np.dtype(np.uint8) if layout.bits == 8 else np.dtype(">u2" if msg.is_bigendian else "<u2")
    shape = (msg.height, msg.width, layout.channels)
    strides = (step, pixel_bytes, layout.bits // 8)
    pixels: NDArray[Any] = np.ndarray(shape, dtype, buffer=memoryview(msg.data), strides=strides)
    return pixels


def _semi_planar_to_bgr(msg: Image, encoding: str) -> BgrImage:
    """Read luma (H, W), then chroma (H / 2, W), or (H, 2 W) for nv24; studio range, BT.601."""
    height, width = msg.height, msg.width
    if encoding == "nv24":
        data, step = _plane_rows(msg, encoding, 3 * height)
        luma = data[: height * step].reshape(height, step)[:, :width]
        chroma = data[height * step :].reshape(height, 2 * step)[:, : 2 * width]
        return _nv24_to_bgr(luma, chroma.reshape(height, width, 2))
    if height % 2 or width % 2:
        raise ImageError(f"a {encoding} image cannot be {width}x{height} pixels: both sides must be even")
    data, step = _plane_rows(msg, encoding, height * 3 // 2)
    planes = np.ascontiguousarray(data.reshape(-1, step)[:, :width])
    return cv2.cvtColor(planes, _SEMI_PLANAR[encoding])  # type: ignore[return-value, arg-type]


def _plane_rows(msg: Image, encoding: str, rows: int) -> tuple[NDArray[np.uint8], int]:
    """Return the bytes of so many rows, each as wide as the picture, and the bytes from one to the next."""
    tight = len(msg.data) == rows * msg.width  # the step is not used: drivers count it in several ways
    step = msg.width if tight else _checked_step(msg, encoding, msg.width, rows)
    return np.frombuffer(memoryview(msg.data), np.uint8, rows * step), step


def _nv24_to_bgr(luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> BgrImage:
    """Convert by way of UYVY, because OpenCV has no code for nv24: double every pixel, then take every second one."""
    height, width = luma.shape
    pairs = np.empty((height, width, 2, 2), np.uint8)  # u y, v y
    pairs[..., 0] = chroma
    pairs[..., 1] = luma[..., None]
    doubled = cv2.cvtColor(pairs.reshape(height, 2 * width, 2), cv2.COLOR_YUV2BGR_UYVY)
    return np.ascontiguousarray(doubled[:, ::2])


def _checked_step(msg: Image, encoding: str, needed: int, rows: int) -> int:
    """Return the bytes from one row to the next. Raises ImageError where the rows are not all in the data."""
    step = row_bytes(msg.step, needed, rows, len(msg.data))
    if step is not None:
        return step
    if msg.step < needed:
        raise ImageError(
            f"step of a {msg.width} pixels wide {encoding} image is {msg.step} bytes; {needed} or more are needed"
        )
    raise ImageError(
        f"data of a {msg.width}x{msg.height} {encoding} image with step {msg.step} has {len(msg.data)} bytes; "
        f"{msg.step * rows} are needed"
    )


def compressed_to_bgr(
    msg: CompressedImage,
    levels: LevelFinder | None = None,
    limits: ImageLimits = DECODED_LIMITS,
) -> BgrImage:
    """Decode a CompressedImage to uint8 (H, W, 3) BGR; EXIF rotation is ignored, as CameraInfo does.

    A mosaic is demosaiced where `format` begins with a Bayer encoding, as compressed_image_transport writes it.

    Args:
        levels: the camera's levels, for pictures of 16 bits; None keeps their high byte.
        limits: checked on the picture's header, before anything is decoded.

    Raises:
        ImageError: a compressedDepth message, a picture outside the limits, or data that cannot be decoded.
    """
    if "compressedDepth" in msg.format:
        raise ImageError(f"format {quoted(msg.format)} holds depth, not a picture")
    what = f"compressed image of format {quoted(msg.format)} and {len(msg.data)} bytes"
    data = np.frombuffer(msg.data, np.uint8)
    bayer = _BAYER.get(msg.format.partition(";")[0].strip().removesuffix("8").removesuffix("16"))
    kind = cv2.IMREAD_UNCHANGED if bayer is not None else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        check_image(msg.data, limits)
        pixels = cv2.imdecode(data, kind | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, ImageError) as error:  # OpenCV 4 raises for a header that announces too much
        raise ImageError(f"{what} cannot be decoded: {error}") from error
    if pixels is None:
        raise ImageError(f"{what} cannot be decoded")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{what} holds pixels of type {pixels.dtype}; allowed: 8 and 16 bits")
    if pixels.ndim == 2:
        return _to_bgr(pixels[..., None], cv2.COLOR_GRAY2BGR if bayer is None else bayer, levels)
    return _to_bgr(pixels, cv2.COLOR_BGRA2BGR if pixels.shape[2] == 4 else None, levels)


def depth_pixels(depth: NDArray[np.float32], encoding: str) -> NDArray[Any]:
    """Return depth (H, W) in metres as pixels of an Image: `32FC1` unchanged, `16UC1` in millimetres (REP 118)."""
    return depth if encoding == "32FC1" else depth_to_uint16(depth)


def image_fields(pixels: NDArray[Any], encoding: str) -> dict[str, Any]:
    """Return the fields of an Image of these pixels, (H, W) or (H, W, channels), without header and data."""
    height, width = pixels.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(sys.byteorder == "big"),
        "step": width * pixels[0, 0].nbytes,
    }


class SerialImage:
    """Image messages, serialised, one after the other in the same memory; publishing copies it."""

    def __init__(self) -> None:
        self._buffer = CdrBuffer()

    def fill(self, pixels: NDArray[Any], header: Any, encoding: str) -> Bytes:
        """Return the message of pixels, (H, W) or (H, W, channels), any strides, under a std_msgs/Header."""
        data = self._buffer.begin(image_head(header, image_fields(pixels, encoding), pixels.nbytes), pixels.nbytes)
        np.copyto(data.view(pixels.dtype).reshape(pixels.shape), pixels)
        return self._buffer.message
