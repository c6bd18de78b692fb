"""Which 16-bit values are black and white: sensors with fewer bits, thermal cameras, and what is held."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from stand_in import stand_in_image

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.messages.levels import LevelFinder

PICTURE = stand_in_image(48, 64, seed=3)[..., 0]
# All 8-bit values, none of them rare.
FULL = np.tile(np.arange(256, dtype=np.uint8), (48, 1))


def counts(picture: NDArray[np.uint8], low: int, high: int) -> NDArray[np.uint16]:
    """The picture of a sensor that counts from `low` to `high`."""
    return np.rint(low + picture.astype(np.float64) / 255 * (high - low)).astype(np.uint16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_bits_of_a_sensor_are_found(bits: int) -> None:
    said: list[str] = []
    finder = LevelFinder(remark=said.append)
    white = (1 << bits) - 1
    image = finder.to_uint8(counts(FULL, 0, white))
    assert finder.levels == (0, white)
    assert np.abs(image.astype(int) - FULL).max() <= 1
    assert image.dtype == np.uint8
    assert len(said) == (bits < 16), "the usual is not worth a word"


def test_a_sensor_that_fills_the_high_bits_is_read_as_16_bits() -> None:
    finder = LevelFinder()
    np.testing.assert_array_equal(finder.to_uint8(np.left_shift(FULL, 8, dtype=np.uint16)), FULL)
    assert finder.levels == (0, 65535)


def test_the_counts_of_a_thermal_camera_fill_the_range() -> None:
    said: list[str] = []
    finder = LevelFinder(remark=said.append)
    image = finder.to_uint8(counts(FULL, 7000, 8500))
    assert np.abs(image.astype(int) - FULL).max() <= 2
    assert finder.levels.black == pytest.approx(7000, abs=10)
    assert finder.levels.white == pytest.approx(8500, abs=10)
    assert "black_level" in said[0]


def test_a_blank_wall_is_not_stretched_to_its_noise() -> None:
    noise = np.random.default_rng(0).normal(3000, 10, (48, 64)).astype(np.uint16)
    assert LevelFinder().to_uint8(noise).std() < 15


def test_levels_that_are_set_are_used() -> None:
    said: list[str] = []
    finder = LevelFinder(7000, 8500, said.append)
    image = finder.to_uint8(np.array([[6000, 7000, 7750, 8500, 9000]], np.uint16))
    assert image.tolist() == [[0, 0, 128, 255, 255]]
    finder.to_uint8(counts(FULL, 0, 65535))
    assert finder.levels == (7000, 8500)
    assert not said
    finder = LevelFinder(white_level=1023)
    assert finder.to_uint8(np.array([[0, 512, 1023, 4000]], np.uint16)).tolist() == [[0, 128, 255, 255]]


def test_a_black_level_alone_is_kept_while_white_is_found() -> None:
    finder = LevelFinder(black_level=256)
    finder.to_uint8(counts(FULL, 256, 4095))
    assert finder.levels == (256, 4095)


def test_levels_hold_when_the_scene_gets_darker_or_one_picture_flashes() -> None:
    finder = LevelFinder()
    finder.to_uint8(counts(FULL, 0, 4000))
    for picture in (counts(FULL, 0, 60000), counts(FULL, 0, 300), counts(FULL, 0, 60000), counts(FULL, 0, 4000)):
        finder.to_uint8(picture)
        assert finder.levels == (0, 4095)


def test_levels_widen_when_picture_after_picture_is_brighter() -> None:
    said: list[str] = []
    finder = LevelFinder(remark=said.append)
    finder.to_uint8(np.zeros((48, 64), np.uint16))  # before the exposure has settled
    assert finder.levels == (0, 65535)
    finder.to_uint8(counts(FULL, 0, 900))
    assert finder.levels == (0, 1023)
    for _ in range(3):
        finder.to_uint8(counts(FULL, 0, 3900))
    assert finder.levels == (0, 4095)
    assert len(said) == 2


def test_an_overexposed_start_is_not_taken_for_an_offset_for_good() -> None:
    finder = LevelFinder()
    finder.to_uint8(np.full((48, 64), 4095, np.uint16))
    for _ in range(3):
        finder.to_uint8(counts(FULL, 0, 4000))
    assert finder.levels == (0, 4095)


def test_a_stuck_pixel_and_a_line_of_telemetry_do_not_count() -> None:
    picture = np.tile(counts(FULL, 0, 1000), (10, 3))
    picture[7, 100] = 65535
    picture[0, :40] = 65535
    finder = LevelFinder()
    finder.to_uint8(picture)
    assert finder.levels == (0, 1023)


@pytest.mark.parametrize(("black", "white"), [(-1, 0), (0, 65536), (100, 100), (4000, 1000)])
def test_impossible_levels_are_refused(black: int, white: int) -> None:
    with pytest.raises(SettingsError, match="_level must be"):
        LevelFinder(black, white)


def test_colours_and_mosaics_are_mapped_alike() -> None:
    stack = np.stack([counts(PICTURE, 0, 4095)] * 3, axis=-1)
    image = LevelFinder(white_level=4095).to_uint8(stack)
    assert image.shape == stack.shape
    assert np.abs(image[..., 0].astype(int) - PICTURE).max() <= 1
