"""`depth_anything evaluate`: pairs files, reads them safely, and says what it could not score."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_anything_ros.cli import build_parser, main
from depth_anything_ros.io.formats import encode_png
from depth_anything_ros.metrics import evaluate_depth

PROGRAM = "import sys; from depth_anything_ros.cli import main; sys.exit(main())"


def scene(seed: int = 0) -> NDArray[np.float32]:
    """Depths in whole millimetres from 1 to 10 m, (H, W)."""
    return (np.random.default_rng(seed).integers(1000, 10000, (24, 32)) / 1000).astype(np.float32)


def save_png(path: Path, depth_m: NDArray[Any], scale: float = 1000) -> Path:
    path.write_bytes(encode_png((depth_m * scale).round().astype(np.uint16)))
    return path


def save_npy(path: Path, depth_m: NDArray[Any]) -> Path:
    np.save(path, depth_m)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions as NPY and truth as PNG for a, b and c; predictions are 5, 10 and 15 % too far."""
    predicted, truth = tmp_path / "predicted", tmp_path / "truth"
    predicted.mkdir()
    truth.mkdir()
    for seed, name in enumerate("abc"):
        save_png(truth / f"{name}.png", scene(seed))
        save_npy(predicted / f"{name}.npy", scene(seed) * (1.05 + 0.05 * seed))
    return predicted, truth


def scores(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Evaluate with status 0, and return what `--json -` prints."""
    assert main(["evaluate", *map(str, arguments), "--json", "-"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_folders_are_paired_by_stem_and_averaged(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = scores(capsys, *folders)
    errors = {name: image["abs_rel"] for name, image in result["images"].items()}
    assert errors == pytest.approx({"a": 0.05, "b": 0.10, "c": 0.15}, rel=1e-4)
    assert result["mean"]["abs_rel"] == pytest.approx(0.10, rel=1e-4)
    assert result["mean"]["pixels"] == 3 * 24 * 32
    assert result["skipped"] == {}


def test_the_table_has_the_mean_and_on_request_every_image(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted, truth = map(str, folders)
    assert main(["evaluate", predicted, truth]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["mean"]
    assert main(["evaluate", predicted, truth, "--per-image", "--json", str(tmp_path / "scores.json")]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["a", "b", "c", "mean"]
    columns = dict(zip(head.split(), rows[1].split()[1:], strict=True))
    assert columns["abs_rel"] == "0.1000"
    assert columns["pixels"] == "768"
    assert json.loads((tmp_path / "scores.json").read_text())["images"].keys() == {"a", "b", "c"}


def test_single_files_need_no_common_name_and_every_kind_of_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = save_png(tmp_path / "truth.png", scene(), scale=256)
    np.savez(tmp_path / "one.npz", depth=scene())
    files = [
        save_npy(tmp_path / "single.npy", scene()),
        save_npy(tmp_path / "double.npy", scene().astype(np.float64)),
        tmp_path / "one.npz",
        save_png(tmp_path / "depth.png", scene()),
    ]
    for file in files:
        result = scores(capsys, file, truth, "--gt-scale", 256)
        assert result["mean"]["abs_rel"] < 1e-3
        assert result["mean"]["abs_rel"] > 0  # 1/256 m is no millimetre
    assert scores(capsys, files[3], truth, "--gt-scale", 256, "--scale", 500)["mean"]["abs_rel"] == pytest.approx(
        1, abs=1e-2
    )


def test_zero_in_a_png_is_no_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holes = scene()
    holes[:6] = 0
    whole, cut = save_png(tmp_path / "whole.png", scene()), save_png(tmp_path / "cut.png", holes)
    assert scores(capsys, whole, cut)["mean"]["pixels"] == 18 * 32
    assert scores(capsys, cut, whole)["mean"]["coverage"] == 0.75
    assert main(["evaluate", str(cut), str(whole)]) == 0
    assert "75.00%" in capsys.readouterr().err


def test_options_reach_the_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.uniform(1, 100, (480, 640)), generator.uniform(1, 100, (480, 640))
    paths = save_npy(tmp_path / "predicted.npy", predicted), save_npy(tmp_path / "truth.npy", truth)
    result = scores(capsys, *paths, "--crop", "eigen_nyu", "--median-scaling", "--min-depth", "2", "--max-depth", "50")
    expected = evaluate_depth(predicted, truth, min_depth_m=2, max_depth_m=50, crop="eigen_nyu", median_scaling=True)
    assert result["mean"]["abs_rel"] == pytest.approx(expected.abs_rel)
    assert result["mean"]["pixels"] == expected.pixels
    assert scores(capsys, *paths, "--max-depth", "0")["mean"]["pixels"] == 480 * 640


def test_defaults_are_those_of_the_library() -> None:
    args = build_parser().parse_args(["evaluate", "predicted", "truth"])
    defaults = {name: parameter.default for name, parameter in signature(evaluate_depth).parameters.items()}
    assert (args.min_depth, args.max_depth) == (defaults["min_depth_m"], defaults["max_depth_m"])
    assert (args.crop, args.median_scaling) == (defaults["crop"], defaults["median_scaling"])
    assert args.pred_scale is args.gt_scale is None


def test_another_programs_predict_json_is_no_obstacle(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "predict.json").write_text("[1, 2]")
    assert scores(capsys, *folders)["images"].keys() == {"a", "b", "c"}


# ---- what cannot be scored


def test_a_truth_without_prediction_is_skipped_with_status_1(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "b.npy").unlink()
    report = tmp_path / "scores.json"
    assert main(["evaluate", *map(str, folders), "--json", str(report)]) == 1
    printed = capsys.readouterr()
    assert "skipped: b: no prediction" in printed.err
    assert "mean" in printed.out
    content = json.loads(report.read_text())
    assert content["images"].keys() == {"a", "c"}
    assert content["skipped"].keys() == {"b"}


def test_a_prediction_without_truth_is_told_and_no_failure(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[1] / "b.png").unlink()
    assert main(["evaluate", *map(str, folders)]) == 0
    assert "1 predictions have no truth: b" in capsys.readouterr().err


def test_broken_files_are_named_and_the_others_scored(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "a.npy").write_bytes((folders[0] / "a.npy").read_bytes()[:-100])
    save_npy(folders[0] / "b.npy", scene()[:, :-1])
    assert main(["evaluate", *map(str, folders), "--per-image"]) == 1
    printed = capsys.readouterr()
    assert "a.npy does not hold depth" in printed.err
    assert "(24, 31) and (24, 32)" in printed.err
    assert [line.split()[0] for line in printed.out.splitlines()[1:]] == ["c", "mean"]


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sprung = tmp_path / "sprung"
    truth = save_npy(tmp_path / "truth.npy", scene())
    np.save(tmp_path / "objects.npy", np.array([[Trap(sprung)]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", np.array([[Trap(sprung)]], dtype=object))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("objects.npy", "objects.npz", "plain.npy"):
        assert main(["evaluate", str(tmp_path / name), str(truth)]) == 1
        assert f"{name} does not hold depth" in capsys.readouterr().err
    assert not sprung.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(scene().astype(np.complex64), id="complex"),
        pytest.param(scene() > 2, id="bool"),
        pytest.param(scene()[None], id="3-D"),
        pytest.param(np.array("depth"), id="text"),
    ],
)
def test_arrays_that_are_no_depth_map_are_refused(
    content: NDArray[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = save_npy(tmp_path / "odd.npy", content), save_npy(tmp_path / "truth.npy", scene())
    assert main(["evaluate", *map(str, paths)]) == 1
    assert "odd.npy does not hold depth: it must be a depth map (H, W) of numbers" in capsys.readouterr().err


def test_pictures_and_ambiguous_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = save_npy(tmp_path / "truth.npy", scene())
    eight_bits = tmp_path / "picture.png"
    cv2.imwrite(str(eight_bits), np.zeros((24, 32, 3), np.uint8))
    assert main(["evaluate", str(eight_bits), str(truth)]) == 1
    assert "not a 16-bit grey PNG" in capsys.readouterr().err
    np.savez(tmp_path / "two.npz", a=scene(), b=scene())
    assert main(["evaluate", str(tmp_path / "two.npz"), str(truth)]) == 1
    assert "2 arrays instead of one" in capsys.readouterr().err
    save_png(tmp_path / "truth.png", scene())
    assert main(["evaluate", str(tmp_path), str(tmp_path)]) == 1
    assert "truth.npy, truth.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--crop", "middle"), "unknown crop 'middle'"),
        (("--min-depth", "0"), "range"),
        (("--scale", "0"), "levels per metre"),
        (("--pred-scale", "nan"), "levels per metre"),
        (("--crop", "eigen_nyu"), "480 x 640"),
    ],
)
def test_settings_that_cannot_be_are_said_once(
    options: tuple[str, str], words: str, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *map(str, folders), *options]) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""


def test_missing_and_mismatched_paths_are_said(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "nowhere"), str(folders[1])]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err
    assert main(["evaluate", str(folders[0] / "a.npy"), str(folders[1])]) == 1
    assert "two files or two folders" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["evaluate", str(empty), str(empty)]) == 1
    assert "could be scored" in capsys.readouterr().err


def test_a_reader_that_stops_early_ends_the_table_in_silence(folders: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", PROGRAM, "evaluate", *map(str, folders)]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_whole_numbers_are_no_metres_unless_somebody_says_so(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depth, truth, levels = scene(), tmp_path / f"truth{suffix}", (scene() * 1000).round().astype(np.uint16)
    np.save(tmp_path / "a.npy", depth)
    levels[0, 0] = 0
    (np.save if suffix == ".npy" else np.savez)(truth, levels)
    assert main(["evaluate", str(tmp_path / "a.npy"), str(truth)]) == 1
    said = capsys.readouterr().err
    assert "its numbers are whole (uint16), which may be millimetres" in said
    assert "--gt-scale" in said
    mean = scores(capsys, tmp_path / "a.npy", truth, "--gt-scale", 1000)["mean"]
    assert mean["abs_rel"] < 1e-6
    assert mean["pixels"] == depth.size - 1, "0 is no value"
