"""ROS messages <-> NumPy, each encoding against an expectation written down here on its own."""

from __future__ import annotations

import array
import struct
import sys
import zlib
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from harness import camera_info, cloud_message, image_message, new_header
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField, RegionOfInterest

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import ImageError
from depth_anything_ros.messages.compressed import decode
from depth_anything_ros.messages.images import ENCODINGS, LAYOUTS, compressed_to_bgr
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.remarks import SayOnce
from depth_anything_ros.node.conversions import (
    bgr_to_compressed,
    bgr_to_image,
    camera_info_for,
    depth_to_compressed,
    depth_to_image,
    image_to_bgr,
)

BGR = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
GRAY = BGR[..., 0]
# Colours at even and odd rows and columns, as the encodings' names read: "rggb" has R G above G B.
BAYER_COLORS = {"bayer_rggb": "rggb", "bayer_bggr": "bggr", "bayer_gbrg": "gbrg", "bayer_grbg": "grbg"}
PLAIN = {
    "mono8": (GRAY, GRAY[..., None].repeat(3, axis=2)),
    "8UC1": (GRAY, GRAY[..., None].repeat(3, axis=2)),
    "bgr8": (BGR, BGR),
    "8UC3": (BGR, BGR),
    "rgb8": (BGR[..., ::-1], BGR),
    "bgra8": (np.dstack([BGR, GRAY]), BGR),
    "8UC4": (np.dstack([BGR, GRAY]), BGR),
    "rgba8": (np.dstack([BGR[..., ::-1], GRAY]), BGR),
}
WIDE = {
    "mono16": (GRAY, GRAY[..., None].repeat(3, axis=2)),
    "16UC1": (GRAY, GRAY[..., None].repeat(3, axis=2)),
    "bgr16": (BGR, BGR),
    "rgb16": (BGR[..., ::-1], BGR),
    "16UC3": (BGR, BGR),
    "bgra16": (np.dstack([BGR, GRAY]), BGR),
    "16UC4": (np.dstack([BGR, GRAY]), BGR),
    "rgba16": (np.dstack([BGR[..., ::-1], GRAY]), BGR),
}
SEMI_PLANAR = {"nv12": ("uv", 2), "nv21": ("vu", 2), "nv24": ("uv", 1)}  # order of chroma; its pixels a side
YUV = {"yuv422": "uyvy", "uyvy": "uyvy", "yuv422_yuy2": "yuyv", "yuyv": "yuyv"}


def padded(msg: Image, extra: int) -> Image:
    """Lengthen every row by bytes that must not be read."""
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, -1)
    filled = np.pad(rows, ((0, 0), (0, extra)), constant_values=0xAB)
    msg.step += extra
    msg.data = array.array("B", filled.tobytes())
    return msg


def sixteen_bits(pixels: NDArray[np.uint8], order: str) -> NDArray[np.uint16]:
    """Put 8-bit values into the high byte, noise below."""
    return ((pixels.astype(np.uint16) << 8) | 0x5A).astype(f"{order}u2")


def yuv_pixels(order: str, y: int, u: int, v: int) -> NDArray[np.uint8]:
    """Return two rows of two pairs of pixels of one colour, in a byte order such as `uyvy`."""
    values = {"y": y, "u": u, "v": v}
    pair = [values[letter] for letter in order]
    return np.array([pair * 2] * 2, np.uint8).reshape(2, 4, 2)


def bt601(y: int, u: int, v: int) -> tuple[float, float, float]:
    """BGR of a studio-range BT.601 colour."""
    luma = 1.164 * (y - 16)
    return luma + 2.018 * (u - 128), luma - 0.391 * (u - 128) - 0.813 * (v - 128), luma + 1.596 * (v - 128)


def test_every_encoding_is_covered_here() -> None:
    bayer = {f"{name}{bits}" for name in BAYER_COLORS for bits in (8, 16)}
    assert set(LAYOUTS) == PLAIN.keys() | WIDE.keys() | YUV.keys() | bayer
    assert set(ENCODINGS) == LAYOUTS.keys() | SEMI_PLANAR.keys()


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", PLAIN)
def test_8_bit_pixels_become_bgr(encoding: str, padding: int) -> None:
    pixels, expected = PLAIN[encoding]
    image = image_to_bgr(padded(image_message(pixels, encoding), padding))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("padding", [0, 6, 7])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", WIDE)
def test_16_bit_pixels_keep_their_high_byte_in_either_byte_order(encoding: str, order: str, padding: int) -> None:
    pixels, expected = WIDE[encoding]
    msg = padded(image_message(sixteen_bits(pixels, order), encoding), padding)
    msg.is_bigendian = int(order == ">")
    np.testing.assert_array_equal(image_to_bgr(msg), expected)


@pytest.mark.parametrize("encoding", YUV)
@pytest.mark.parametrize("y_u_v", [(90, 200, 100), (150, 90, 140), (16, 128, 128), (235, 128, 128)])
def test_yuv_422_is_decoded_in_its_byte_order(encoding: str, y_u_v: tuple[int, int, int]) -> None:
    msg = padded(image_message(yuv_pixels(YUV[encoding], *y_u_v), encoding), 3)
    image = image_to_bgr(msg)
    assert image.shape == (2, 4, 3)
    np.testing.assert_allclose(image, np.broadcast_to(bt601(*y_u_v), image.shape), atol=2)


def semi_planar(encoding: str, colors: list[tuple[int, int, int]], *, stated_step: int, padding: int = 0) -> Image:
    """An image of columns of colours (y, u, v), four pixels wide each and four rows high."""
    order, side = SEMI_PLANAR[encoding]
    width, height = 4 * len(colors), 4
    luma = np.repeat(np.array([y for y, _, _ in colors], np.uint8), 4)
    pairs = np.array([[{"u": u, "v": v}[letter] for letter in order] for _, u, v in colors], np.uint8)
    chroma = np.repeat(pairs, 4 // side, axis=0).reshape(-1)
    rows = [np.pad(luma, (0, padding))] * height
    rows += [np.pad(chroma, (0, padding * (2 // side)))] * (height // side)
    return Image(
        header=new_header(),
        width=width,
        height=height,
        encoding=encoding,
        step=stated_step,
        data=array.array("B", np.concatenate(rows).tobytes()),
    )


@pytest.mark.parametrize("encoding", SEMI_PLANAR)
@pytest.mark.parametrize(("stated_step", "padding"), [(12, 0), (0, 0), (24, 0), (18, 6)])
def test_planes_of_luma_and_chroma_are_decoded(encoding: str, stated_step: int, padding: int) -> None:
    colors = [(90, 200, 100), (150, 90, 140), (235, 128, 128)]
    image = image_to_bgr(semi_planar(encoding, colors, stated_step=stated_step, padding=padding))
    assert image.shape == (4, 12, 3)
    for column, color in zip((1, 5, 9), colors, strict=True):  # where no neighbour is mixed in
        np.testing.assert_allclose(image[:, column : column + 2].reshape(-1, 3), [bt601(*color)] * 8, atol=2)


@pytest.mark.parametrize("encoding", SEMI_PLANAR)
@pytest.mark.parametrize("change", [{"height": 6}, {"width": 14}, {"step": 4}, {"step": 2**31}, {"height": 2**32 - 2}])
def test_planes_that_are_cut_off_are_refused(encoding: str, change: dict[str, int]) -> None:
    msg = semi_planar(encoding, [(90, 200, 100)] * 3, stated_step=12)
    msg.data = msg.data[:-1]
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError):
        image_to_bgr(msg)


def test_half_pixels_of_chroma_are_refused() -> None:
    msg = image_message(np.zeros((3, 4), np.uint8), "nv12")
    with pytest.raises(ImageError, match="both sides must be even"):
        image_to_bgr(msg)


@pytest.mark.parametrize("name", ["BGR8", " bgr8", "Bgr8"])
def test_an_encoding_in_other_letters_is_read_and_said_once(name: str) -> None:
    said: list[str] = []
    remark = SayOnce(said.append)
    for _ in range(3):
        np.testing.assert_array_equal(image_to_bgr(image_message(BGR, name), remark=remark), BGR)
    assert said == [f"image encoding {name!r} is read as bgr8"]


@pytest.mark.parametrize("encoding", [*PLAIN, *WIDE])
def test_a_step_of_0_is_read_where_the_size_leaves_no_doubt(encoding: str) -> None:
    said: list[str] = []
    pixels, expected = {**PLAIN, **WIDE}[encoding]
    msg = image_message(sixteen_bits(pixels, "<") if encoding in WIDE else np.ascontiguousarray(pixels), encoding)
    msg.step = 0
    np.testing.assert_array_equal(image_to_bgr(msg, remark=said.append), expected)
    assert len(said) == 1
    msg.data = msg.data[:-1]
    with pytest.raises(ImageError, match=r"is 0 bytes; .* are needed"):
        image_to_bgr(msg)


def test_an_encoding_of_a_megabyte_is_shortened_in_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError) as refused:
        image_to_bgr(image_message(GRAY, "x\n" * 500_000))
    assert len(str(refused.value)) < 800
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", BAYER_COLORS)
@pytest.mark.parametrize("color", [(200, 0, 0), (0, 150, 0), (0, 0, 250), (30, 90, 220)])
def test_bayer_mosaics_are_decoded_by_their_first_rows(name: str, bits: int, color: tuple[int, int, int]) -> None:
    of_letter = dict(zip("bgr", color, strict=True))
    tile = np.array([of_letter[letter] for letter in BAYER_COLORS[name]], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 5))
    msg = image_message(mosaic if bits == 8 else sixteen_bits(mosaic, "<"), f"{name}{bits}")
    image = image_to_bgr(padded(msg, 2))
    np.testing.assert_array_equal(image, np.broadcast_to(np.array(color, np.uint8), (8, 10, 3)))


@pytest.mark.parametrize("padding", [0, 5])
def test_bgr8_is_a_view_of_the_message(padding: int) -> None:
    msg = padded(image_message(BGR), padding)
    assert np.shares_memory(image_to_bgr(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 0}, "zero size: 0x6"),
        ({"height": 0}, "zero size: 8x0"),
        ({"step": 23}, "step of a 8 pixels wide bgr8 image is 23 bytes; 24 or more are needed"),
        ({"step": 25}, "has 144 bytes; 150 are needed"),
        ({"height": 7}, "has 144 bytes; 168 are needed"),
        ({"encoding": "yuv422", "width": 7}, "yuv422 image cannot be 7x6"),
    ],
)
def test_a_malformed_image_is_refused_with_its_numbers(change: dict[str, Any], said: str) -> None:
    msg = image_message(BGR)
    for name, value in change.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError, match=said):
        image_to_bgr(msg)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (2, 2)])
@pytest.mark.parametrize("encoding", [*LAYOUTS])
def test_the_smallest_images_are_read_or_refused(encoding: str, shape: tuple[int, int]) -> None:
    layout = LAYOUTS[encoding]
    msg = image_message(np.zeros((*shape, layout.channels), f"u{layout.bits // 8}"), encoding)
    try:
        image = image_to_bgr(msg)
    except ImageError:
        assert encoding in YUV or "bayer" in encoding
    else:
        assert image.shape == (*shape, 3)


def test_an_unknown_encoding_without_cv_bridge_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    with pytest.raises(ImageError, match=r"unknown image encoding 'mono12'; known without cv_bridge: mono8, .*bgr8"):
        image_to_bgr(image_message(GRAY, "mono12"))


class FakeCvBridge:
    """Stands for cv_bridge, which is not everywhere."""

    def imgmsg_to_cv2(self, msg: Image, desired_encoding: str) -> NDArray[np.uint8]:
        if msg.encoding != "mono12" or desired_encoding != "bgr8":
            raise TypeError(f"Unrecognized image encoding [{msg.encoding}]")
        return BGR


def test_an_encoding_only_cv_bridge_knows_is_handed_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("cv_bridge")
    module.CvBridge = FakeCvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    np.testing.assert_array_equal(image_to_bgr(image_message(GRAY, "mono12")), BGR)
    with pytest.raises(ImageError, match="cv_bridge cannot convert encoding 'odd'"):
        image_to_bgr(image_message(GRAY, "odd"))


def compressed(data: bytes, form: str = "jpeg") -> CompressedImage:
    msg = CompressedImage(header=new_header(), format=form)
    msg.data.frombytes(data)
    return msg


def encoded(extension: str, image: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(extension, image)[1])


def test_a_png_is_decoded_exactly_and_a_jpeg_closely() -> None:
    smooth = cv2.resize(BGR, (64, 48), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(compressed_to_bgr(compressed(encoded(".png", BGR), "bgr8; png compressed bgr8")), BGR)
    decoded = compressed_to_bgr(compressed(encoded(".jpg", smooth), "rgb8; jpeg compressed bgr8"))
    assert np.abs(decoded.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("image", [GRAY, sixteen_bits(GRAY, "="), np.dstack([BGR, GRAY])])
def test_gray_deep_and_transparent_pngs_become_bgr(image: NDArray[Any]) -> None:
    decoded = compressed_to_bgr(compressed(encoded(".png", image), "png"))
    assert decoded.shape == (6, 8, 3)
    assert decoded.dtype == np.uint8


def mosaic_of(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """What a sensor behind this pattern of colours sees of a picture (H, W, 3)."""
    mosaic = np.empty(image.shape[:2], np.uint8)
    for place, letter in enumerate(BAYER_COLORS[name]):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = image[row::2, column::2, "bgr".index(letter)]
    return mosaic


@pytest.mark.parametrize("name", BAYER_COLORS)
@pytest.mark.parametrize("form", ["{0}8; jpeg compressed {0}8", "{0}8; jpeg compressed ", "{0}8; png compressed {0}8"])
def test_a_compressed_mosaic_is_demosaiced(name: str, form: str) -> None:
    color = np.broadcast_to(np.array([30, 90, 220], np.uint8), (32, 32, 3))
    extension = ".png" if "png" in form else ".jpg"
    decoded = compressed_to_bgr(compressed(encoded(extension, mosaic_of(color, name)), form.format(name)))
    assert np.abs(decoded[4:-4, 4:-4].astype(int) - color[4:-4, 4:-4]).mean() < (0.1 if extension == ".png" else 12)


def test_a_mosaic_that_was_demosaiced_before_compression_is_left_alone() -> None:
    form = "bayer_rggb8; png compressed bgr8"
    np.testing.assert_array_equal(compressed_to_bgr(compressed(encoded(".png", BGR), form)), BGR)


@pytest.mark.parametrize("what", ["mono16", "bayer_rggb16", "bgr16"])
def test_a_png_of_12_bits_in_16_is_as_bright_as_its_camera_saw_it(what: str) -> None:
    smooth = cv2.resize(BGR, (64, 48), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    smooth[:4], smooth[-4:] = 0, 255
    pixels = {"mono16": smooth[..., 0], "bayer_rggb16": mosaic_of(smooth, "bayer_rggb"), "bgr16": smooth}[what]
    png = encoded(".png", pixels.astype(np.uint16) << 4)
    levels = LevelFinder()
    decoded = compressed_to_bgr(compressed(png, f"{what}; png compressed {what}"), levels)
    assert levels.levels == (0, 4095)
    expected = compressed_to_bgr(compressed(encoded(".png", pixels), f"{what.replace('16', '8')}; png"))
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("encoding", WIDE)
def test_a_camera_with_fewer_bits_is_as_bright_as_one_with_8(encoding: str, bits: int, order: str) -> None:
    pixels, expected = WIDE[encoding]
    low = (pixels.astype(np.uint16) << (bits - 8)).astype(f"{order}u2")
    msg = image_message(np.ascontiguousarray(low), encoding)
    msg.is_bigendian = int(order == ">")
    np.testing.assert_array_equal(image_to_bgr(msg, LevelFinder()), expected)


def png_announcing(width: int, height: int) -> bytes:
    """A small PNG whose header speaks of a huge one."""
    data = bytearray(encoded(".png", BGR))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", encoded(".jpg", BGR)[:40], encoded(".png", BGR)[:30], png_announcing(2**20, 2**20)]
)
def test_undecodable_data_is_refused_with_format_and_size(data: bytes) -> None:
    with pytest.raises(ImageError, match=f"format 'jpeg' and {len(data)} bytes cannot be decoded"):
        compressed_to_bgr(compressed(data))


def test_a_jpegs_rotation_is_ignored_because_camera_info_knows_nothing_of_it() -> None:
    orientation_6 = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + orientation_6 + bytes(4)
    jpeg = encoded(".jpg", BGR)
    rotated = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    turned: Any = cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (8, 6, 3)
    np.testing.assert_array_equal(compressed_to_bgr(compressed(rotated)), compressed_to_bgr(compressed(jpeg)))


def test_pixels_that_are_no_picture_are_refused() -> None:
    with pytest.raises(ImageError, match="pixels of type int16; allowed: 8 and 16 bits"):
        compressed_to_bgr(compressed(encoded(".tiff", BGR.astype(np.int16)), "tiff"))


def test_a_picture_that_announces_more_than_the_limit_is_not_decoded() -> None:
    with pytest.raises(ImageError, match="cannot be decoded: the image is 12000x12000 pixels"):
        compressed_to_bgr(compressed(png_announcing(12000, 12000), "png"))


def test_compressed_depth_is_no_picture() -> None:
    with pytest.raises(ImageError, match="'16UC1; compressedDepth png' holds depth"):
        compressed_to_bgr(compressed(encoded(".png", GRAY), "16UC1; compressedDepth png"))


def test_a_bgr_picture_becomes_an_image_that_reads_back() -> None:
    header = new_header()
    msg = bgr_to_image(BGR[:, ::-1], header)
    assert (msg.encoding, msg.height, msg.width, msg.step) == ("bgr8", 6, 8, 24)
    assert msg.header == header
    np.testing.assert_array_equal(image_to_bgr(msg), BGR[:, ::-1])


def test_depth_is_published_in_metres_or_in_millimetres_with_0_for_invalid() -> None:
    depth = np.array([[0.0, 1.2344, 1.2346, 65.535], [70.0, np.nan, np.inf, -np.inf]], np.float32)
    metres, millimetres = depth_to_image(depth, new_header()), depth_to_image(depth, new_header(), "16UC1")
    assert (metres.encoding, metres.step, metres.height, metres.width) == ("32FC1", 16, 2, 4)
    np.testing.assert_array_equal(np.frombuffer(metres.data, np.float32).reshape(2, 4), depth)
    assert (millimetres.encoding, millimetres.step) == ("16UC1", 8)
    assert bool(millimetres.is_bigendian) == (sys.byteorder == "big")
    expected = [[0, 1234, 1235, 65535], [0, 0, 0, 0]]
    np.testing.assert_array_equal(np.frombuffer(millimetres.data, np.uint16).reshape(2, 4), expected)


CAMERA = CameraModel(fx=5.0, fy=6.0, cx=2.0, cy=3.5, width=8, height=6)
DEPTH = np.arange(1, 6 * 8 + 1, dtype=np.float32).reshape(6, 8)


def cloud(depth: NDArray[np.float32] = DEPTH, stride: int = 1) -> tuple[NDArray[np.float32], PointCloud2]:
    points = CAMERA.back_project(depth, stride=stride)
    return points, cloud_message(depth, BGR, new_header(), CAMERA, stride)


def test_a_picture_is_published_as_a_jpeg_that_the_node_itself_can_read() -> None:
    smooth = cv2.resize(BGR, (64, 48), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    header = new_header()
    msg = through_the_middleware(bgr_to_compressed(smooth, header))
    assert (msg.header, msg.format) == (header, "bgr8; jpeg compressed bgr8")
    assert np.abs(compressed_to_bgr(msg).astype(int) - smooth).mean() < 3
    assert len(bgr_to_compressed(smooth, header, quality=20).data) < len(msg.data)


@pytest.mark.parametrize("encoding", ["32FC1", "16UC1"])
def test_compressed_depth_is_published_with_its_header_and_a_hole_for_what_is_invalid(encoding: str) -> None:
    depth = np.array([[0.5, 1.0, 10.0], [np.nan, np.inf, 25.0]], np.float32)
    header = new_header()
    msg = through_the_middleware(depth_to_compressed(depth, header, encoding, depth_max_m=20.0))
    assert (msg.header, msg.format) == (header, f"{encoding}; compressedDepth png")
    read = decode(msg.format, bytes(msg.data))
    np.testing.assert_allclose(read[0], depth[0], rtol=1e-3)
    assert np.isnan(read[1]).all()
    with pytest.raises(ImageError, match="holds depth"):
        compressed_to_bgr(msg)


def through_the_middleware(msg: CompressedImage) -> CompressedImage:
    """What a subscriber gets."""
    received: CompressedImage = deserialize_message(serialize_message(msg), CompressedImage)
    return received


def test_a_cloud_is_organised_with_x_y_z_rgb_in_16_bytes() -> None:
    _, msg = cloud()
    assert [(f.name, f.offset, f.datatype, f.count) for f in msg.fields] == [
        ("x", 0, PointField.FLOAT32, 1),
        ("y", 4, PointField.FLOAT32, 1),
        ("z", 8, PointField.FLOAT32, 1),
        ("rgb", 12, PointField.FLOAT32, 1),
    ]
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (6, 8, 16, 128)
    assert len(msg.data) == 6 * 128
    assert msg.is_dense
    assert bool(msg.is_bigendian) == (sys.byteorder == "big")


def test_each_point_carries_its_position_and_its_pixels_colour() -> None:
    points, msg = cloud()
    for row, column in ((0, 0), (2, 7), (5, 3)):
        at = row * msg.row_step + column * msg.point_step
        x, y, z, rgb = struct.unpack("=fffI", bytes(msg.data[at : at + 16]))
        assert (x, y, z) == tuple(points[row, column])
        blue, green, red = (int(value) for value in BGR[row, column])
        assert rgb == red << 16 | green << 8 | blue


def test_sensor_msgs_py_reads_the_cloud() -> None:
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")
    points, msg = cloud()
    read = point_cloud2.read_points(msg, field_names=("x", "y", "z")).reshape(6, 8)
    np.testing.assert_array_equal(np.stack([read["x"], read["y"], read["z"]], axis=-1), points)


def test_a_cloud_with_a_hole_is_not_dense() -> None:
    depth = DEPTH.copy()
    depth[3, 4] = np.nan
    points, msg = cloud(depth)
    assert not msg.is_dense
    np.testing.assert_array_equal(np.frombuffer(msg.data, np.float32).reshape(6, 8, 4)[..., :3], points)


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_a_decimated_cloud_takes_every_nth_row_and_column_with_its_colour(stride: int) -> None:
    _, whole = cloud()
    _, msg = cloud(stride=stride)
    points = np.frombuffer(whole.data, np.uint32).reshape(6, 8, 4)[::stride, ::stride]
    np.testing.assert_array_equal(np.frombuffer(msg.data, np.uint32).reshape(points.shape), points)


def test_a_cloud_of_a_torch_tensor_is_that_of_its_numbers() -> None:
    _, msg = cloud()
    assert cloud_message(torch.from_numpy(DEPTH), BGR, new_header(), CAMERA).data == msg.data


def published_info(info: CameraInfo, width: int, height: int) -> CameraInfo:
    camera = CameraModel.from_camera_info(info).scaled_to(width, height)
    return camera_info_for(info, camera, new_header())


def project(info: CameraInfo, point: tuple[float, float, float]) -> NDArray[np.float64]:
    """Pixel of a point in the image a CameraInfo describes: K first, then crop, then binning."""
    pixel = (np.reshape(info.k, (3, 3)) @ point)[:2] / point[2]
    crop = (info.roi.x_offset, info.roi.y_offset)
    pixels: NDArray[np.float64] = (pixel - crop) / (max(1, info.binning_x), max(1, info.binning_y))
    return pixels


VARIANTS: list[dict[str, Any]] = [
    {},
    {"binning_x": 2, "binning_y": 2},
    {"roi": RegionOfInterest(x_offset=10, y_offset=20, width=320, height=240)},
    {"binning_x": 2, "binning_y": 2, "roi": RegionOfInterest(x_offset=64, y_offset=32, width=320, height=240)},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_camera_info_of_an_unchanged_size_stays_as_it_came(changes: dict[str, Any]) -> None:
    info = camera_info(640, 480, **changes)
    camera = CameraModel.from_camera_info(info)
    header = new_header()
    out = camera_info_for(info, camera, header)
    assert out.header == header
    for name in ("width", "height", "distortion_model", "binning_x", "binning_y", "roi"):
        assert getattr(out, name) == getattr(info, name)
    for name in ("d", "k", "r", "p"):
        np.testing.assert_array_equal(getattr(out, name), getattr(info, name))


@pytest.mark.parametrize("factor", [0.5, 0.25, 2.0])
@pytest.mark.parametrize("changes", VARIANTS)
def test_camera_info_of_a_resized_image_projects_to_its_pixels(changes: dict[str, Any], factor: float) -> None:
    info = camera_info(640, 480, **changes)
    sent = CameraModel.from_camera_info(info)
    width, height = int(sent.width * factor), int(sent.height * factor)
    out = published_info(info, width, height)
    assert (out.width, out.height) == (width, height)
    assert (max(1, out.binning_x), out.roi.width, out.roi.x_offset) == (1, 0, 0)
    point = (0.3, -0.2, 2.0)
    np.testing.assert_allclose(project(out, point), (project(info, point) + 0.5) * factor - 0.5)
    rectified = (np.reshape(out.p, (3, 4)) @ (*point, 1.0))[:2] / point[2]
    np.testing.assert_allclose(rectified, project(out, point))


def test_a_stereo_cameras_baseline_survives_the_resize() -> None:
    info = camera_info(640, 480)
    info.p[3] = -info.p[0] * 0.12
    out = published_info(info, 320, 240)
    assert -out.p[3] / out.p[0] == pytest.approx(0.12)
