"""The size the network sees, the caps on it, and what becomes of the pixels."""

from __future__ import annotations

import math
import time

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stand_in import stand_in_image

from depth_anything_ros.errors import ImageError
from depth_anything_ros.model.preprocess import MEAN, STD, ResizeOnce, ResizeTwice
from depth_anything_ros.model.registry import PATCH_SIZE
from depth_anything_ros.settings import InputLimits

LIMITS = InputLimits()
network_size = ResizeOnce().network_size
NO_LIMITS = InputLimits(max_aspect_ratio=math.inf, max_tokens=10**12)


@pytest.mark.parametrize(
    ("height", "width", "input_size", "expected"),
    [
        (480, 640, 518, (518, 686)),
        (640, 480, 518, (686, 518)),
        (518, 518, 518, (518, 518)),
        (1080, 1920, 518, (518, 924)),
        (720, 1280, 518, (518, 924)),
        (188, 621, 266, (266, 882)),
        (97, 131, 126, (126, 168)),
        (200, 150, 154, (210, 154)),
        (100, 100, 100, (112, 112)),  # no multiple of 14: up
        (1, 1, 14, (14, 14)),
        (1, 8, 518, (518, 4144)),
        (2160, 3840, 518, (518, 924)),
        (480, 640, 1036, (1036, 1386)),
        (31, 29, 14, (14, 14)),
        (43, 28, 14, (28, 14)),  # 21.5: the nearest multiple
    ],
)
def test_size_follows_the_official_rule(height: int, width: int, input_size: int, expected: tuple[int, int]) -> None:
    assert network_size(height, width, input_size, NO_LIMITS) == expected


def official_length(length: int, other: int, input_size: int) -> int:
    """The official transform's arithmetic for one side, `lower_bound`."""
    scaled = max(input_size / length, input_size / other) * length
    nearest = int(np.round(scaled / 14) * 14)
    return nearest if nearest >= input_size else int(np.ceil(scaled / 14) * 14)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (784, 315, (504, 210)),  # 202.5 by fractions; the official factor, rounded to a float, makes a little more
        (707, 784, (462, 504)),
        (640, 480, (504, 378)),
    ],
)
def test_half_pixels_are_rounded_as_the_official_factor_has_them(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert ResizeTwice().network_size(height, width, 504, NO_LIMITS) == expected


sides, sizes = st.integers(1, 9000), st.integers(14, 1100)


@given(height=sides, width=sides, input_size=sizes)
def test_size_is_the_official_one_for_any_image(height: int, width: int, input_size: int) -> None:
    h, w = network_size(height, width, input_size, NO_LIMITS)
    assert (h, w) == (official_length(height, width, input_size), official_length(width, height, input_size))
    assert h % PATCH_SIZE == w % PATCH_SIZE == 0
    assert input_size <= min(h, w) < input_size + PATCH_SIZE
    assert network_size(width, height, input_size, NO_LIMITS) == (w, h)


@given(height=sides, width=sides, input_size=sizes)
def test_size_keeps_the_aspect_ratio_to_half_a_patch(height: int, width: int, input_size: int) -> None:
    h, w = network_size(height, width, input_size, NO_LIMITS)
    assume(min(h, w) == input_size)
    scale = input_size / min(height, width)
    assert abs(max(h, w) - max(height, width) * scale) <= PATCH_SIZE / 2 + 1e-6


@given(height=sides, width=sides, input_size=sizes)
def test_what_passes_the_caps_is_within_them(height: int, width: int, input_size: int) -> None:
    try:
        h, w = network_size(height, width, input_size, LIMITS)
    except ImageError:
        h, w = network_size(height, width, input_size, NO_LIMITS)
        too_long = max(height, width) > LIMITS.max_aspect_ratio * min(height, width)
        assert too_long or h * w // PATCH_SIZE**2 > LIMITS.max_tokens
    else:
        assert h * w // PATCH_SIZE**2 <= LIMITS.max_tokens


@pytest.mark.parametrize(("height", "width"), [(4000, 1), (1, 4000), (8, 65000), (100, 801)])
def test_elongated_image_is_refused_with_its_ratio_and_the_limit(height: int, width: int) -> None:
    with pytest.raises(ImageError, match=rf"{width}x{height} pixels, an aspect ratio of .*:1; allowed: up to 8:1"):
        network_size(height, width, 56, LIMITS)


def test_the_limits_themselves_are_allowed() -> None:
    assert network_size(100, 800, 56, InputLimits(max_aspect_ratio=8, max_tokens=4 * 32)) == (56, 448)


def test_too_many_tokens_are_refused_with_their_number_and_the_limit() -> None:
    with pytest.raises(ImageError, match="makes 11532 tokens; allowed: up to 10000: take a smaller input size"):
        network_size(1000, 3000, 868, LIMITS)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (0, 0)])
def test_empty_image_is_refused(height: int, width: int) -> None:
    with pytest.raises(ImageError, match="empty"):
        network_size(height, width, 518, LIMITS)


def test_refusing_costs_no_resize() -> None:
    start = time.perf_counter()
    for _ in range(100):
        with pytest.raises(ImageError):
            network_size(4000, 1, 518, LIMITS)
    assert (time.perf_counter() - start) / 100 < 0.05  # resizing it would take seconds and gigabytes


def official_tensor(image_bgr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """The official steps: RGB in 0..1, cv2's bicubic, ImageNet statistics, channels first."""
    rgb = image_bgr[..., ::-1] / np.float64(255)
    resized = cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(((resized - MEAN) / STD).transpose(2, 0, 1), np.float32)


@pytest.mark.parametrize(("height", "width", "input_size"), [(60, 80, 84), (300, 200, 84), (84, 84, 84), (5, 7, 28)])
def test_pixels_are_the_official_ones(height: int, width: int, input_size: int) -> None:
    image = stand_in_image(height, width, seed=3)
    size = network_size(height, width, input_size, LIMITS)
    x = ResizeOnce()(torch.from_numpy(image[None]), input_size)
    assert (x.shape, x.dtype) == ((1, 3, *size), torch.float32)
    np.testing.assert_allclose(x[0].numpy(), official_tensor(image, size), rtol=0, atol=1e-3)


def test_the_callers_image_is_not_changed() -> None:
    image = stand_in_image(14, 14, seed=3)
    before = image.copy()
    ResizeOnce()(torch.from_numpy(image[None]), 14)
    assert (image == before).all()
