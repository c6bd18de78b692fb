"""Compressed depth and pictures, read by a decoder written from the official one's formulas.

The reference is ros-perception/image_transport_plugins, compressed_depth_image_transport/src/codec.cpp
(decodeCompressedDepthImage) and include/.../compression_common.hpp (ConfigHeader).
"""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.messages.compressed import ENCODINGS, bgr_to_jpeg, decode, encode
from depth_anything_ros.synthetic.camera import SyntheticCamera

RANGES_M = (20.0, 80.0)  # indoors, outdoors
NEAREST_M = 0.16


def png_pixels(data: bytes) -> NDArray[np.int64]:
    """16-bit PNG -> (H, W), by Pillow where it is there: not by what wrote it."""
    try:
        from PIL import Image
    except ImportError:
        import cv2

        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)).astype(np.int64)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        assert picture.mode in ("I;16", "I")
        return np.asarray(picture).astype(np.int64)


def official_reader(format_: str, data: bytes) -> NDArray[np.float64]:
    """What a subscriber of the plugin gets: metres with NaN for 32FC1, millimetres with 0 for 16UC1."""
    encoding, rest = format_.split(";", 1)
    assert "compressedDepth png" in rest
    assert len(data) > 12
    _, a, b = struct.unpack("=iff", data[:12])
    pixels = png_pixels(data[12:])
    if encoding == "16UC1":
        return pixels.astype(np.float64)
    with np.errstate(divide="ignore"):
        return np.where(pixels != 0, a / (pixels - b), np.nan)


def ramp(nearest_m: float, farthest_m: float) -> NDArray[np.float32]:
    return np.geomspace(nearest_m, farthest_m, 64 * 48).astype(np.float32).reshape(48, 64)


@pytest.mark.parametrize("depth_max_m", RANGES_M)
def test_an_official_reader_gets_float_depth_within_half_a_step(depth_max_m: float) -> None:
    depth = ramp(NEAREST_M, depth_max_m)
    format_, data = encode(depth, "32FC1", depth_max_m=depth_max_m)
    assert format_ == "32FC1; compressedDepth png"
    half_step = depth.astype(np.float64) ** 2 / 10100 / 2  # q = A / depth + B with A = 100 * 101
    read = official_reader(format_, data)
    # Near the far end, a step is no longer small against depth: half of it is a little more than its derivative.
    assert (np.abs(read - depth) <= 1.01 * half_step + 1e-5 * depth).all()


@pytest.mark.parametrize(("depth_m", "error_m"), [(1.0, 0.00006), (10.0, 0.006)])
@pytest.mark.parametrize("depth_max_m", RANGES_M)
def test_resolution_is_what_the_documentation_says(depth_max_m: float, depth_m: float, error_m: float) -> None:
    around = np.linspace(depth_m * 0.99, depth_m * 1.01, 1000, dtype=np.float32).reshape(20, 50)
    read = official_reader(*encode(around, depth_max_m=depth_max_m))
    assert np.abs(read - around).max() <= error_m


@pytest.mark.parametrize("depth_max_m", RANGES_M)
def test_an_official_reader_gets_millimetres(depth_max_m: float) -> None:
    depth = ramp(0.001, min(depth_max_m, 65.0))
    format_, data = encode(depth, "16UC1", depth_max_m=depth_max_m)
    assert format_ == "16UC1; compressedDepth png"
    assert data[:12] == bytes(12)
    assert np.abs(official_reader(format_, data) - depth * 1000.0).max() <= 0.51


BAD = (np.nan, np.inf, -np.inf, 0.0, -1.0, 20.5, 1e38)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_no_depth_arrives_as_invalid(encoding: str) -> None:
    depth = np.array([[*BAD, 5.0]], np.float32)
    read = official_reader(*encode(depth, encoding, depth_max_m=20.0))
    valid = read > 0
    assert valid.tolist() == [[False] * len(BAD) + [True]]
    assert np.isnan(decode(*encode(depth, encoding, depth_max_m=20.0))).tolist() == (~valid).tolist()


def test_the_largest_depth_itself_is_kept() -> None:
    for depth_max_m in RANGES_M:
        read = official_reader(*encode(np.full((2, 2), depth_max_m), depth_max_m=depth_max_m))
        np.testing.assert_allclose(read, depth_max_m, rtol=1e-3)


@pytest.mark.parametrize("depth_m", [1e-38, 1e-6, 0.01, 0.15])
def test_what_is_too_near_for_16_bits_stays_near_instead_of_vanishing(depth_m: float) -> None:
    read = official_reader(*encode(np.full((2, 2), depth_m), depth_max_m=20.0))
    assert ((read > 0) & (read <= NEAREST_M)).all()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_our_own_reader_agrees_with_the_official_one(encoding: str) -> None:
    depth = SyntheticCamera(3, 160, 120).frame().depth
    format_, data = encode(depth, encoding, depth_max_m=20.0)
    official = official_reader(format_, data) / (1000.0 if encoding == "16UC1" else 1.0)
    read = decode(format_, data)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, official, rtol=1e-4)
    np.testing.assert_allclose(decode(encoding, data), read)  # as old plugins wrote the format


def test_a_finer_quantization_is_finer() -> None:
    depth = ramp(1.0, 80.0)
    coarse, fine = (
        np.abs(official_reader(*encode(depth, depth_max_m=80.0, depth_quantization=z)) - depth).max()
        for z in (100.0, 200.0)
    )
    assert fine < coarse / 3


def test_data_is_smaller_than_the_depth_image() -> None:
    depth = SyntheticCamera(3, 320, 240).frame().depth
    assert len(encode(depth, depth_max_m=20.0)[1]) < depth.nbytes / 2


@pytest.mark.parametrize(
    ("depth", "options", "named"),
    [
        (np.ones((2, 2)), {"encoding": "64FC1"}, "'64FC1'.*32FC1, 16UC1"),
        (np.ones((2, 2)), {"depth_max_m": 0.0}, "depth_max_m.*0.0"),
        (np.ones((2, 2)), {"depth_max_m": np.nan}, "depth_max_m.*nan"),
        (np.ones((2, 2)), {"depth_quantization": -1.0}, "depth_quantization.*-1.0"),
        (np.ones(4), {}, r"\(4,\)"),
        (np.ones((0, 4)), {}, r"\(0, 4\)"),
    ],
)
def test_bad_input_is_named(depth: NDArray[np.float64], options: dict[str, float | str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        encode(depth, **{"depth_max_m": 20.0, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("format_", ["32FC1; compressedDepth rvl", "jpeg", "bgr8; png compressed bgr8", ""])
def test_another_format_is_refused(format_: str) -> None:
    with pytest.raises(InputError, match="format"):
        decode(format_, encode(np.ones((2, 2)), depth_max_m=20.0)[1])


def test_damaged_data_is_refused() -> None:
    format_, data = encode(np.ones((20, 20)), depth_max_m=20.0)
    for damaged in (b"", data[:5], data[:12], data[:12] + b"rubbish", data[:60]):
        with pytest.raises(InputError, match="PNG"):
            decode(format_, damaged)


# ---- pictures


def test_a_picture_is_a_jpeg_that_looks_the_same() -> None:
    picture = SyntheticCamera(3, 160, 120).frame().image_bgr
    format_, data = bgr_to_jpeg(picture)
    assert format_ == "bgr8; jpeg compressed bgr8"
    Image = pytest.importorskip("PIL.Image")
    with Image.open(io.BytesIO(data)) as read:
        assert read.format == "JPEG"
        rgb = np.asarray(read.convert("RGB")).astype(int)
    assert np.abs(rgb[..., ::-1] - picture).mean() < 4
    assert len(bgr_to_jpeg(picture, 30)[1]) < len(data) / 2


def test_a_picture_that_cannot_be_one_is_named() -> None:
    for quality in (0, 101):
        with pytest.raises(SettingsError, match=str(quality)):
            bgr_to_jpeg(np.zeros((2, 2, 3), np.uint8), quality)
    for wrong in (np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint16), np.zeros((0, 2, 3), np.uint8)):
        with pytest.raises(InputError, match=r"\("):
            bgr_to_jpeg(wrong)  # type: ignore[arg-type]
