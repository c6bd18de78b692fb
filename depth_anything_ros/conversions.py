"""ROS messages <-> NumPy. Needs the message classes, never rclpy.

cv_bridge is not needed for the encodings cameras really send: its compiled part breaks under NumPy 2
on several distributions. Any other encoding is handed to it where it can be imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField, RegionOfInterest
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel, binning, image_size, resize_factors
from depth_anything_ros.clouds import FIELD_OFFSETS, POINT_STEP_BYTES, CloudBuffer, cloud_shape
from depth_anything_ros.compressed_depth import JPEG_QUALITY, bgr_to_jpeg, encode
from depth_anything_ros.errors import ImageError
from depth_anything_ros.formats import depth_to_uint16

BgrImage = NDArray[np.uint8]


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
        return _by_cv_bridge(msg)
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


def bgr_to_image(image_bgr: BgrImage, header: Header, encoding: str = "bgr8") -> Image:
    """uint8 (H, W, 3) BGR -> Image of an encoding in `FROM_BGR`; alpha is full, 16-bit pixels span their range."""
    code = FROM_BGR[encoding]
    pixels: NDArray[Any] = image_bgr if code is None else cv2.cvtColor(image_bgr, code)
    if LAYOUTS[encoding].bits == 16:
        pixels = pixels * np.uint16(257)  # 255 becomes 65535, and the high byte is what it was
    return _image(pixels, header, encoding)


def depth_to_image(depth: NDArray[np.float32], header: Header, encoding: str = "32FC1") -> Image:
    """Float32 (H, W) -> Image: 32FC1 as it is, or 16UC1 in millimetres with 0 for invalid (REP 118)."""
    return _image(depth if encoding == "32FC1" else depth_to_uint16(depth), header, encoding)


def depth_to_compressed(
    depth: NDArray[np.float32], header: Header, encoding: str = "32FC1", *, depth_max_m: float
) -> CompressedImage:
    """Float32 (H, W) -> CompressedImage of a topic `.../compressedDepth`; depth beyond `depth_max_m` is lost.

    Readers get an Image of `encoding`, invalid depth as NaN or 0: infinite depth has no code of its own there.

    Raises:
        InputError, SettingsError: as `compressed_depth.encode`.
    """
    format_, data = encode(depth, encoding, depth_max_m=depth_max_m)
    return _compressed(format_, data, header)


def bgr_to_compressed(image_bgr: BgrImage, header: Header, quality: int = JPEG_QUALITY) -> CompressedImage:
    """uint8 (H, W, 3) BGR -> CompressedImage of a topic `.../compressed`: a JPEG of `quality` 1 to 100.

    Raises:
        InputError, SettingsError: as `compressed_depth.bgr_to_jpeg`.
    """
    format_, data = bgr_to_jpeg(image_bgr, quality)
    return _compressed(format_, data, header)


def _compressed(format_: str, data: bytes, header: Header) -> CompressedImage:
    msg = CompressedImage(header=header, format=format_)
    msg.data.frombytes(data)
    return msg


def _image(pixels: NDArray[Any], header: Header, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    msg = Image(header=header, height=height, width=width, encoding=encoding)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = width * pixels[0, 0].nbytes
    # Into the array that is there: message classes copy what is assigned, some of them element by element.
    msg.data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return msg


class CloudMessage:
    """One organised PointCloud2 after the other, x, y, z and rgb as FLOAT32, in the same memory.

    What `fill` returned is overwritten by the next call: publishing copies it.
    """

    def __init__(self) -> None:
        self._msg = PointCloud2()
        self._buffer: CloudBuffer | None = None

    def fill(
        self, depth: Any, image_bgr: BgrImage, header: Header, camera: CameraModel, stride: int = 1
    ) -> PointCloud2:
        """Back-project depth, float32 (H, W), metres, of an image uint8 (H, W, 3); see `CloudBuffer.fill`."""
        rows, columns = depth.shape
        height, width = cloud_shape(rows, columns, stride)
        if self._buffer is None or (self._msg.height, self._msg.width) != (height, width):
            self._msg = _empty_cloud(height, width)
            self._buffer = CloudBuffer(height, width, self._msg.data)
        self._msg.header = header
        self._msg.is_dense = self._buffer.fill(depth, image_bgr, camera, stride)
        return self._msg


def _empty_cloud(height: int, width: int) -> PointCloud2:
    msg = PointCloud2(height=height, width=width, point_step=POINT_STEP_BYTES, row_step=width * POINT_STEP_BYTES)
    msg.fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in FIELD_OFFSETS.items()
    ]
    msg.is_bigendian = sys.byteorder == "big"
    msg.data.frombytes(bytes(height * msg.row_step))
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
    """CameraInfo that is true for an image with `camera`'s size, made from the source's own.

    Where the image has the size that `info` describes, everything stays as it came, region of
    interest and binning included. Where it was resized, K and P are scaled and those two are spent.
    """
    out = CameraInfo(
        header=header,
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        d=info.d,
        k=info.k,
        r=info.r,
        p=info.p,
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=info.roi,
    )
    if image_size(info) == (camera.width, camera.height):
        return out
    factors = resize_factors(image_size(info), (camera.width, camera.height))
    out.k = _seen_by_image(info.k, 3, info, factors)
    out.p = _seen_by_image(info.p, 4, info, factors)
    out.width, out.height = camera.width, camera.height
    out.binning_x = out.binning_y = 0
    out.roi = RegionOfInterest(do_rectify=info.roi.do_rectify)
    return out


def _seen_by_image(matrix: Any, columns: int, info: CameraInfo, factors: tuple[float, float]) -> list[float]:
    """K or P for the image itself: cropped and binned as `info` says, then resized by `factors`."""
    rows = np.array(matrix, np.float64).reshape(3, columns)
    offsets = (info.roi.x_offset, info.roi.y_offset)
    for row, offset, bins, factor in zip(rows[:2], offsets, binning(info), factors, strict=True):
        row[2] -= offset
        row *= factor / bins
        row[2] += (factor - 1.0) / 2  # the outer edges coincide, not the centres of the first pixels
    return [float(number) for number in rows.ravel()]
