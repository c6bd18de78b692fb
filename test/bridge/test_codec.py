"""Bytes to images and depth to bytes: what comes out of the codec is what went in, or a clear refusal."""

import base64
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from running_bridge import encoded

from bridge.codec import (
    UndecodableData,
    UnusableScale,
    check_png_scale,
    decode_array_base64,
    decode_base64,
    decode_depth_png16,
    decode_image,
    decode_npy,
    decode_raw,
    encode_array_base64,
    encode_depth_png16,
    encode_raw,
    fitting_png_scale,
)
from depth_anything_ros.errors import ImageError
from depth_anything_ros.io.formats import encode_npy
from depth_anything_ros.io.image_formats import PNG_SIGNATURE
from depth_anything_ros.io.image_header import OversizedImage, UndecodableImage

GREY, COLOR, ALPHA = 1, 3, 4


def picture(channels: int = COLOR, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    """A smooth picture that survives JPEG."""
    v, u = np.mgrid[:height, :width]
    planes = [(u * 5) % 256, (v * 9) % 256, (u * 3 + v * 4) % 256, 128 + 0 * u][:channels]
    return np.stack(planes, axis=-1).astype(np.uint8)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, kind: int, *extra: bytes, rows: bytes = b"") -> bytes:
    """A PNG file, written by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(parts)


def jpeg_with(data: bytes, segment: bytes) -> bytes:
    """Put a segment right behind a JPEG's start."""
    return data[:2] + segment + data[2:]


def frame_changed(data: bytes, offset: int, value: bytes) -> bytes:
    """Change bytes in a JPEG's frame header, counted from its marker."""
    at = data.index(b"\xff\xc0") + offset
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize("channels", [GREY, COLOR, ALPHA])
@pytest.mark.parametrize(
    ("suffix", "parameters"),
    [
        (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 100)),
        (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        (".png", ()),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 90)),
        (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    ],
)
def test_every_format_decodes_to_bgr(suffix: str, parameters: tuple[int, ...], channels: int) -> None:
    source = picture(COLOR if (suffix, channels) == (".jpg", ALPHA) else channels)
    data = encoded(suffix, source, *parameters)
    image = decode_image(data)
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    expected = np.broadcast_to(source[..., :3], image.shape).astype(int)
    assert np.abs(image - expected).mean() < 8


def test_sixteen_bits_are_reduced_to_eight() -> None:
    image = decode_image(encoded(".png", picture().astype(np.uint16) * 257))
    np.testing.assert_array_equal(image, picture())


def test_a_palette_becomes_its_colours() -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
    image = decode_image(png(2, 1, 8, 3, palette, rows=b"\0\0\1"))
    np.testing.assert_array_equal(image, [[[0, 0, 255], [255, 0, 0]]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_not_applied(orientation: int) -> None:
    data = encoded(".jpg", picture())
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    turned = jpeg_with(data, b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
    np.testing.assert_array_equal(decode_image(turned), decode_image(data))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_image_that_is_cut_anywhere_is_refused(suffix: str) -> None:
    data = encoded(suffix, picture())
    for length in range(0, len(data) - 1, 3):
        with pytest.raises(UndecodableImage):
            decode_image(data[:length])


def test_a_thumbnail_inside_does_not_hide_a_cut() -> None:
    data = encoded(".jpg", picture())
    thumbnail = b"Exif\0\0" + data
    cut = jpeg_with(data, b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail)[:-50]
    with pytest.raises(UndecodableImage, match="truncated"):
        decode_image(cut)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_damaged_image_is_refused_or_decoded_but_never_breaks_the_decoder(suffix: str) -> None:
    data, random = encoded(suffix, picture()), np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= int(random.integers(1, 256))
        try:
            outcomes.add(decode_image(bytes(damaged)).ndim)
        except ImageError:
            outcomes.add(0)
    assert 0 in outcomes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8" + b"\xff" * 100,
        PNG_SIGNATURE,
        b"RIFF\x04\0\0\0WEBP",
        b"RIFF\x04\0\0\0WEBPABCDEFGHIJKLMNOPQRST",
        b"GIF89a\1\0\1\0\0\0\0;",
        b"BM" + 60 * b"\0",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"\x80\x04]\x94.",
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableImage):
        decode_image(data)


def huge(side: int) -> list[bytes]:
    """Small files that announce a square of `side` pixels."""
    vp8x = b"VP8X\x0a\0\0\0\0\0\0\0" + 2 * (side - 1).to_bytes(3, "little")
    jpeg = frame_changed(encoded(".jpg", picture()), 5, struct.pack(">HH", side, side))
    return [png(side, side, 8, 2), b"RIFF" + struct.pack("<I", len(vp8x) + 4) + b"WEBP" + vp8x, jpeg]


@pytest.mark.parametrize("data", huge(50_000), ids=["png", "webp", "jpeg"])
def test_a_header_that_announces_gigabytes_is_refused_before_decoding(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    assert len(data) < 5000
    with pytest.raises(OversizedImage, match="50000x50000"):
        decode_image(data)


def depth() -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(0.1, 20.0, (6, 7)).astype(np.float32)


def test_floats_come_back_as_they_went() -> None:
    for array in (depth(), depth()[::-1, ::2], depth().astype(np.float64)):
        same = array.astype(np.float32)
        np.testing.assert_array_equal(decode_raw(encode_raw(array), array.shape), same)
        np.testing.assert_array_equal(decode_array_base64(encode_array_base64(array).decode(), array.shape), same)
        np.testing.assert_array_equal(decode_npy(encode_npy(array)), same)


def test_floats_are_little_endian_row_by_row() -> None:
    assert encode_raw(np.array([[1.0, 2.0], [3.0, 4.0]])) == struct.pack("<4f", 1, 2, 3, 4)


def test_png_keeps_depth_to_half_a_step_and_marks_what_has_no_value() -> None:
    values = depth()
    values[0, :3] = np.nan, np.inf, 70.0
    back = decode_depth_png16(encode_depth_png16(values))
    assert np.isnan(back[0, :3]).all()
    np.testing.assert_allclose(back[1:], values[1:], atol=0.5e-3 + 1e-6)
    np.testing.assert_allclose(
        decode_depth_png16(encode_depth_png16(values, 250), 250)[1:], values[1:], atol=2e-3 + 1e-6
    )


def test_a_scale_is_refused_where_the_largest_depth_does_not_fit_or_is_no_level() -> None:
    check_png_scale(65.535, 1000)
    check_png_scale(0.001, 1000)
    for max_depth, scale in ((65.536, 1000), (80, 1000), (1, 1e9), (0.0009, 1000), (20, 0.04)):
        with pytest.raises(UnusableScale, match="65535"):
            check_png_scale(max_depth, scale)


def pickled_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


def npy_of(shape: tuple[int, ...]) -> bytes:
    """An `.npy` file that announces this shape and holds nothing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        encode_npy(depth())[:-1],
        pickled_npy(),
        b"\x80\x04]\x94.",
        npy_of((10**14,)),
        npy_of((10**9, 10**9, 10**9)),
        npy_of((-5, 3)),
    ],
)
def test_npy_that_is_cut_or_pickled_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableData):
        decode_npy(data)


def test_other_data_than_promised_is_refused() -> None:
    bomb = png(65_000, 65_000, 16, 0)
    for data in (b"", b"abc", bomb, encoded(".png", picture(GREY)), encoded(".png", picture().astype(np.uint16))):
        with pytest.raises(UndecodableData):
            decode_depth_png16(data)
    with pytest.raises(UndecodableData, match="shape"):
        decode_raw(b"1234", (2,))


def test_base64_is_read_in_every_common_form() -> None:
    data = bytes(range(256))
    text = base64.encodebytes(data).decode()
    for form in (
        text,
        text.strip().rstrip("="),
        base64.urlsafe_b64encode(data).decode(),
        "data:image/png;base64," + text,
        "DATA:image/png;charset=utf-8;BASE64," + text,
    ):
        assert decode_base64(form) == data


@pytest.mark.parametrize(
    "bad", ["a", "abcde", "ab$=", "ab==cd", "abc==", "=", "\u00fc===", "data:;base64", "data:image/png,QQ==", "da:QQ"]
)
def test_what_is_no_base64_is_refused(bad: str) -> None:
    with pytest.raises(UndecodableData):
        decode_base64(bad)


def test_the_fitting_png_scale_is_millimetres_while_they_fit_into_16_bits() -> None:
    for max_depth, scale in ((1.0, 1000.0), (20.0, 1000.0), (65.5, 1000.0), (80.0, 819), (1000.0, 65)):
        assert fitting_png_scale(max_depth) == scale
        check_png_scale(max_depth, scale)
