"""The examples and the notebook run as they stand, on what comes with the package."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import pytest

from depth_anything_ros.cli import main as depth_anything

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example as its own program, in the current folder."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what is compiled for the one model is kept."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled))
    monkeypatch.chdir(tmp_path)


def test_every_example_is_listed_and_has_a_test() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    names = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*example*.py"))
    assert len(names) == 6
    assert [name for name in names if name not in listed or name not in tests] == []


def test_depth_is_written_beside_the_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("estimate.py", monkeypatch=monkeypatch)
    picture = cv2.imread("depth.png")
    assert picture is not None
    assert picture.shape == (480, 1280, 3)
    nearest, farthest = (float(word) for word in capsys.readouterr().out.split() if word[0].isdigit())
    assert 0.5 < nearest < farthest < 10


def test_a_cloud_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run("point_cloud.py", monkeypatch=monkeypatch)
    header = Path("cloud.ply").read_bytes()[:200].decode("ascii", "replace")
    [count] = [int(line.split()[-1]) for line in header.splitlines() if line.startswith("element vertex")]
    assert 640 * 480 * 0.9 < count <= 640 * 480


def test_rendered_pictures_are_evaluated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert depth_anything(["render", "--out", "room", "--frames", "2", "--width", "320", "--height", "240"]) == 0
    run("evaluate.py", "room", monkeypatch=monkeypatch)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("all 2: AbsRel 0.0")


def test_the_notebook_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    display = ModuleType("IPython.display")  # what shows pictures is not installed here
    display.__dict__.update(Image=lambda data: data, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, Any] = {}
    for cell in json.loads((EXAMPLES / "depth.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "clear the notebook's outputs before it is committed"
            exec("".join(cell["source"]), names)
    assert [data[:4] for data in shown] == [b"\x89PNG"] * 2
    assert "AbsRel 0.0" in capsys.readouterr().out
