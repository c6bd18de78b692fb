"""Calibrations come back as they were saved, and a damaged file is named with what is wrong in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_ros.errors import CannotWrite, InputError, SettingsError
from depth_anything_ros.scale.calibrations import Calibration, load_calibration, load_calibrations, save_calibration
from depth_anything_ros.scale.fit import DepthScale, ScaleFit

FRONT = Calibration(1.083, -0.041, 0.052, 0.91, 8000, "vits_hypersim_518", "2026-03-01")
TEXT = """\
front:
  scale: 1.083
  shift_m: -0.041
  residual_m: 0.052
  inlier_share: 0.91
  samples: 8000
  model: vits_hypersim_518
  date: 2026-03-01
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cameras.yaml"


numbers = st.floats(1e-6, 1e6)


@given(
    calibration=st.builds(
        Calibration,
        scale=numbers,
        shift_m=st.floats(-1e3, 1e3),
        residual_m=numbers,
        inlier_share=st.floats(0, 1),
        samples=st.integers(0, 10**9),
        model=st.just("vits_hypersim_518"),
        date=st.sampled_from(["2026-03-01", "yesterday", "2026-03-01T12:00:00Z"]),
    ),
    camera=st.from_regex(r"[A-Za-z][A-Za-z0-9_]*", fullmatch=True),
)
def test_what_is_saved_is_loaded_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, calibration: Calibration, camera: str
) -> None:
    path = tmp_path_factory.mktemp("calibrations") / "cameras.yaml"
    save_calibration(path, camera, calibration)
    assert load_calibrations(path) == {camera: calibration}


def test_other_cameras_stay_and_the_same_one_is_replaced(path: Path) -> None:
    save_calibration(path, "front", FRONT)
    save_calibration(path, "rear", replace(FRONT, scale=0.9))
    save_calibration(path, "front", replace(FRONT, scale=1.2))
    assert {name: each.scale for name, each in load_calibrations(path).items()} == {"front": 1.2, "rear": 0.9}
    assert [file.name for file in path.parent.iterdir()] == ["cameras.yaml"]


def test_a_fit_becomes_a_calibration_and_back(path: Path) -> None:
    fit = ScaleFit(float(np.float64(1.1)), 0.02, 0.05, 0.8, 500)
    save_calibration(path, "front", Calibration.of(fit, "vits_hypersim_518", "2026-03-01"))
    assert load_calibration(path, "front", "vits_hypersim_518").depth_scale == DepthScale(1.1, 0.02)


def test_numpys_numbers_are_saved_as_numbers(path: Path) -> None:
    odd = replace(FRONT, scale=np.float32(0.5), samples=np.int64(7))
    save_calibration(path, "front", odd)
    assert load_calibrations(path)["front"] == replace(FRONT, scale=0.5, samples=7)


def test_a_file_written_by_hand_is_read(path: Path) -> None:
    path.write_text(TEXT)  # with a date that YAML takes for a date
    assert load_calibrations(path) == {"front": FRONT}
    path.write_text(TEXT.replace("1.083", "2"))
    assert load_calibrations(path)["front"].scale == 2.0


def test_another_camera_or_another_model_is_refused(path: Path) -> None:
    path.write_text(TEXT)
    with pytest.raises(SettingsError, match=r"no camera 'rear' in .*cameras\.yaml; known: front"):
        load_calibration(path, "rear", "vits_hypersim_518")
    with pytest.raises(SettingsError, match="calibrated for model vits_hypersim_518, not vitl_hypersim_518"):
        load_calibration(path, "front", "vitl_hypersim_518")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1.083", "0", "scale must be a positive number, got 0"),
        ("1.083", "-1.5", "scale must be a positive number"),
        ("1.083", ".nan", "scale must be a positive number, got nan"),
        ("1.083", ".inf", "scale must be a positive number, got inf"),
        ("1.083", "true", "scale must be a positive number, got True"),
        ("1.083", "'1.083'", "scale must be a positive number, got '1.083'"),
        ("1.083", "1e+999", "scale must be a positive number"),
        ("-0.041", "[0.1]", "shift_m must be a number"),
        ("0.052", "-0.1", "residual_m must be a number, 0 or more"),
        ("0.91", "91", "inlier_share must be a number from 0 to 1, got 91"),
        ("8000", "80.5", "samples must be a whole number"),
        ("vits_hypersim_518", "", "model must be text, got None"),
        ("2026-03-01", "7", "date must be text, got 7"),
        ("  samples: 8000\n", "", "must have scale, shift_m"),
        ("  samples: 8000\n", "  samples: 8000\n  offset: 3\n", "must have scale, shift_m"),
    ],
)
def test_a_wrong_value_is_named_with_its_camera_and_file(path: Path, old: str, new: str, words: str) -> None:
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(SettingsError) as refused:
        load_calibrations(path)
    assert words in str(refused.value)
    assert f"camera 'front' in {path}" in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"front: [1,", "not usable YAML"),
        (b"\xff\xfe\x00", "not usable YAML"),
        (b"front: !!python/object/apply:os.system ['true']", "not usable YAML"),
        (b"[" * 5000, "not usable YAML"),
        (b"", "table of cameras, got None"),
        (b"- front", "table of cameras"),
        (b"3: {}", "a name must be text, got 3"),
        (b"front: 1.2", "camera 'front'"),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    for attempt in (lambda: load_calibrations(path), lambda: save_calibration(path, "front", FRONT)):
        with pytest.raises(SettingsError) as refused:
            attempt()
        assert words in str(refused.value)
        assert str(path) in str(refused.value)
    assert path.read_bytes() == content


def test_what_could_not_be_loaded_again_is_not_saved(path: Path) -> None:
    for wrong in (replace(FRONT, scale=float("nan")), replace(FRONT, model="")):
        with pytest.raises(SettingsError):
            save_calibration(path, "front", wrong)
    for name in ("", " ", "front cam", "front/left", "2nd", "f\x85", "front\n", "\udc80", "qos_overrides"):
        with pytest.raises(SettingsError, match="a camera cannot be named"):
            save_calibration(path, name, FRONT)
    assert not path.exists()


def test_files_that_cannot_be_read_or_written_are_said(path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_calibrations(path)
    path.write_text(TEXT)
    with pytest.raises(CannotWrite):
        save_calibration(path / "below_a_file.yaml", "front", FRONT)
    assert issubclass(CannotWrite, InputError)
