"""The focal length in a picture's EXIF data: read where it is told, and nothing where it is not."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from depth_anything_ros.io.exif import focal_px
from depth_anything_ros.io.pictures import read_picture


def jpeg(focal_35mm: int | None, width: int = 60, height: int = 40, orientation: int = 1) -> bytes:
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    if focal_35mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    buffer = io.BytesIO()
    PillowImage.new("RGB", (width, height)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_a_picture_of_the_shape_of_film_has_its_field_of_view() -> None:
    # 36 mm of film seen through 18 mm: 90 degrees along the longer side.
    assert focal_px(jpeg(18), 600, 400) == pytest.approx(300)
    assert focal_px(jpeg(18), 400, 600) == pytest.approx(300)


def test_other_shapes_keep_the_diagonal_field_of_view() -> None:
    focal = focal_px(jpeg(26), 4032, 3024)
    assert focal is not None
    assert 2 * math.atan(5040 / 2 / focal) == pytest.approx(2 * math.atan(math.hypot(36, 24) / 2 / 26))


@pytest.mark.parametrize("focal_35mm", [None, 0])
def test_a_file_that_does_not_tell_says_nothing(focal_35mm: int | None) -> None:
    assert focal_px(jpeg(focal_35mm), 60, 40) is None


def test_it_comes_with_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(18, orientation=6))
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.pixels.shape == (60, 40, 3)
    assert picture.focal_px == pytest.approx(30)


def test_damaged_data_says_nothing_and_ends_nothing() -> None:
    whole = jpeg(18)
    assert focal_px(b"", 60, 40) is None
    assert focal_px(b"\x89PNG", 60, 40) is None
    start = whole.index(b"Exif")
    for length in range(len(whole[: start + 120])):
        focal_px(whole[:length], 60, 40)
    for at in range(2, start + 120):
        for value in (0, 0x7F, 0xFF):
            focal_px(whole[:at] + bytes([value]) + whole[at + 1 :], 60, 40)
