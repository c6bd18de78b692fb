"""NumPy -> ROS messages, and back where cv_bridge has to help. Needs the message classes, never rclpy.

What needs no message classes is in `image_encodings`. cv_bridge is not needed for the encodings cameras
really send: its compiled part breaks under NumPy 2 on several distributions. Any other encoding is handed
to it where it can be imported.
"""

from __future__ import annotations

import array
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header

from depth_anything_ros import image_encodings
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.camera_infos import fields_for
from depth_anything_ros.errors import ImageError
from depth_anything_ros.formats import CLOUD_OFFSETS, POINT_STEP_BYTES, pack_cloud
from depth_anything_ros.image_encodings import LAYOUTS, BgrImage, depth_pixels, image_fields

# What a BGR picture can be sent as, and OpenCV's code that makes it (None: it is BGR).
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


def image_to_bgr(msg: Image) -> BgrImage:
    """`image_encodings.image_to_bgr`, with cv_bridge for the encodings that it does not know.

    Raises:
        ImageError: as there, or cv_bridge cannot be imported or cannot convert the image.
    """
    known = msg.encoding in LAYOUTS or 0 in (msg.width, msg.height)
    return image_encodings.image_to_bgr(msg) if known else _by_cv_bridge(msg)


def _by_cv_bridge(msg: Image) -> BgrImage:
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # absent, or compiled against another NumPy, which can raise anything
        known = ", ".join(LAYOUTS)
        raise ImageError(f"unknown image encoding {msg.encoding!r}; known without cv_bridge: {known}") from error
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(msg, "bgr8"))
    except Exception as error:  # cv_bridge's own error, OpenCV's, or TypeError
        raise ImageError(f"cv_bridge cannot convert encoding {msg.encoding!r} to bgr8") from error


def bgr_to_image(image_bgr: BgrImage, header: Header, encoding: str = "bgr8") -> Image:
    """uint8 (H, W, 3) BGR -> Image of an encoding in `FROM_BGR`; alpha is full, 16-bit pixels span their range."""
    code = FROM_BGR[encoding]
    pixels: NDArray[Any] = image_bgr if code is None else cv2.cvtColor(image_bgr, code)
    if LAYOUTS[encoding].bits == 16:
        pixels = pixels * np.uint16(257)  # 255 becomes 65535, and the high byte is what it was
    return _image(pixels, header, encoding)


def depth_to_image(depth: NDArray[np.float32], header: Header, encoding: str = "32FC1") -> Image:
    """Float32 (H, W) -> Image: 32FC1 as it is, or 16UC1 in millimetres with 0 for invalid (REP 118)."""
    return _image(depth_pixels(depth, encoding), header, encoding)


def _image(pixels: NDArray[Any], header: Header, encoding: str) -> Image:
    msg = Image(header=header, **image_fields(pixels, encoding))
    msg.data = _bytes(pixels)
    return msg


def _bytes(values: NDArray[Any]) -> array.array[int]:
    """Bytes as array('B'), the one type that message classes take without looking at every element."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return data


def points_to_cloud(points: NDArray[np.float32], colors_bgr: BgrImage, header: Header) -> PointCloud2:
    """Points and colours -> organised PointCloud2 with x, y, z and rgb as FLOAT32.

    Args:
        points: float32 (H, W, 3), metres, optical frame; NaN where there is no point.
        colors_bgr: uint8 (H, W, 3).
    """
    height, width = points.shape[:2]
    data = array.array("B", [0]) * (height * width * POINT_STEP_BYTES)
    pack_cloud(points, colors_bgr, out=np.frombuffer(data, np.float32).reshape(height, width, 4))
    msg = PointCloud2(header=header, height=height, width=width, data=data)
    msg.fields = [PointField(name=n, offset=o, datatype=PointField.FLOAT32, count=1) for n, o in CLOUD_OFFSETS.items()]
    msg.is_bigendian = sys.byteorder == "big"
    msg.point_step = POINT_STEP_BYTES
    msg.row_step = width * POINT_STEP_BYTES
    msg.is_dense = not np.isnan(points[..., 2]).any()
    return msg


def camera_to_info(camera: CameraModel, header: Header) -> CameraInfo:
    """CameraModel -> CameraInfo of its raw pictures, the way back of `CameraModel.from_camera_info`."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=list(camera.distortion) or [0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        # With distortion, too: the picture is raw, and P describes the one that rectifying it at the same
        # focal length would give.
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def camera_info_for(info: CameraInfo, camera: CameraModel, header: Header) -> CameraInfo:
    """CameraInfo that is true for an image with `camera`'s size, see `camera_infos.fields_for`."""
    fields = fields_for(info, camera)
    roi = fields.pop("roi") or RegionOfInterest(do_rectify=info.roi.do_rectify)
    return CameraInfo(header=header, roi=roi, **fields)
