"""`depth_anything_client`, run as a program."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from client_hosts import healthy, host
from numpy.typing import NDArray
from running_bridge import RunningBridge

from bridge.client.cli import HYPERSIM_MAX_DEPTH_M
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.registry import dataset_spec

ROOT = Path(__file__).parents[3]
INTRINSICS = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}


def test_the_commands_default_is_the_depth_that_hypersim_was_trained_for() -> None:
    assert dataset_spec("hypersim").max_depth_m == HYPERSIM_MAX_DEPTH_M


def run_cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge.client.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, **options)


def test_ctrl_c_ends_the_command_without_a_traceback(photo_file: Path, tmp_path: Path) -> None:
    gone = threading.Event()
    arrived = threading.Event()

    def never(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        gone.wait(30)

    with host(never) as (url, _):
        command = [sys.executable, "-m", "bridge.client.cli", str(photo_file), "--url", url, "--out", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert arrived.wait(30)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        gone.set()
    assert process.returncode == 130
    assert errors == "interrupted\n"


def test_the_command_says_in_one_line_what_is_wrong(photo_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with host(healthy) as (url, _):
        pass  # closed again: nobody listens
    for arguments, reason in (
        ([str(photo_file), "--url", url], "no answer from"),
        ([str(text), "--url", url], "notes.txt"),
        ([str(tmp_path / "none.jpg"), "--url", url], "none.jpg"),
        ([str(photo_file), "--url", url, "--model", "x"], "model"),
        ([str(photo_file), "--server", "x", "--servers-file", str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        done = run_cli(*arguments, "--out", str(tmp_path / "out"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr


def test_the_command_writes_depth_picture_and_cloud(
    running_bridge: RunningBridge, photo: NDArray[np.uint8], photo_file: Path, tmp_path: Path, estimator: DepthEstimator
) -> None:
    out = tmp_path / "out"
    intrinsics = ["--intrinsics", *map(str, INTRINSICS.values())]
    done = run_cli(str(photo_file), "--url", running_bridge.url, "--out", str(out), *intrinsics)
    assert done.returncode == 0, done.stderr
    depth = estimator.estimate(photo, 20.0).values
    levels = cv2.imread(str(out / "photo_depth.png"), cv2.IMREAD_UNCHANGED)
    assert levels is not None
    np.testing.assert_allclose(levels / 1000.0, depth, atol=0.6e-3)
    picture = cv2.imread(str(out / "photo_color.png"))
    assert picture is not None
    assert picture.shape == photo.shape
    header, _, vertices = (out / "photo.ply").read_bytes().partition(b"end_header\n")
    assert b"element vertex %d" % depth.size in header
    assert len(vertices) == depth.size * 15
    z = np.frombuffer(vertices, [("xyz", "<f4", 3), ("rgb", "u1", 3)])["xyz"][:, 2]
    np.testing.assert_allclose(z, depth.ravel(), atol=1e-5)


def test_the_command_asks_for_max_depth_where_it_cannot_know_it(
    running_bridge: RunningBridge, photo_file: Path, tmp_path: Path
) -> None:
    servers = tmp_path / "servers.yaml"
    servers.write_text(f"lab: {{base_url: '{running_bridge.url}', model: toy_vkitti_56}}")
    named = [str(photo_file), "--server", "lab", "--servers-file", str(servers), "--out", str(tmp_path / "out")]
    done = run_cli(*named)
    assert done.returncode == 1
    assert "--max-depth" in done.stderr
    done = run_cli(*named, "--max-depth", "80")
    assert done.returncode == 0, done.stderr
    assert "metres x 819" in done.stdout
    assert "fx 55.4" in done.stdout  # 60 degrees over 64 pixels
