"""Networks in int8: how a file is made of pictures, what it says of itself, what runs it, and how true it is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_anything_ros.backends import int8
from depth_anything_ros.cli import main
from depth_anything_ros.errors import BackendError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.synthetic.camera import SyntheticCamera

pytest.importorskip("nncf", reason="NNCF is not installed: pip install '.[int8]'")

HEIGHT, WIDTH = 120, 160
SIZE = [f"--height={HEIGHT}", f"--width={WIDTH}"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of rendered rooms of another aspect than the network's images, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(int8.MIN_PICTURES):
        cv2.imwrite(str(folder / f"{seed}.png"), SyntheticCamera(7000 + seed, 200, 120).frame().image_bgr)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def said(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `export` prints of the demonstration model in int8; its file is not to be changed."""
    path = tmp_path_factory.mktemp("int8") / "vitt.onnx"
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["export", "vitt", "synthetic", f"--out={path}", *SIZE, "--int8", f"--calibrate={pictures}"]) == 0
    [line] = printed.getvalue().splitlines()
    return dict(json.loads(line))


def test_a_file_in_int8_is_small_and_near_to_fp32_on_pictures(said: dict[str, Any]) -> None:
    assert (said["precision"], said["pictures"], said["weights_look_trained"]) == ("int8", 20, True)
    assert abs(said["rooms_abs_rel_change"]) < 0.02
    assert said["rooms_median_relative"] < 0.02
    exact = DepthEstimator.load("vitt", "synthetic", device="cpu", backend="torch", precision="fp32")
    rounded = DepthEstimator.load("vitt", "synthetic", said["file"], device="cpu")
    frame = SyntheticCamera(7100, WIDTH, HEIGHT).frame()
    expected, found = (each.estimate(frame.image_bgr).values for each in (exact, rounded))
    off = np.abs(found - expected) / expected
    assert 0 < np.median(off) < 0.05
    assert Path(said["file"]).stat().st_size < 0.5 * exact.backend.weight_bytes


def test_openvino_runs_it_and_nothing_else_does(said: dict[str, Any]) -> None:
    for backend in ("auto", "openvino"):
        estimator = DepthEstimator.load("vitt", "synthetic", said["file"], device="cpu", backend=backend)
        assert (estimator.backend.name, estimator.backend.precision) == ("openvino", "int8")
    for backend in ("torch", "onnxruntime"):
        with pytest.raises(BackendError, match=f"is run on the CPU by backend openvino, not by {backend}"):
            DepthEstimator.load("vitt", "synthetic", said["file"], device="cpu", backend=backend)
    with pytest.raises(SettingsError, match="is in int8, whatever runs it: leave precision at auto, not bf16"):
        DepthEstimator.load("vitt", "synthetic", said["file"], device="cpu", precision="bf16")


def test_a_file_in_int8_that_was_changed_is_found_out_where_it_runs(said: dict[str, Any], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(said["file"])
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name.endswith("output_conv2.2.bias")]
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + 5.0).tobytes()
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match="the ONNX file on this machine differs from"):
        DepthEstimator.load("vitt", "synthetic", tmp_path / "changed.onnx", device="cpu")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (lambda folder: ["--int8"], "--int8 and --calibrate FOLDER belong together"),
        (lambda folder: [f"--calibrate={folder}"], "--int8 and --calibrate FOLDER belong together"),
        (lambda folder: ["--int8", f"--calibrate={folder}", "--dynamic-batch"], "leave --dynamic-batch out"),
        (lambda folder: ["--int8", f"--calibrate={folder / 'none'}"], "none cannot be read: "),
        (lambda folder: ["--int8", f"--calibrate={folder / 'empty'}"], "empty has 0 pictures (.bmp, "),
        (lambda folder: ["--int8", f"--calibrate={folder / 'few'}"], "--calibrate needs 20 or more"),
        (lambda folder: ["--int8", f"--calibrate={folder / 'broken'}"], "broken/a.png"),
    ],
    ids=["no pictures", "no int8", "batch", "no folder", "empty folder", "few pictures", "broken picture"],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    options: Callable[[Path], list[str]], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, count in (("empty", 0), ("few", int8.MIN_PICTURES - 1), ("broken", int8.MIN_PICTURES)):
        (tmp_path / folder).mkdir()
        for letter in "abcdefghijklmnopqrst"[:count]:
            (tmp_path / folder / f"{letter}.png").write_bytes(b"no picture")
    assert main(["export", "vitt", "synthetic", f"--out={tmp_path / 'x.onnx'}", *SIZE, *options(tmp_path)]) == 1
    assert error in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_without_nncf_it_says_what_to_install(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(int8, "import_module", missing)
    arguments = [f"--out={tmp_path / 'x.onnx'}", *SIZE, "--int8", f"--calibrate={pictures}"]
    assert main(["export", "vitt", "synthetic", *arguments]) == 1
    assert "pip install 'depth_anything_ros[int8]'" in capsys.readouterr().err
