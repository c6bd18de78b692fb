"""Every Python snippet of README and docs/ runs as it stands, with a toy network in place of the named one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_bridge import RunningBridge, encoded

from bridge.client import functions
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.weights import UNTRAINED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = re.compile(r"example\.com|/cameras")  # on the internet, on a robot
SNIPPETS = [
    pytest.param(snippet, id=f"{page.name}-{number}")
    for page in PAGES
    for number, snippet in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    if "client.cameras()" not in snippet  # needs a robot, see test_robot_client
]


@pytest.fixture
def surroundings(
    running_bridge: RunningBridge, jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The current folder has photo.jpg; the names are those that a page introduces in words."""
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(jpeg)
    toy = DepthEstimator.load("toy", "hypersim", UNTRAINED, input_size=56, device="cpu", backend="torch")
    monkeypatch.setattr(DepthEstimator, "load", lambda *_, **__: toy)
    post: Callable[..., dict[str, Any]] = functions._post_json
    here = running_bridge.url
    monkeypatch.setattr(functions, "_post_json", lambda *given: post(*given[:4], here, *given[5:]))
    return {
        "key": "a-key",
        "image_bgr": np.zeros((48, 64, 3), np.uint8),
        "stamp_s": 1.0,
        "depth": np.full((48, 64), 2.0, np.float32),
        "camera": CameraModel(60.0, 60.0, 31.5, 23.5, 64, 48),
    }


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet: str, surroundings: dict[str, Any], running_bridge: RunningBridge) -> None:
    if "predict_pointcloud" in snippet:  # the JSON API takes plain numbers
        surroundings["camera"] = {"fx": 60.0, "fy": 60.0, "cx": 31.5, "cy": 23.5}
    own = snippet.replace("http://robot:8000", running_bridge.url).replace("vits_hypersim_518", "toy_hypersim_56")
    exec(own, surroundings)
    points = surroundings.get("points")
    if points is not None:
        assert points.shape[-1] == 3
        assert points.size == 48 * 64 * 3
        assert points.dtype == np.float32


def shell_lines(page: Path) -> list[str]:
    """The commands of a page's shell blocks that ask a server."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if "curl " in line and not ELSEWHERE.search(line)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", [line for page in PAGES for line in shell_lines(page)])
def test_a_line_for_curl_runs_as_it_stands_and_would_tell_of_an_error(
    line: str, running_bridge: RunningBridge, tmp_path: Path
) -> None:
    for name in ("photo.jpg", "photo2.jpg"):  # of the size that the intrinsics are for
        (tmp_path / name).write_bytes(encoded(".jpg", np.zeros((480, 640, 3), np.uint8)))
    env = os.environ | {"URL": running_bridge.url, "KEY": "none"}
    own = line.replace("http://127.0.0.1:8000", "$URL")
    done = subprocess.run(["bash", "-c", own], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if written := re.search(r"-o (\S+)", line):
        assert b'"error"' not in (tmp_path / written[1]).read_bytes()
        assert "--fail-with-body" in line


def test_the_pages_have_snippets() -> None:
    assert len(SNIPPETS) >= 6
