"""The package installs in each of its ways, and its programs lie where that world looks for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NAME = "depth_anything_ros"
PROGRAMS = re.findall(r'"(\w+) = [\w.]+:\1"', (ROOT / "setup.py").read_text())
NODES = ("depth_anything_node", "synthetic_camera")
# Where this interpreter finds its libraries, but not where it finds this package.
LIBRARIES = [path for path in sys.path if path.endswith("-packages") and not Path(path, NAME).exists()]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without the Python path of this process; fail with what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source tree, without what git ignores: building writes into it."""
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs to the source tree is known to git alone, and this is no repository")
    copy = tmp_path / "source"
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT)
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


def shared_files() -> list[str]:
    """What belongs below share/depth_anything_ros."""
    files = [*(ROOT / "launch").glob("*.py"), *(path for path in (ROOT / "config").glob("*") if path.is_file())]
    return ["package.xml", *(str(path.relative_to(ROOT)) for path in files)]


def assert_shared_files_are_in(share: Path) -> None:
    assert (share / "ament_index/resource_index/packages" / NAME).is_file()
    for name in shared_files():
        assert (share / NAME / name).read_bytes() == (ROOT / name).read_bytes()


def top_level_names(library: Path) -> set[str]:
    """What the installation put where Python looks for modules, besides its own metadata."""
    [record] = library.glob(f"{NAME}-*.dist-info/RECORD")
    tops = {line.partition("/")[0] for line in record.read_text().splitlines()}
    return {top for top in tops if top != ".." and not top.endswith(".dist-info")}


def with_help() -> list[str]:
    """Programs that can be asked for help. Nodes cannot: their arguments are ROS's."""
    return [program for program in PROGRAMS if program not in NODES]


# ---- pip


@pytest.fixture
def fresh_python(tmp_path: Path) -> Path:
    """The interpreter of a new virtual environment that finds this one's libraries behind its own."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    Path(own, "libraries.pth").write_text("\n".join(LIBRARIES))
    return python


@pytest.mark.parametrize("way", ["plain", "editable"])
def test_pip_installs_programs_and_shared_files(way: str, source: Path, fresh_python: Path, tmp_path: Path) -> None:
    target = ["--editable", str(source)] if way == "editable" else [str(source)]
    # --ignore-installed: what it would find is the other environment's, and not its to touch.
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    run(fresh_python, "-m", "pip", "install", *options, *target, cwd=tmp_path)
    environment = fresh_python.parents[1]
    where = run(fresh_python, "-c", f"import {NAME}; print({NAME}.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(source if way == "editable" else environment)
    assert (Path(where).parent / "py.typed").is_file()
    assert (Path(where).parents[1] / "bridge" / "page" / "main.js").is_file()
    if way == "plain":  # an editable installation has no data files; its own are in the source tree
        assert_shared_files_are_in(environment / "share")
        assert top_level_names(Path(where).parents[1]) == {NAME, "bridge"}
    for program in PROGRAMS:
        assert os.access(environment / "bin" / program, os.X_OK)
    for program in with_help():
        assert "usage:" in run(environment / "bin" / program, "--help", cwd=tmp_path).lower()


# ---- colcon


@pytest.mark.parametrize("option", [[], ["--symlink-install"]], ids=["copied", "linked"])
def test_colcon_installs_programs_and_shared_files(option: list[str], source: Path, tmp_path: Path) -> None:
    colcon = Path(sys.executable).with_name("colcon")
    run(colcon, "--log-base", "log", "build", "--base-paths", source, *option, cwd=tmp_path)
    prefix = tmp_path / "install" / NAME
    assert_shared_files_are_in(prefix / "share")
    for program in PROGRAMS:
        assert os.access(prefix / "lib" / NAME / program, os.X_OK)
    in_it = f". {tmp_path}/install/setup.bash && cd /"
    where = run("bash", "-c", f"{in_it} && {sys.executable} -c 'import {NAME}; print({NAME}.__file__)'", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path)
    for program in with_help():
        help_text = run("bash", "-c", f"{in_it} && {prefix}/lib/{NAME}/{program} --help", cwd=tmp_path)
        assert "usage:" in help_text.lower()
