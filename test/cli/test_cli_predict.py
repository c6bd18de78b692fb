"""`depth_anything predict`: every format of every input, resumed where it stopped, nothing mixed, nothing outside."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from file_readers import read_ply
from PIL import Image as PillowImage
from stand_in import stand_in_image

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.cli import build_parser, main
from depth_anything_ros.cli.predict import MAX_PNG_DEPTH_M
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import CannotWrite, ImageError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE, UINT16_MAX, colorize, encode_png
from depth_anything_ros.io.pictures import read_image
from depth_anything_ros.io.videos import read_frames, side_by_side, video_info, write_video
from depth_anything_ros.io.whole_files import write_file
from depth_anything_ros.messages.rectification import Rectification
from depth_anything_ros.offline.predict_run import DEFAULT_FORMATS
from depth_anything_ros.offline.prediction_folder import (
    FORMATS,
    MANIFEST,
    Manifest,
    PredictionFolder,
)
from depth_anything_ros.settings import ModelSettings

MODEL = ("--encoder", "toy", "--checkpoint", "untrained", "--input-size", "28", "--device", "cpu", "--backend", "torch")
PROGRAM = "import sys; from depth_anything_ros.cli import main; sys.exit(main())"
ALL = ("npy", "png", "color", "ply")


def picture(path: Path, seed: int = 1, height: int = 48, width: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(stand_in_image(height, width, seed)))
    return path


def video(path: Path, frames: int = 6, fps: float = 5.0) -> Path:
    write_video(path, (stand_in_image(48, 64, seed) for seed in range(frames)), fps)
    return path


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments), *MODEL])


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line on stdout."""
    [line] = capsys.readouterr().out.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def expected_frames(name: str, count: int, formats: tuple[str, ...] = ALL) -> list[str]:
    suffixes = {"npy": "npy", "png": "png", "color": "png", "ply": "ply"}
    return [f"{name}/{kind}/{frame:06d}.{suffixes[kind]}" for kind in formats for frame in range(count)]


def interrupt_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come in the middle of an estimate."""
    estimate, calls = DepthEstimator.estimate, iter(range(1, sys.maxsize))

    def interrupted(self: DepthEstimator, *arguments: Any) -> DepthMap:
        if next(calls) == call:
            raise KeyboardInterrupt
        return estimate(self, *arguments)

    monkeypatch.setattr(DepthEstimator, "estimate", interrupted)


# ---- what is written


def test_the_formats_of_a_picture_agree_with_the_estimator_and_with_each_other(tmp_path: Path, out: Path) -> None:
    image = stand_in_image(48, 64, seed=1)
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--fov", "80") == 0
    assert files_in(out) == ["color/a.png", "npy/a.npy", "ply/a.ply", "png/a.png", MANIFEST]
    depth = np.load(out / "npy/a.npy")
    estimator = DepthEstimator.load("toy", "hypersim", "untrained", input_size=28, device="cpu", backend="torch")
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, estimator.estimate(image).values)
    levels = cv2.imread(str(out / "png/a.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    assert levels.dtype == np.uint16
    assert np.abs(levels / 1000 - depth).max() <= 0.00051
    colors = cv2.imread(str(out / "color/a.png"))
    assert colors is not None
    np.testing.assert_array_equal(colors, colorize(depth, 0, 20))
    vertices = read_ply((out / "ply/a.ply").read_bytes())
    focal_px = 32 / np.tan(np.radians(40))
    points = CameraModel(focal_px, focal_px, 31.5, 23.5, 64, 48).back_project(depth)
    found = np.stack([vertices[axis] for axis in "xyz"], axis=-1).reshape(48, 64, 3)
    np.testing.assert_allclose(found, points, rtol=1e-6)
    bgr = np.stack([vertices[name] for name in ("blue", "green", "red")], axis=-1)
    np.testing.assert_array_equal(bgr.reshape(48, 64, 3), image)


def test_intrinsics_and_stride_make_the_cloud(tmp_path: Path, out: Path) -> None:
    camera = ("--fx", "50", "--fy", "60", "--cx", "30", "--cy", "20", "--stride", "3")
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--formats", "npy, ply", *camera) == 0
    assert files_in(out) == ["npy/a.npy", "ply/a.ply", MANIFEST]
    vertices = read_ply((out / "ply/a.ply").read_bytes())
    points = CameraModel(50, 60, 30, 20, 64, 48).back_project(np.load(out / "npy/a.npy"), stride=3)
    np.testing.assert_array_equal(np.stack([vertices[axis] for axis in "xyz"], axis=-1), points.reshape(-1, 3))


def test_points_without_a_unit_say_so_and_that_their_focal_length_is_the_models_estimate(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated = 55.25
    depth = DepthMap(np.full((48, 64), 3.0, np.float32), "scale_invariant", "toy_da3_28", focal_px=estimated)
    monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: depth)
    source = picture(tmp_path / "a.png")
    assert predict(source, "--out", out, "--dataset", "da3", "--formats", "npy,ply,camera") == 0
    assert "the points have no unit" in capsys.readouterr().err
    content = (out / "ply/a.ply").read_bytes()
    assert b"comment no unit: the points are known up to a factor\n" in content
    assert f"comment focal length {estimated:.1f} px is the model's estimate\n".encode() in content
    camera = json.loads((out / "camera/a.json").read_text())
    assert (camera["focal_source"], camera["K"][0][0]) == ("estimate", pytest.approx(estimated))
    points = CameraModel(estimated, estimated, 31.5, 23.5, 64, 48).back_project(np.load(out / "npy/a.npy"))
    vertices = read_ply(content)
    found = np.stack([vertices[axis] for axis in "xyz"], axis=-1)
    np.testing.assert_allclose(found, points.reshape(-1, 3), rtol=1e-5)
    given = tmp_path / "given"
    assert predict(source, "--out", given, "--dataset", "da3", "--formats", "ply", "--fov", "60") == 0
    assert b"estimate" not in (given / "ply/a.ply").read_bytes()[:400]
    assert predict(source, "--out", tmp_path / "default", "--dataset", "da3") == 0
    assert files_in(tmp_path / "default") == ["color/a.png", "npy/a.npy", MANIFEST]


LENS = ("--distortion", "-0.2", "0.03")


def test_a_picture_is_rectified_before_the_network_and_its_camera_is_written(tmp_path: Path, out: Path) -> None:
    image = stand_in_image(48, 64, seed=1)
    source = picture(tmp_path / "a.png")
    options = ("--formats", "npy,ply", "--fx", "50", "--cx", "30", *LENS, "--undistort")
    assert predict(source, "--out", out, *options) == 0
    lens = CameraModel(50, 50, 30, 23.5, 64, 48, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
    rectification = Rectification(lens)
    estimator = DepthEstimator.load("toy", "hypersim", "untrained", input_size=28, device="cpu", backend="torch")
    depth = np.load(out / "npy/a.npy")
    np.testing.assert_array_equal(depth, estimator.estimate(rectification(image)).values)
    camera = json.loads((out / "camera/a.json").read_text())
    pinhole = rectification.camera
    assert camera["K"] == [[pinhole.fx, 0, 30], [0, pinhole.fy, 23.5], [0, 0, 1]]
    assert (camera["distortion_model"], camera["D"], camera["focal_source"]) == ("", [], "given")
    vertices = read_ply((out / "ply/a.ply").read_bytes())
    found = np.stack([vertices[axis] for axis in "xyz"], axis=-1)
    np.testing.assert_allclose(found, pinhole.back_project(depth).reshape(-1, 3), rtol=1e-6)
    narrow = tmp_path / "narrow"
    assert predict(source, "--out", narrow, *options, "--undistort-focal", "80") == 0
    assert json.loads((narrow / "camera/a.json").read_text())["K"][0][0] == pytest.approx(80)


def test_points_of_a_picture_that_is_not_rectified_follow_its_lens(tmp_path: Path, out: Path) -> None:
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--formats", "npy,ply", "--fx", "50", *LENS) == 0
    camera = CameraModel(50, 50, 31.5, 23.5, 64, 48, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
    vertices = read_ply((out / "ply/a.ply").read_bytes())
    found = np.stack([vertices[axis] for axis in "xyz"], axis=-1)
    points = camera.back_project(np.load(out / "npy/a.npy")).reshape(-1, 3)
    np.testing.assert_allclose(found, points[np.isfinite(points).all(1)], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--undistort",), "--undistort needs the lens"),
        (("--undistort-focal", "80"), "--undistort-focal needs --undistort"),
        ((*LENS, "--undistort"), "rectifying needs the focal length"),
        ((*LENS, "--undistort", "--fx", "50", "--undistort-focal", "10"), "(the largest view without holes) to 1000"),
        ((*LENS, "--undistort", "--fx", "50", "--undistort-focal", "-1"), "must be a positive number"),
        (("--distortion", "1", "2", "3", "--distortion-model", "spherical"), "unknown distortion model"),
    ],
)
def test_what_cannot_be_rectified_is_refused_with_its_reason(
    options: tuple[str, ...], said: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--formats", "npy", *options) == 1
    assert said in capsys.readouterr().err


def test_max_depth_scales_every_value(tmp_path: Path, out: Path) -> None:
    picture(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--out", out, "--formats", "npy") == 0
    assert predict(tmp_path / "a.png", "--out", tmp_path / "half", "--formats", "npy", "--max-depth", "10") == 0
    np.testing.assert_allclose(np.load(tmp_path / "half/npy/a.npy") * 2, np.load(out / "npy/a.npy"), rtol=1e-6)


def test_exif_rotation_is_applied(tmp_path: Path, out: Path) -> None:
    upright = stand_in_image(48, 64, seed=3)
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    stored = PillowImage.fromarray(np.rot90(upright)[..., ::-1].copy())
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    assert predict(tmp_path / "turned.jpg", "--out", out, "--formats", "npy,ply") == 0
    assert np.load(out / "npy/turned.npy").shape == (48, 64)
    vertices = read_ply((out / "ply/turned.ply").read_bytes())
    bgr = np.stack([vertices[name] for name in ("blue", "green", "red")], axis=-1).reshape(48, 64, 3)
    assert np.abs(bgr.astype(int) - upright).mean() < 4


def test_the_focal_length_of_exif_makes_the_cloud_unless_another_is_given(tmp_path: Path, out: Path) -> None:
    exif = PillowImage.Exif()
    exif.get_ifd(0x8769)[0xA405] = 18  # FocalLengthIn35mmFilm
    path = tmp_path / "phone.jpg"
    PillowImage.fromarray(stand_in_image(48, 72, seed=3)).save(path, exif=exif)
    assert predict(path, picture(tmp_path / "plain.png"), "--out", out, "--formats", "npy,ply") == 0
    assert predict(path, "--out", tmp_path / "given", "--formats", "ply", "--fov", "60") == 0
    assumed_px, exif_px, given_px = 32 / np.tan(np.radians(30)), 36.0, 36 / np.tan(np.radians(30))
    for ply, npy, focal_px in (
        (out / "ply/phone.ply", "phone", exif_px),
        (out / "ply/plain.ply", "plain", assumed_px),
        (tmp_path / "given/ply/phone.ply", "phone", given_px),
    ):
        depth = np.load(out / f"npy/{npy}.npy")
        height, width = depth.shape
        camera = CameraModel(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, width, height)
        vertices = read_ply(ply.read_bytes())
        found = np.stack([vertices[axis] for axis in "xyz"], axis=-1).reshape(height, width, 3)
        np.testing.assert_allclose(found, camera.back_project(depth), rtol=1e-5)


def test_metres_of_a_model_that_needs_the_focal_length_follow_from_it(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = stand_in_image(48, 72, seed=3)
    exif = PillowImage.Exif()
    exif.get_ifd(0x8769)[0xA405] = 18  # FocalLengthIn35mmFilm: 36 pixels here
    phone, plain = tmp_path / "phone.png", picture(tmp_path / "plain.png", seed=3, height=48, width=72)
    PillowImage.fromarray(image[..., ::-1].copy()).save(phone.with_suffix(".jpg"), exif=exif, quality=100)
    assert predict(phone.with_suffix(".jpg"), plain, "--out", out, "--dataset", "da3metric", "--formats", "npy") == 1
    said = capsys.readouterr()
    assert "metres follow from the focal length: that of each picture's EXIF data" in said.err
    assert f"{plain}: metres follow from the focal length, which its EXIF data do not tell" in said.err
    assert json.loads(said.out)["max_depth_m"] is None
    estimator = DepthEstimator.load("toy", "da3metric", "untrained", input_size=28, device="cpu", backend="torch")
    pixels = read_image(phone.with_suffix(".jpg"))
    found = np.load(out / "npy/phone.npy")
    np.testing.assert_array_equal(found, estimator.estimate(pixels, focal_px=36.0).sky_at_infinity())
    for options, focal_px in ((("--fx", "50", "--fy", "40"), (50.0, 40.0)), (("--fov", "90"), (36.0, 36.0))):
        given = tmp_path / options[0]
        assert predict(plain, "--out", given, "--dataset", "da3metric", "--formats", "npy", *options) == 0
        expected = estimator.estimate(image, focal_px=focal_px).sky_at_infinity()
        np.testing.assert_array_equal(np.load(given / "npy/plain.npy"), expected)
    assert predict(plain, "--out", given, "--dataset", "da3metric", "--formats", "npy", "--fov", "60") == 1
    assert "camera was {'fov_deg': 90.0}, now it is {'fov_deg': 60.0}" in capsys.readouterr().err
    assert predict(plain, "--out", given, "--dataset", "da3metric", "--max-depth", "10") == 1
    assert "--max-depth does not apply to da3metric" in capsys.readouterr().err


def test_the_sky_is_at_infinity_without_a_value_and_without_points(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = np.zeros((48, 64), bool)
    sky[:20] = True
    depth = DepthMap(np.full((48, 64), 3.0, np.float32), "metric", "toy_da3metric_28", sky)
    monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: depth)
    options = ("--dataset", "da3metric", "--fov", "60")
    assert predict(picture(tmp_path / "a.png"), "--out", out, *options) == 0
    values = np.load(out / "npy/a.npy")
    assert (values[:20] == np.inf).all()
    assert (values[20:] == 3).all()
    levels = cv2.imread(str(out / "png/a.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    assert set(levels[:20].ravel()) == {0}
    assert set(levels[20:].ravel()) == {3000}
    assert len(read_ply((out / "ply/a.ply").read_bytes())) == 28 * 64


def test_colours_span_what_is_no_sky(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels of sky are not filled: there the network says anything."""
    values = np.linspace(2.0, 6.0, 48 * 64, dtype=np.float32).reshape(48, 64)
    sky = np.zeros((48, 64), np.bool_)
    sky[0, :5] = True
    depth = DepthMap(np.where(sky, np.float32(900.0), values), "scale_invariant", "toy_da3mono_28", sky)
    monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: depth)
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--dataset", "da3mono", "--formats", "color") == 0
    colors = cv2.imread(str(out / "color/a.png"))
    assert colors is not None
    expected = colorize(depth.sky_at_infinity(), float(values[~sky].min()), 6.0)
    np.testing.assert_array_equal(colors, expected)


def test_depth_up_to_a_factor_has_no_metres_and_its_confidence_on_request(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    assert predict(source, "--out", out, "--dataset", "da3", "--formats", "npy,png,color,ply,confidence") == 0
    printed = capsys.readouterr()
    assert "known up to a factor" in printed.err
    assert json.loads(printed.out)["max_depth_m"] is None
    assert files_in(out) == ["color/a.png", "confidence/a.npy", "npy/a.npy", "ply/a.ply", MANIFEST]
    assert np.load(out / "confidence/a.npy").min() >= 1
    depth = np.load(out / "npy/a.npy")
    colors = cv2.imread(str(out / "color/a.png"))
    assert colors is not None
    np.testing.assert_array_equal(colors, colorize(depth, depth.min(), depth.max()))
    assert main(["evaluate", str(out), str(out / "npy")]) == 1
    assert "scale_invariant depth, which has no metres" in capsys.readouterr().err
    (tmp_path / "truth").mkdir()
    np.save(tmp_path / "truth/a.npy", 2 * depth)
    assert main(["evaluate", str(out), str(tmp_path / "truth"), "--median-scaling", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["scale"] == pytest.approx(2, rel=1e-5)
    assert predict(source, "--out", tmp_path / "no", "--formats", "confidence") == 1
    assert "hypersim gives metric depth, which cannot be confidence" in capsys.readouterr().err


def test_relative_models_make_what_needs_no_metres_and_say_so(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", "--out", out, "--dataset", "relative") == 0
    assert "relative depth has no metres" in capsys.readouterr().err
    assert files_in(out) == ["color/a.png", "npy/a.npy", MANIFEST]
    depth = np.load(out / "npy/a.npy")
    colors = cv2.imread(str(out / "color/a.png"))
    assert colors is not None
    np.testing.assert_array_equal(colors, colorize(depth, depth.max(), depth.min()))
    assert predict(tmp_path / "a.png", "--out", tmp_path / "no", "--dataset", "relative", "--formats", "ply") == 1
    assert main(["evaluate", str(out), str(out / "npy")]) == 1
    assert "relative depth" in capsys.readouterr().err


def test_what_may_surprise_is_said(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--dataset", "vkitti") == 0
    said = capsys.readouterr().err
    assert "60 degrees along the longer side are assumed" in said
    assert "65.535 m" in said
    assert "blue is 80 m" in said
    assert "max_depth: 80 m at the network's full output (that of vkitti" in said
    assert predict(tmp_path / "a.png", "--out", tmp_path / "told", "--fov", "60") == 0
    said = capsys.readouterr().err
    assert "assumed" not in said
    assert "65.535" not in said


def test_predictions_evaluated_against_themselves_are_perfect(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [picture(tmp_path / f"{name}.png", seed) for seed, name in enumerate("abc")]
    assert predict(*pictures, "--out", out) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), str(out / "png"), "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"].keys() == {"a", "b", "c"}
    assert result["mean"]["abs_rel"] < 1e-3
    assert main(["evaluate", str(out), str(out / "npy"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"]["abs_rel"] == 0


def test_levels_of_16_bits_are_found_in_each_picture_or_given(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.repeat(stand_in_image(48, 64, 1)[..., :1], 3, axis=2)
    same = tmp_path / "same.png"
    same.write_bytes(encode_png(grey))
    deep = [tmp_path / "ten.png", tmp_path / "sixteen.png"]  # bits of the sensor
    for path, factor in zip(deep, (4, 257), strict=True):
        path.write_bytes(encode_png(grey[..., 0].astype(np.uint16) * factor))
    assert predict(*deep, same, "--out", out, "--formats", "npy") == 0
    assert "1023 for white" in capsys.readouterr().err
    depths = {path.stem: np.load(out / f"npy/{path.stem}.npy") for path in (*deep, same)}
    np.testing.assert_array_equal(depths["ten"], depths["same"])
    np.testing.assert_array_equal(depths["sixteen"], depths["same"])
    assert predict(*deep, "--out", out, "--formats", "npy", "--white-level", "4095") == 1
    assert "white_level was None, now it is 4095" in capsys.readouterr().err
    assert predict(deep[0], "--out", tmp_path / "set", "--formats", "npy", "--white-level", "4095") == 0
    assert not np.array_equal(np.load(tmp_path / "set/npy/ten.npy"), depths["same"])


# ---- inputs


def test_a_folder_gives_its_pictures_and_videos_but_not_those_deeper(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    for name in ("b.png", "a.PNG", ".hidden.png", "deeper/c.png"):
        picture(folder / name)
    video(folder / "v.mp4", frames=2)
    (folder / "notes.txt").write_text("no picture")
    assert predict(folder, folder / "b.png", "--out", out, "--formats", "npy") == 0
    counts = {"images": 2, "videos": 1, "frames": 2, "skipped": 0, "failed": {}}
    assert summary(capsys) == {"out": str(out), "max_depth_m": 20.0, **counts}
    assert files_in(out) == ["npy/a.npy", "npy/b.npy", MANIFEST, "v/npy/000000.npy", "v/npy/000001.npy"]


def test_broken_and_missing_files_are_named_and_the_others_done(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.jpg"
    cv2.imwrite(str(whole), stand_in_image(48, 64, seed=1))
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.mp4").write_text("no video")
    picture(tmp_path / "long.png", height=4, width=400)
    names = ("cut.jpg", "text.png", "empty.png", "text.mp4", "long.png", "missing.png")
    assert predict(*(tmp_path / name for name in names), whole, "--out", out) == 1
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["images"] == 1
    assert result["failed"].keys() == {str(tmp_path / name) for name in names}
    for name in names:
        assert f"failed: {tmp_path / name}" in printed.err
    assert "6 could not be done" in printed.err
    assert [name for name in files_in(out) if name != MANIFEST] == [
        "color/whole.png",
        "npy/whole.npy",
        "ply/whole.ply",
        "png/whole.png",
    ]


def test_a_picture_beyond_the_limits_is_refused_from_its_header(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "a.png")
    clip = video(tmp_path / "clip.mp4", frames=1)
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
        assert predict(source, clip, "--out", out, "--max-pixels", "3071", "--formats", "npy") == 1
    said = capsys.readouterr().err
    assert f"{source}: the image is 64x48 pixels; allowed: up to 3071 pixels" in said
    assert f"{clip}: the image is 64x48 pixels" in said
    assert predict(source, clip, "--out", out, "--max-side", "63", "--formats", "npy") == 1
    assert predict(source, clip, "--out", out, "--max-pixels", "3072", "--max-side", "64", "--formats", "npy") == 0


def test_a_line_of_a_message_is_a_line_whatever_a_file_is_called(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a\nfailed: b\x1b[2J.png").touch()
    assert predict(tmp_path / "a\nfailed: b\x1b[2J.png", picture(tmp_path / "c.png"), "--out", out) == 1
    said = capsys.readouterr().err
    assert "a\\nfailed: b\\x1b[2J.png" in said
    assert "\x1b" not in said


def test_a_jpeg_without_its_end_is_broken_even_if_opencv_decodes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, data = cv2.imencode(".jpg", stand_in_image(48, 64, seed=1))
    assert done
    start, pixels = data.tobytes()[:2], data.tobytes()[2:]
    thumbnail = b"\xff\xd8\xff\xda....\xff\xd9"  # with a beginning of pixels and an end of its own
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(start + header + pixels + b"what cameras put behind it")
    assert read_image(path).shape == (48, 64, 3)
    path.write_bytes(start + header + pixels[:-300])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: stand_in_image(48, 64, seed=1))  # as OpenCV 4 does
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_inputs_of_one_stem_keep_apart_and_keep_their_names(
    tmp_path: Path, out: Path, estimates: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = picture(tmp_path / "one/x.png", 1), picture(tmp_path / "two/x.png", 2)
    three = tmp_path / "one/x.bmp"
    cv2.imwrite(str(three), stand_in_image(48, 64, seed=3))
    assert predict(one, two, three, "--out", out, "--formats", "npy") == 0
    assert files_in(out) == ["npy/x-2.npy", "npy/x-3.npy", "npy/x.npy", MANIFEST]
    depths = [np.load(out / f"npy/{name}.npy") for name in ("x", "x-2", "x-3")]
    assert not np.array_equal(depths[0], depths[1])
    assert not np.array_equal(depths[1], depths[2])
    capsys.readouterr()
    assert predict(three, two, one, "--out", out, "--formats", "npy") == 0
    assert summary(capsys)["skipped"] == 3
    assert len(estimates) == 3
    sources = json.loads((out / MANIFEST).read_text())["sources"]
    assert {name: source["path"] for name, source in sources.items()} == {
        "x": str(one),
        "x-2": str(two),
        "x-3": str(three),
    }


def test_names_from_outside_do_not_lead_out_nor_into_the_layout(tmp_path: Path, out: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    # Stems of these: two dots, a folder of the layout, the manifest.
    files = [video(inputs / name, frames=1) for name in ("...mp4", "npy.mp4", "predict.json.mp4")]
    assert predict(*files, picture(inputs / "...png"), "--out", out, "--formats", "npy") == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["in", "out"]
    names = [name for name in files_in(out) if name != MANIFEST]
    assert len(names) == 4
    assert (out / "npy-2/npy/000000.npy").is_file()
    assert (out / "predict.json-2/npy/000000.npy").is_file()


# ---- videos


def test_a_video_gives_numbered_frames_and_a_video_beside_their_colours(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = video(tmp_path / "clip.mp4", frames=6, fps=5)
    assert predict(source, "--out", out) == 0
    assert summary(capsys)["frames"] == 6
    assert files_in(out) == sorted([*expected_frames("clip", 6), "clip/side_by_side.mp4", MANIFEST])
    made = out / "clip/side_by_side.mp4"
    assert video_info(made).fps == 5
    for frame, (before, both) in enumerate(zip(read_frames(source), read_frames(made), strict=True)):
        assert both.shape == (48, 128, 3)
        colors = cv2.imread(str(out / f"clip/color/{frame:06d}.png"))
        assert colors is not None
        assert np.abs(both[:, :64].astype(int) - before).mean() < 8
        assert np.abs(both[:, 64:].astype(int) - colors).mean() < 25  # compressed twice as coarsely in colour
    assert main(["evaluate", str(out / "clip"), str(out / "clip/png")]) == 0


def test_without_colours_there_is_no_video(tmp_path: Path, out: Path) -> None:
    assert predict(video(tmp_path / "clip.mp4", 3), "--out", out, "--formats", "npy") == 0
    assert files_in(out) == sorted([*expected_frames("clip", 3, ("npy",)), MANIFEST])


def test_a_video_that_ends_early_gives_the_frames_it_has_and_says_so(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for seed in range(8):
        writer.write(stand_in_image(48, 64, seed))
    writer.release()
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    assert predict(source, "--out", out, "--formats", "npy") == 0
    printed = capsys.readouterr()
    frames = json.loads(printed.out)["frames"]
    assert 1 <= frames < 8
    assert f"announces 8 frames; {frames} can be decoded" in printed.err


def test_sides_of_any_size_are_even_in_a_video_and_not_too_wide(tmp_path: Path) -> None:
    assert side_by_side(stand_in_image(47, 63, 1), stand_in_image(47, 63, 2)).shape == (48, 126, 3)
    assert side_by_side(stand_in_image(1, 1, 1), stand_in_image(1, 1, 2)).shape == (2, 2, 3)
    assert side_by_side(np.zeros((10, 5000, 3), np.uint8), np.zeros((10, 5000, 3), np.uint8)).shape == (4, 3840, 3)
    left = stand_in_image(48, 64, 1)
    np.testing.assert_array_equal(side_by_side(left, left), np.hstack([left, left]))


def test_a_video_that_cannot_be_made_is_told_from_a_disk_that_takes_none(tmp_path: Path) -> None:
    image = stand_in_image(48, 64, 1)
    with pytest.raises(OSError, match="No such file"):
        write_video(tmp_path / "nowhere/x.mp4", [image], 5)
    with pytest.raises(ImageError, match="no video of 64x48 pixels at 1e-06 frames/s"):
        write_video(tmp_path / "x.mp4", [image], 1e-6)
    with pytest.raises(ImageError, match="could not make a video of 0 frames"):
        write_video(tmp_path / "x.mp4", [], 5)


def test_a_video_on_a_full_disk_blames_the_disk(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may be larger
    try:
        with pytest.raises(OSError, match="File too large"):
            write_video(tmp_path / "x.mp4", (stand_in_image(480, 640, seed) for seed in range(3)), 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_video_with_an_impossible_rate_is_done_and_so_are_the_files_behind_it(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = video(tmp_path / "clip.mp4", frames=5)
    data = source.read_bytes()
    at = data.index(b"mdhd") + 16
    source.write_bytes(data[:at] + bytes(4) + data[at + 4 :])  # its ticks per second: 0
    assert predict(source, picture(tmp_path / "z.png"), "--out", out, "--formats", "color") == 0
    assert summary(capsys)["images"] == 1
    assert video_info(out / "clip/side_by_side.mp4").fps == 25


# ---- resuming


def test_what_is_complete_is_skipped_and_untouched(
    tmp_path: Path, out: Path, estimates: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = (picture(tmp_path / "a.png"), video(tmp_path / "clip.mp4", frames=3))
    assert predict(*inputs, "--out", out) == 0
    before = {name: (out / name).stat().st_mtime_ns for name in files_in(out) if name != MANIFEST}
    capsys.readouterr()
    assert predict(*inputs, "--out", out) == 0
    assert len(estimates) == 4
    counts = {"images": 0, "videos": 0, "frames": 0, "skipped": 2, "failed": {}}
    assert summary(capsys) == {"out": str(out), "max_depth_m": 20.0, **counts}
    assert {name: (out / name).stat().st_mtime_ns for name in files_in(out) if name != MANIFEST} == before


@pytest.mark.parametrize("gone", ["npy/a.npy", "ply/a.ply", "clip/png/000001.png", "clip/side_by_side.mp4"])
def test_what_lacks_a_file_is_done_again(
    gone: str, tmp_path: Path, out: Path, estimates: list[tuple[int, ...]]
) -> None:
    inputs = (picture(tmp_path / "a.png"), video(tmp_path / "clip.mp4", frames=3))
    assert predict(*inputs, "--out", out) == 0
    (out / gone).unlink()
    estimates.clear()
    assert predict(*inputs, "--out", out) == 0
    assert (out / gone).is_file()
    assert len(estimates) == (0 if gone.endswith("mp4") else 1)


def test_ctrl_c_keeps_what_is_complete_and_the_next_run_goes_on(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = (picture(tmp_path / "a.png"), video(tmp_path / "clip.mp4", frames=6), picture(tmp_path / "z.png"))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(5, patch)
        assert predict(*inputs, "--out", out, "--formats", "npy,color") == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "continues from here" in printed.err
    assert files_in(out) == sorted(
        ["color/a.png", "npy/a.npy", MANIFEST, *expected_frames("clip", 3, ("npy", "color"))]
    )
    assert predict(*inputs, "--out", out, "--formats", "npy,color") == 0
    result = summary(capsys)
    assert (result["images"], result["frames"], result["skipped"]) == (1, 3, 1)
    assert video_info(out / "clip/side_by_side.mp4").frames == 6


def test_a_real_ctrl_c_ends_a_real_process_with_130(tmp_path: Path, out: Path) -> None:
    source = video(tmp_path / "long.mp4", frames=3000)
    arguments = ["predict", str(source), "--out", str(out), "--formats", "npy", *MODEL]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline_s = time.monotonic() + 60
    while len(files_in(out)) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline_s, "no frame was done"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert not [name for name in files_in(out) if ".part" in name]
    for name in files_in(out):
        if name.endswith(".npy"):
            assert np.load(out / name).shape == (48, 64)


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path: Path, out: Path) -> None:
    left = [out / f"{folder}.part-0123456789abcdef.npy" for folder in ("", "npy/", "clip/npy/")]
    for path in (*left, out / "npy/.part-mine.npy"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert predict(picture(tmp_path / "a.png"), "--out", out, "--formats", "npy") == 0
    assert files_in(out) == ["npy/.part-mine.npy", "npy/a.npy", MANIFEST]


def test_more_formats_are_added_to_what_is_there(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = (picture(tmp_path / "a.png"), video(tmp_path / "clip.mp4", frames=2))
    assert predict(*inputs, "--out", out, "--formats", "npy") == 0
    assert predict(*inputs, "--out", out, "--formats", "npy,ply") == 0
    assert {"ply/a.ply", "clip/ply/000001.ply"} < set(files_in(out))
    capsys.readouterr()
    assert predict(*inputs, "--out", out, "--formats", "ply") == 0
    assert summary(capsys)["skipped"] == 2


def test_a_changed_input_is_done_again(tmp_path: Path, out: Path, estimates: list[tuple[int, ...]]) -> None:
    picture(tmp_path / "a.png", seed=1)
    picture(tmp_path / "b.png", seed=1)
    assert predict(tmp_path / "a.png", tmp_path / "b.png", "--out", out, "--formats", "npy") == 0
    before = np.load(out / "npy/a.npy")
    picture(tmp_path / "a.png", seed=2)
    assert predict(tmp_path / "a.png", tmp_path / "b.png", "--out", out, "--formats", "npy") == 0
    assert len(estimates) == 3
    assert not np.array_equal(np.load(out / "npy/a.npy"), before)


def test_overwrite_does_the_named_inputs_again_and_leaves_the_others(
    tmp_path: Path, out: Path, estimates: list[tuple[int, ...]]
) -> None:
    inputs = (picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))
    assert predict(*inputs, "--out", out, "--formats", "npy") == 0
    assert predict(inputs[0], "--out", out, "--formats", "npy", "--overwrite") == 0
    assert len(estimates) == 3
    assert files_in(out) == ["npy/a.npy", "npy/b.npy", MANIFEST]


# ---- one folder, one kind of result


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-depth", "10"), "max_depth_m was 20.0, now it is 10.0"),
        (("--dataset", "vkitti"), "key was toy_hypersim_28, now it is toy_vkitti_28"),
        (("--precision", "bf16"), "precision was auto, now it is bf16"),
        (("--stride", "2"), "cloud stride was 1, now it is 2"),
        (("--fov", "90"), "cloud fov_deg was None, now it is 90.0"),
        (("--fx", "90"), "cloud fx was None, now it is 90.0"),
    ],
)
def test_another_run_does_not_mix_its_results_in(
    options: tuple[str, str],
    words: str,
    tmp_path: Path,
    out: Path,
    estimates: list[tuple[int, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    assert predict(one, "--out", out) == 0
    content = (out / MANIFEST).read_bytes()
    capsys.readouterr()
    assert predict(two, "--out", out, *options) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert "--overwrite" in printed.err
    assert printed.out == ""
    assert len(estimates) == 1
    assert (out / MANIFEST).read_bytes() == content
    assert predict(two, "--out", out, *options, "--overwrite") == 0
    assert [name for name in files_in(out) if "a." in name] == []
    assert (out / "npy/b.npy").is_file()


def test_clouds_of_one_folder_have_one_camera_whatever_ran_between(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    assert predict(one, "--out", out, "--formats", "ply", "--fov", "70") == 0
    assert predict(two, "--out", out, "--formats", "npy") == 0  # makes no cloud, so no camera is another
    assert predict(two, "--out", out, "--formats", "ply", "--fov", "80") == 1
    assert "fov_deg was 70.0, now it is 80.0" in capsys.readouterr().err


def test_another_checkpoint_is_another_run(
    tmp_path: Path, out: Path, toy_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    arguments = ["predict", str(source), "--out", str(out), *MODEL]
    assert main([*arguments, "--checkpoint", str(toy_checkpoint)]) == 0
    assert len(json.loads((out / MANIFEST).read_text())["model"]["sha256"]) == 64
    assert main([*arguments, "--checkpoint", "untrained"]) == 1
    assert "sha256 was" in capsys.readouterr().err


def test_files_of_unknown_origin_are_not_taken_for_results(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "npy").mkdir(parents=True)
    (out / "npy/a.npy").write_text("somebody's")
    source = picture(tmp_path / "a.png")
    assert predict(source, "--out", out, "--formats", "npy") == 1
    assert "npy/a.npy exists" in capsys.readouterr().err
    assert (out / "npy/a.npy").read_text() == "somebody's"
    assert predict(source, "--out", out, "--formats", "npy", "--overwrite") == 0
    assert np.load(out / "npy/a.npy").shape == (48, 64)


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "model": 3, "checkpoint": "", "cloud": null, "camera_size": null, "sources": {}}',
        b'{"version": 1, "model": {}, "checkpoint": "", "cloud": null, "camera_size": null, "sources": '
        b'{"../../victim": {"path": "x.png", "size_bytes": 0, "modified_ns": 0, "frames": null}}}',
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_and_replaced_on_request(
    damage: bytes, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.mkdir()
    (out / MANIFEST).write_bytes(damage)
    source = picture(tmp_path / "a.png")
    assert predict(source, "--out", out, "--formats", "npy") == 1
    assert f"{MANIFEST} is damaged" in capsys.readouterr().err
    assert predict(source, "--out", out, "--formats", "npy", "--overwrite") == 0
    assert json.loads((out / MANIFEST).read_text())["sources"].keys() == {"a"}


def test_intrinsics_hold_for_one_size(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = picture(tmp_path / "small.png"), picture(tmp_path / "large.png", height=96, width=128)
    assert predict(small, large, "--out", out, "--fx", "50") == 1
    assert "large.png: the picture is 128x96; the intrinsics are for 64x48" in capsys.readouterr().err
    assert predict(large, "--out", out, "--fx", "50") == 1  # nor is it taken when it comes first the next time
    assert "are for 64x48" in capsys.readouterr().err
    assert predict(small, large, "--out", tmp_path / "any", "--fov", "70") == 0


def test_two_processes_do_not_write_one_folder(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = picture(tmp_path / "a.png")
    with PredictionFolder.open(out, Manifest({})):
        assert predict(source, "--out", out) == 1
    assert "another process" in capsys.readouterr().err
    assert predict(source, "--out", out) == 0


# ---- writing


def test_a_folder_that_takes_no_more_ends_the_run(
    tmp_path: Path, out: Path, estimates: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    out.mkdir()
    (out / "npy").write_text("in the way")
    inputs = (picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))
    assert predict(*inputs, "--out", out, "--formats", "npy") == 1
    printed = capsys.readouterr()
    assert f"{out / 'npy/a.npy'} cannot be written" in printed.err
    assert printed.out == ""
    assert len(estimates) == 1
    assert predict(*inputs, "--out", out / "npy", "--formats", "npy") == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(CannotWrite):
        write_file(out / "npy/a.npy", lambda temporary: temporary.write_text("x"))


# ---- command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--formats", "npy,exr"), "unknown format 'exr'; known: npy, png, color, ply"),
        (("--formats", ""), "known: npy, png, color, ply"),
        (("--max-depth", "0"), "--max-depth must be a positive number"),
        (("--max-depth", "nan"), "--max-depth must be a positive number"),
        (("--max-pixels", "0"), "--max-pixels must be 1 or more"),
        (("--stride", "0"), "--stride must be 1 or more"),
        (("--fov", "180"), "between 0 and 180"),
        (("--fov", "60", "--fx", "50"), "fov and fx exclude each other"),
        (("--fy", "50"), "need fx"),
        (("--fx", "480", "--fy", "-480"), "fy must be a positive number of pixels, got -480"),
        (("--fx", "nan"), "fx must be a positive number of pixels"),
        (("--fx", "480", "--cx", "inf"), "cx must be a number of pixels, got inf"),
        (("--dataset", "indoor"), "unknown dataset 'indoor'"),
        (("--input-size", "5"), "input_size must be at least"),
    ],
)
def test_settings_that_cannot_be_leave_no_folder_behind(
    options: tuple[str, ...], words: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    assert main(["predict", str(source), "--out", str(out), *MODEL, *options]) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_defaults_are_those_of_the_library() -> None:
    args = build_parser().parse_args(["predict", "a.png", "--out", "out"])
    for name in ("encoder", "dataset", "checkpoint", "input_size", "device", "precision", "backend", "compile"):
        assert getattr(args, name) == getattr(ModelSettings(), name)
    assert args.formats is None
    assert set(FORMATS) - set(DEFAULT_FORMATS) == {"confidence", "camera"}
    assert UINT16_MAX / MILLIMETRES_PER_METRE == MAX_PNG_DEPTH_M


def test_nothing_to_do_is_an_error_and_claims_no_folder(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "empty", "--out", out) == 1
    assert "no pictures or videos" in capsys.readouterr().err
    os.mkfifo(tmp_path / "fifo.png")
    names = ("typo.jpg", "x" * 300, "fifo.png")
    assert predict(*(tmp_path / name for name in names), "--out", out) == 1
    said = capsys.readouterr().err
    assert "typo.jpg: no such file" in said
    assert "xxx: no such file" in said
    assert "fifo.png: not a regular file" in said
    assert not out.exists()


def test_missing_weights_are_not_fetched_when_told_so(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = picture(tmp_path / "a.png")
    assert main(["predict", str(source), "--out", str(out), "--no-download", "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "no checkpoint depth_anything_v2_metric_hypersim_vits.pth" in said
    assert "cannot download" not in said


def test_a_real_process_prints_one_line(tmp_path: Path, out: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "predict", str(picture(tmp_path / "a.png")), "--out", str(out), *MODEL],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert json.loads(line)["images"] == 1
    assert "untrained network" in done.stderr
