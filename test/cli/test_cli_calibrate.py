"""`depth_anything calibrate`: what was put into the files comes out, is saved by camera, or is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_anything_ros.cli import main
from depth_anything_ros.offline.prediction_folder import Manifest
from depth_anything_ros.scale.calibrations import load_calibrations
from depth_anything_ros.synthetic.camera import SyntheticCamera

SCALE, SHIFT_M = 1.25, 0.1


@pytest.fixture(scope="module")
def camera() -> SyntheticCamera:
    return SyntheticCamera(7, width=160, height=120)


@pytest.fixture(scope="module")
def depths(camera: SyntheticCamera) -> list[NDArray[np.float32]]:
    return [camera.frame(index * 2.0).depth for index in range(3)]


@pytest.fixture
def folders(tmp_path: Path, depths: list[NDArray[np.float32]]) -> tuple[Path, Path]:
    """What a model with 2 % noise would predict, and the truth, 1.25 times as far and 0.1 m more."""
    predicted, truth = tmp_path / "predicted", tmp_path / "truth"
    for folder in (predicted / "npy", truth):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, depth in enumerate(depths):
        noise = 1 + 0.02 * rng.standard_normal(depth.shape).astype(np.float32)
        np.save(truth / f"{index}.npy", depth)
        np.save(predicted / "npy" / f"{index}.npy", (depth - SHIFT_M) / SCALE * noise)
    manifest = Manifest({"key": "vits_hypersim_518", "kind": "metric"})
    (predicted / "predict.json").write_bytes(manifest.to_json())
    return predicted, truth


def calibrate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Calibrate with status 0, and return what it prints."""
    assert main(["calibrate", *map(str, arguments)]) == 0
    [line] = capsys.readouterr().out.splitlines()
    printed: dict[str, Any] = json.loads(line)
    return printed


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Calibrate with status 1 and nothing on standard output; return the words."""
    assert main(["calibrate", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_scale_and_shift_are_fitted_over_all_pairs_and_saved_by_camera(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cameras.yaml"
    printed = calibrate(capsys, *folders, "--out", out, "--camera", "front")
    assert printed["scale"] == pytest.approx(SCALE, rel=5e-3)
    assert printed["shift_m"] == pytest.approx(SHIFT_M, abs=0.02)
    assert printed["inlier_share"] > 0.99
    assert printed["residual_m"] < 0.1
    assert printed["camera"] == "front"
    saved = load_calibrations(out)["front"]
    assert (saved.scale, saved.shift_m, saved.samples) == (printed["scale"], printed["shift_m"], printed["samples"])
    assert saved.model == printed["model"] == "vits_hypersim_518"
    other = ("--out", out, "--camera", "rear", "--model", "vitl_hypersim_518", "--no-shift")
    assert "was made by model vits_hypersim_518, not by vitl_hypersim_518" in refused(capsys, *folders, *other)
    (folders[0] / "predict.json").unlink()
    calibrate(capsys, folders[0] / "npy", folders[1], *other)
    assert {name: each.model for name, each in load_calibrations(out).items()} == {
        "front": "vits_hypersim_518",
        "rear": "vitl_hypersim_518",
    }
    assert load_calibrations(out)["rear"].shift_m == 0.0


def test_the_same_files_give_the_same_result(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(capsys, *folders) == calibrate(capsys, *folders)


def test_what_has_no_partner_is_named_with_status_1(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "npy/1.npy").unlink()
    np.save(folders[0] / "npy/2.npy", np.ones((3, 4)))
    assert main(["calibrate", *map(str, folders)]) == 1
    printed = capsys.readouterr()
    assert "skipped: 1: no prediction" in printed.err
    assert "(3, 4) and (120, 160)" in printed.err
    assert json.loads(printed.out)["scale"] == pytest.approx(SCALE, rel=0.01)


def test_a_bad_fit_is_refused_and_leaves_the_file_alone(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(folders[1] / f"{index}.npy", rng.uniform(1, 8, (120, 160)))
    out = tmp_path / "cameras.yaml"
    assert "only 0 samples" in refused(capsys, *folders, "--out", out, "--camera", "front")  # edges everywhere
    for index in range(3):
        np.save(folders[1] / f"{index}.npy", np.full((120, 160), 30.0))
    assert "samples agree; 50% are needed" in refused(capsys, *folders, "--out", out, "--camera", "front")
    assert not out.exists()


def test_the_ground_tells_the_scale(
    folders: tuple[Path, Path], camera: SyntheticCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    scaled = folders[0].parent / "scaled"
    scaled.mkdir()
    for path in folders[1].iterdir():
        np.save(scaled / path.name, np.load(path) * 0.8)
    height_m, fx, pitch = camera.way.height_m, camera.model.fx, math.degrees(camera.way.pitch_rad)
    options = ("--ground-plane", height_m, "--fx", fx)
    assert calibrate(capsys, scaled, *options, "--pitch", pitch)["scale"] == pytest.approx(1.25, rel=1e-3)
    assert calibrate(capsys, scaled / "0.npy", *options)["scale"] == pytest.approx(1.25, rel=1e-3)
    np.save(scaled / "wall.npy", np.full((120, 160), 2.0))
    assert main(["calibrate", str(scaled), *map(str, options)]) == 1
    printed = capsys.readouterr()
    assert "skipped: wall: no plane" in printed.err
    assert json.loads(printed.out)["scale"] == pytest.approx(1.25, rel=1e-3)
    assert "found in 0 pictures and not in 1" in refused(capsys, scaled / "wall.npy", *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["PRED"], "either a reference GT or --ground-plane"),
        (["PRED", "GT", "--ground-plane", "1"], "either a reference GT or --ground-plane"),
        (["PRED", "--ground-plane", "1"], "--ground-plane needs the camera"),
        (["PRED", "--ground-plane", "0", "--fx", "100"], "height must be a positive number"),
        (["PRED", "--ground-plane", "1", "--fx", "-3"], "fx must be a positive number of pixels, got -3"),
        (["PRED", "GT", "--out", "x.yaml"], "belong together"),
        (["PRED", "GT", "--camera", "front"], "belong together"),
        (["PRED", "GT", "--out", "x.yaml", "--camera", "front cam"], "a camera cannot be named 'front cam'"),
        (["PRED/npy/0.npy", "GT/0.npy", "--min-depth", "3", "--max-depth", "2"], "depth range"),
        (["PRED", "nowhere"], "nowhere does not exist"),
        (["nowhere", "--ground-plane", "1", "--fx", "100"], "nowhere does not exist"),
        (["GT", "GT", "--out", "x.yaml", "--camera", "front"], "give --model"),
    ],
)
def test_options_that_cannot_be_are_said(
    options: list[str], words: str, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predicted, truth = map(str, folders)
    assert words in refused(capsys, *(text.replace("PRED", predicted).replace("GT", truth) for text in options))


def test_relative_depth_is_refused(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest({"key": "vits_relative_518", "kind": "relative"})
    (folders[0] / "predict.json").write_bytes(manifest.to_json())
    assert "holds relative depth" in refused(capsys, *folders)
    assert "holds relative depth" in refused(capsys, folders[0], "--ground-plane", 1, "--fx", 100)


def test_the_factor_of_depth_without_a_unit_is_fitted_alone_with_a_warning(
    folders: tuple[Path, Path], camera: SyntheticCamera, capsys: pytest.CaptureFixture[str]
) -> None:
    """50 units are a metre, which no metric model would be off by."""
    predicted, truth = folders
    for path in truth.iterdir():
        np.save(predicted / "npy" / path.name, np.load(path) * 50)
    manifest = Manifest({"key": "vits_da3_504", "kind": "scale_invariant"})
    (predicted / "predict.json").write_bytes(manifest.to_json())
    out = predicted.parent / "cameras.yaml"
    ground = ("--ground-plane", camera.way.height_m, "--fx", camera.model.fx)
    pitch = ("--pitch", math.degrees(camera.way.pitch_rad))
    for options in ((truth, "--out", out, "--camera", "front"), (*ground, *pitch)):
        assert main(["calibrate", str(predicted), *map(str, options)]) == 0
        printed = capsys.readouterr()
        fit = json.loads(printed.out)
        assert fit["scale"] == pytest.approx(0.02, rel=1e-3)
        assert fit["shift_m"] == 0
        assert "one factor is right while the view stays the same" in printed.err
        assert fit["remark"] in printed.err
    assert load_calibrations(out)["front"].model == "vits_da3_504"
    for index, path in enumerate(truth.iterdir()):
        np.save(predicted / "npy" / path.name, np.load(path) * (1 + index))
    for evidence in ((truth,), (*ground, *pitch)):
        said = refused(capsys, predicted, *evidence)
        assert "the factors of 3 pictures differ, from 0.3" in said
        assert "one factor is right only while the view stays the same" in said
