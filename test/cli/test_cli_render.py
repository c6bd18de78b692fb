"""`depth_anything render`: true depth for every picture, resumed where it stopped, nothing mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.cli import main, render
from depth_anything_ros.cli.render import DESCRIPTION
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame

SIZE = ("--width", "80", "--height", "60")


def call(out: Path, *arguments: object) -> int:
    return main(["render", "--out", str(out), *SIZE, "--frames", "3", *map(str, arguments)])


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line on stdout."""
    [line] = capsys.readouterr().out.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def description(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / DESCRIPTION).read_text())
    return content


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


EXPECTED = [
    "camera.json",
    *(f"{kind}/00000{i}.{end}" for kind, end in (("depth", "npy"), ("image", "png")) for i in range(3)),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "room"


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_files_are_the_cameras_pictures_and_their_depth(
    out: Path, distortion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(out, "--seed", 4, "--rate", 5, "--distortion", distortion) == 0
    assert summary(capsys) == {"out": str(out), "rendered": 3, "skipped": 0}
    assert files_in(out) == EXPECTED
    camera = SyntheticCamera(4, 80, 60, distortion)
    for index, listed in enumerate(description(out)["frames"]):
        frame = camera.frame(index / 5)
        depth = np.load(out / listed["depth"])
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, frame.depth, atol=1e-5)
        image = cv2.imread(str(out / listed["image"]))
        assert image is not None
        assert np.abs(image.astype(int) - frame.image_bgr).max() <= 1
        assert listed["time_s"] == index / 5
        np.testing.assert_array_equal(np.float32(listed["position"]), frame.position)
        np.testing.assert_array_equal(np.float32(listed["rotation"]), frame.rotation)


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_what_is_written_down_puts_the_depth_into_the_room(out: Path, distortion: str) -> None:
    """Nothing but the files is used, as somebody who got the folder would."""
    assert call(out, "--seed", 4, "--frames", 1, "--distortion", distortion) == 0
    content = description(out)
    K, [frame] = content["K"], content["frames"]
    is_distorted = any(content["D"])
    assert is_distorted == (distortion != "none")
    camera = CameraModel(
        fx=K[0][0],
        fy=K[1][1],
        cx=K[0][2],
        cy=K[1][2],
        width=content["width"],
        height=content["height"],
        distortion_model=content["distortion_model"] if is_distorted else "",
        distortion=tuple(content["D"]) if is_distorted else (),
    )
    points = camera.back_project(np.load(out / frame["depth"]))
    heights = (points @ np.float32(frame["rotation"]).T + np.float32(frame["position"]))[..., 2]
    assert heights.min() > -1e-3
    assert (heights[-8:] < 1e-3).mean() > 0.5


def test_depth_is_truth_for_evaluate(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(out) == 0
    predicted = out.with_name("predicted")
    predicted.mkdir()
    for path in (out / "depth").iterdir():
        np.save(predicted / path.name, np.load(path) * 1.1)
    capsys.readouterr()
    assert main(["evaluate", str(predicted), str(out / "depth"), "--json", "-"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["mean"]["abs_rel"] == pytest.approx(0.1, rel=1e-4)
    assert scores["mean"]["pixels"] == 3 * 80 * 60


def test_what_is_there_is_skipped_and_what_is_missing_done_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(out) == 0
    capsys.readouterr()
    before = (out / "depth/000001.npy").read_bytes()
    (out / "depth/000001.npy").unlink()
    (out / "image/000002.png").unlink()
    assert call(out) == 0
    assert summary(capsys) == {"out": str(out), "rendered": 2, "skipped": 1}
    assert files_in(out) == EXPECTED
    assert (out / "depth/000001.npy").read_bytes() == before


def test_it_goes_on_after_an_interruption(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = SyntheticCamera.frame

    def interrupted(camera: SyntheticCamera, time_s: float = 0.0) -> SyntheticFrame:
        if time_s > 0.15:
            raise KeyboardInterrupt
        return take(camera, time_s)

    with monkeypatch.context() as patch:
        patch.setattr(SyntheticCamera, "frame", interrupted)
        assert call(out) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert len(description(out)["frames"]) == 3
    assert call(out) == 0
    assert summary(capsys) == {"out": str(out), "rendered": 1, "skipped": 2}


@pytest.mark.parametrize(
    "option", [("--seed", 1), ("--rate", 7), ("--width", 96), ("--distortion", "plumb_bob"), ("--frames", 2)]
)
def test_another_cameras_pictures_are_refused_or_replaced(
    out: Path, option: tuple[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(out) == 0
    before = {name: (out / name).read_bytes() for name in EXPECTED}
    (out / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert call(out, *option) == 1
    said = capsys.readouterr().err
    assert "image/000000.png" in said
    assert "--overwrite" in said
    assert {name: (out / name).read_bytes() for name in EXPECTED} == before
    assert call(out, *option, "--overwrite") == 0
    expected = [name for name in EXPECTED if option[0] != "--frames" or "000002" not in name]
    assert files_in(out) == sorted([*expected, "notes.txt"])
    assert summary(capsys)["skipped"] == 0


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--frames", 0, "--frames is 0; allowed: 1 to 1000000"),
        ("--seed", -1, "--seed is -1; allowed: 0 to 2147483647"),
        ("--seed", 2**31, "--seed is 2147483648; allowed"),
        ("--rate", "nan", "--rate is nan; allowed: 0.01 to 1000"),
        ("--width", 0, "--width is 0; allowed: 16 to 4096"),
        ("--height", 5000, "--height is 5000; allowed: 16 to 4096"),
        ("--distortion", "fisheye", "unknown distortion 'fisheye'; known: none, plumb_bob"),
        ("--device", "gpu", "unknown device 'gpu'"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_written(
    out: Path, option: str, value: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(out, option, value) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_the_highest_seed_and_rate_can_be_rendered(out: Path) -> None:
    highest = {name: render.LIMITS[name][1] for name in ("seed", "rate_hz")}
    assert call(out, "--seed", int(highest["seed"]), "--rate", highest["rate_hz"], "--frames", 2) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert call(file / "room") == 1
    assert f"{file}/room" in capsys.readouterr().err
    assert call(file) == 1
    assert str(file) in capsys.readouterr().err
    assert file.read_text() == ""
