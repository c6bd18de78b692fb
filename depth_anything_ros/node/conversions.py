"""Make ROS messages of arrays, and read images with the help of cv_bridge. Needs the message classes, not rclpy.

What needs no message classes is in `messages/`. The encodings that cameras send need no cv_bridge, whose compiled part
breaks under NumPy 2 on several distributions. Any other encoding is handed to cv_bridge where it can be imported.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import ImageError, quoted
from depth_anything_ros.messages import images
from depth_anything_ros.messages.camera_infos import fields_for, pinhole_fields
from depth_anything_ros.messages.compressed import JPEG_QUALITY, bgr_to_jpeg, encode
from depth_anything_ros.messages.images import (
    ENCODINGS,
    LAYOUTS,
    BgrImage,
    depth_pixels,
    image_fields,
    known_encoding,
)
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.remarks import Remark, unheard

# Encodings that a BGR picture can be sent in, and OpenCV's code for each (None: it is BGR).
FROM_BGR: dict[str, int | None] = {
    "bgr8": None,
    "rgb8": cv2.COLOR_BGR2RGB,
    "bgra8": cv2.COLOR_BGR2BGRA,
    "rgba8": cv2.COLOR_BGR2RGBA,
    "mono8": cv2.COLOR_BGR2GRAY,
    "bgr16": None,
    "rgb16": cv2.COLOR_BGR2RGB,
    "mono16": cv2.COLOR_BGR2GRAY,
}


def image_to_bgr(msg: Image, levels: LevelFinder | None = None, remark: Remark = unheard) -> BgrImage:
    """Read an Image as `messages.images.image_to_bgr` does, and encodings unknown there by cv_bridge.

    Raises:
        ImageError: as there; or cv_bridge cannot be imported, or cannot convert the image.
    """
    known = known_encoding(msg.encoding) is not None or 0 in (msg.width, msg.height)
    return images.image_to_bgr(msg, levels, remark) if known else _by_cv_bridge(msg)


def _by_cv_bridge(msg: Image) -> BgrImage:
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # absent, or compiled against another NumPy, which can raise anything
        known = ", ".join(ENCODINGS)
        raise ImageError(f"unknown image encoding {quoted(msg.encoding)}; known without cv_bridge: {known}") from error
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(msg, "bgr8"))
    except Exception as error:  # cv_bridge's own error, OpenCV's, or TypeError
        raise ImageError(f"cv_bridge cannot convert encoding {quoted(msg.encoding)} to bgr8") from error


def bgr_to_image(image_bgr: BgrImage, header: Header, encoding: str = "bgr8") -> Image:
    """Make an Image of uint8 (H, W, 3) BGR, in an encoding of `FROM_BGR`; alpha is full, 16 bits span their range."""
    code = FROM_BGR[encoding]
    pixels: NDArray[Any] = image_bgr if code is None else cv2.cvtColor(image_bgr, code)
    if LAYOUTS[encoding].bits == 16:
        pixels = pixels * np.uint16(257)  # 255 becomes 65535, and the high byte stays
    return _image(pixels, header, encoding)


def depth_to_image(depth: NDArray[np.float32], header: Header, encoding: str = "32FC1") -> Image:
    """Make an Image of float32 (H, W): 32FC1 unchanged, or 16UC1 in millimetres with 0 for invalid (REP 118)."""
    return _image(depth_pixels(depth, encoding), header, encoding)


def depth_to_compressed(
    depth: NDArray[np.float32], header: Header, encoding: str = "32FC1", *, depth_max_m: float
) -> CompressedImage:
    """Make a CompressedImage of float32 (H, W) for a topic `.../compressedDepth`; depth beyond `depth_max_m` is lost.

    Readers get an Image of `encoding` with NaN or 0 for invalid depth. Infinite depth becomes invalid, too.

    Raises:
        InputError, SettingsError: as `messages.compressed.encode`.
    """
    format_, data = encode(depth, encoding, depth_max_m=depth_max_m)
    return _compressed(format_, data, header)


def bgr_to_compressed(image_bgr: BgrImage, header: Header, quality: int = JPEG_QUALITY) -> CompressedImage:
    """Make a CompressedImage of uint8 (H, W, 3) BGR for a topic `.../compressed`: a JPEG of `quality` 1 to 100.

    Raises:
        InputError, SettingsError: as `messages.compressed.bgr_to_jpeg`.
    """
    format_, data = bgr_to_jpeg(image_bgr, quality)
    return _compressed(format_, data, header)


def _compressed(format_: str, data: bytes, header: Header) -> CompressedImage:
    msg = CompressedImage(header=header, format=format_)
    msg.data.frombytes(data)
    return msg


def _image(pixels: NDArray[Any], header: Header, encoding: str) -> Image:
    msg = Image(header=header, **image_fields(pixels, encoding))
    # Into the array that the message has: message classes copy what is assigned, some of them element by element.
    msg.data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return msg


def camera_to_info(camera: CameraModel, header: Header) -> CameraInfo:
    """Make the CameraInfo of a camera's raw pictures: the inverse of `CameraModel.from_camera_info`."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=list(camera.distortion) or [0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        # Also with distortion: P describes the picture that rectification at the same focal length would give.
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def pinhole_info(camera: CameraModel, header: Header) -> CameraInfo:
    """Make the CameraInfo of a camera without distortion: K and P are the same."""
    return CameraInfo(header=header, **pinhole_fields(camera))


def camera_info_for(info: CameraInfo, camera: CameraModel, header: Header) -> CameraInfo:
    """Make the CameraInfo that is true for an image of `camera`'s size, see `camera_infos.fields_for`."""
    fields = fields_for(info, camera)
    roi = fields.pop("roi") or RegionOfInterest(do_rectify=info.roi.do_rectify)
    return CameraInfo(header=header, roi=roi, **fields)
