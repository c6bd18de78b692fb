"""`python -m demo`: three real processes, and files worth looking at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

pytest.importorskip("rclpy")

from bridge.client import DepthClient
from demo.bridge import LOOPBACK, bridge_command, wait_until_up
from demo.command import choose_model
from demo.folder import prepare
from demo.options import build_parser
from demo.photographs import collect, fit
from demo.pictures import rotation, splat
from demo.processes import ChildFailed, child
from depth_anything_ros.errors import CannotWrite
from depth_anything_ros.model.checkpoint_search import CHECKPOINTS_VARIABLE, bundled_checkpoint, checkpoint_name

REPOSITORY = Path(__file__).parent.parent
# fp32: random weights cannot tell whether bf16 is true, so node and bridge could differ by its rounding.
QUICK = ("--encoder", "toy", "--input-size", "112", "--seconds", "2", "--precision", "fp32")
# A PNG and a JPEG, neither of a size that another part of the demo uses.
SIZES = {"wide.png": (120, 200), "tall photo.jpg": (180, 140)}


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
    command = [sys.executable, "-m", "demo", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def run(*arguments: str | Path) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=110)
    return process.returncode, out, err


def read(path: Path) -> NDArray[Any]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, f"{path} is no picture"
    return picture


def save_photographs(folder: Path) -> list[Path]:
    rng = np.random.default_rng(3)
    for name, (height, width) in SIZES.items():
        coarse = rng.integers(0, 255, (height // 20, width // 20, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return [folder / name for name in SIZES]


def assert_results(folder: Path, height: int, width: int) -> None:
    """Every file of one photograph is there, of the right type and size, and not blank."""
    assert read(folder / "input.png").shape == (height, width, 3)
    depth = read(folder / "depth.png")
    assert depth.dtype == np.uint16
    assert depth.shape == (height, width)
    assert 0 < depth.max() <= 20_000
    assert depth.std() > 0
    color = read(folder / "color.png")
    assert color.dtype == np.uint8
    assert color.shape == (height, width, 3)
    assert color.std() > 1
    assert read(folder / "cloud.png").shape == (height, 2 * width, 3)
    assert read(folder / "cloud.png").std() > 10
    header = (folder / "cloud.ply").read_bytes()[:300].decode("ascii", errors="replace")
    assert f"element vertex {height * width}\n" in header


def read_summary(out: Path) -> dict[str, Any]:
    """What summary.json says, its counts checked."""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    assert summary["real_weights"] is False
    assert summary["frames_published"] > 0
    assert summary["frames_received"] >= summary["frames_processed"] > 0
    ends = ("processed", "dropped", "ignored", "failed")
    assert summary["frames_received"] == sum(summary[f"frames_{end}"] for end in ends)
    assert 0 < summary["depth_images"] <= summary["frames_processed"]
    assert 0 < summary["latency_ms_median"] <= summary["latency_ms_p95"] < 10_000
    return summary


@pytest.mark.slow
def test_without_photographs_the_demo_shows_true_depth_in_a_rendered_room(tmp_path: Path) -> None:
    status, out, err = run("--out", tmp_path, "--seconds", "6")
    assert status == 0, err
    assert "not for robots" in out.splitlines()[0]
    assert f"look at {tmp_path / 'sheet.png'} first" in out
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        assert_results(folder, 480, 640)
        for name in ("truth.png", "error.png"):
            assert read(folder / name).shape == (480, 640, 3)
            assert read(folder / name).std() > 1
        truth_like, color = read(folder / "truth.png").astype(int), read(folder / "color.png")
        assert np.abs(truth_like - color).mean() < 40  # the same colours for the same metres
    assert read(folders[0] / "bridge_depth.png").dtype == np.uint16
    assert read(tmp_path / "sheet.png").shape[0] == len(folders) * 300
    summary = read_summary(tmp_path)
    assert summary["model"] == "vitt_synthetic_518"
    assert summary["frames_scored"] > 0
    assert summary["abs_rel"] <= 0.12
    assert summary["delta1"] >= 0.87
    assert summary["bridge"]["abs_rel"] <= 0.15
    assert summary["bridge"]["largest_difference_from_node_m"] < 0.05  # PNG and message hold the same picture
    assert summary["bridge"]["latency_ms"] > 0


@pytest.mark.slow
def test_the_users_photographs_of_any_size_are_used_and_unreadable_files_named(tmp_path: Path) -> None:
    paths = save_photographs(tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    status, _, err = run(*paths, tmp_path / "notes.txt", "--out", tmp_path / "out", *QUICK)
    assert status == 0, err
    assert "notes.txt is not a readable image" in err
    assert_results(tmp_path / "out/00_wide", *SIZES["wide.png"])
    assert_results(tmp_path / "out/01_tall_photo", *SIZES["tall photo.jpg"])
    summary = read_summary(tmp_path / "out")
    assert summary["model"] == "toy_hypersim_112"
    assert summary["bridge"]["largest_difference_from_node_m"] < 0.05
    assert "abs_rel" not in summary


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_and_all_its_processes(tmp_path: Path) -> None:
    process = start("--out", tmp_path, *QUICK, "--seconds", "60")
    children = wait_for_children(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert psutil.wait_procs(children, timeout=0.1)[1] == []


def test_ctrl_c_while_a_process_starts_ends_that_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("demo.processes.subprocess.Popen", Interrupted)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt), child("sleeper", command, tmp_path / "log"):
        pytest.fail("the block was entered")
    assert started[0].returncode is not None


def wait_for_children(pid: int) -> list[psutil.Process]:
    deadline_s = time.monotonic() + 60
    while len(children := psutil.Process(pid).children()) < 2:
        assert time.monotonic() < deadline_s, "the demo never started its two processes"
        time.sleep(0.05)
    return children


@pytest.mark.slow
def test_a_node_that_cannot_load_its_model_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    save_photographs(tmp_path)
    arguments = ("--checkpoint", str(tmp_path / "none.pth"), "--out", tmp_path / "out", *QUICK)
    status, _, err = run(tmp_path / "wide.png", *arguments)
    assert status == 1
    assert "none.pth" in err
    assert "does not exist" in err


def test_no_readable_photograph_is_an_error_of_its_own(tmp_path: Path) -> None:
    status, _, err = run(tmp_path / "missing.jpg", "--out", tmp_path / "out")
    assert status == 2
    assert "missing.jpg is not a readable image" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--out FILE", "is a file; name a folder"),
        ("--port 99999", "must be 0 to 65535, not '99999'"),
        ("--seconds -5", "must be a number above 0, not '-5'"),
        ("--rate 0", "must be a number above 0, not '0'"),
        ("--sec 5", "--sec"),
    ],
)
def test_an_option_that_cannot_be_is_said_before_anything_is_started(
    words: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(words.replace("FILE", str(tmp_path / "file")).split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="file/out cannot be written"):
        prepare(tmp_path / "file" / "out", [])


def test_results_of_an_earlier_run_go_and_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"folders": ["00", "01", "../elsewhere", "gone"]}))
    others = [tmp_path / "notes.txt", tmp_path / "00" / "notes.txt", tmp_path / "mine" / "depth.png"]
    ours = [tmp_path / "sheet.png", tmp_path / "00" / "depth.png", tmp_path / "01" / "cloud.ply"]
    for file in (*others, *ours):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    prepare(tmp_path, [])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)
    assert not (tmp_path / "01").exists()


def test_another_program_that_answers_on_the_port_is_not_taken_for_the_bridge(tmp_path: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        command = bridge_command(choose_model(build_parser().parse_args([])), port)
        with (
            child("bridge", command, tmp_path / "log") as bridge,
            DepthClient(f"http://{LOOPBACK}:{port}") as client,
        ):
            assert client.health() == {}
            with pytest.raises(ChildFailed, match="another program has this port"):
                wait_until_up(bridge, client)
        other.shutdown()


def test_a_folder_gives_its_files_in_order(tmp_path: Path) -> None:
    save_photographs(tmp_path)
    assert [photograph.name for photograph in collect([tmp_path])] == ["00_tall_photo", "01_wide"]


def test_large_photographs_shrink_to_1280_and_small_ones_stay() -> None:
    assert fit(np.zeros((3000, 4000, 3), np.uint8)).shape == (960, 1280, 3)
    assert fit(np.zeros((30, 5000, 3), np.uint8)).shape == (8, 1280, 3)
    assert fit(np.zeros((48, 64, 3), np.uint8)).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("", "vitt_synthetic_518"),
        ("photo.jpg", "toy_vkitti_518"),  # the only real weights on this machine
        ("--encoder vits", "vits_hypersim_518"),
        ("photo.jpg --encoder vitt", "vitt_synthetic_518"),
        ("--dataset synthetic --input-size 112", "vitt_synthetic_112"),
    ],
)
def test_real_weights_are_for_photographs_and_the_demonstration_model_for_the_rest(
    words: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    (tmp_path / checkpoint_name("toy", "vkitti")).touch()
    assert choose_model(build_parser().parse_args(words.split())).key == key


def test_photographs_without_real_weights_get_the_demonstration_model() -> None:
    model = choose_model(build_parser().parse_args(["photo.jpg"]))
    assert model.key == "vitt_synthetic_518"
    assert model.checkpoint == str(bundled_checkpoint("vitt", "synthetic"))


def test_the_cloud_is_drawn_from_the_side_that_is_asked_for() -> None:
    # A red plate at 2 m stands before a blue one at 4 m: a viewer on the left sees red to the right of blue.
    y, x = np.mgrid[-0.5:0.5:50j, -0.5:0.5:50j]
    points = np.stack([np.stack([x, y, np.full_like(x, z)], axis=-1) for z in (2.0, 4.0)]).astype(np.float32)
    colors = np.zeros(points.shape, np.uint8)
    colors[0, ..., 2] = colors[1, ..., 0] = 255
    points[0, 0, 0] = np.nan
    picture = splat(points, colors, -30.0, 0.0, 160, 120)
    red, blue = (np.nonzero((picture == color).all(axis=-1))[1].mean() for color in ([0, 0, 255], [255, 0, 0]))
    assert red > blue
    np.testing.assert_allclose(rotation(20.0, 30.0) @ rotation(20.0, 30.0).T, np.eye(3), atol=1e-12)
