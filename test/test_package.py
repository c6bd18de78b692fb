"""The package installs in each of its ways, and its programs lie where that world looks for them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NAME = "depth_anything_ros"
PROGRAMS = re.findall(r'"(\w+) = [\w.]+:\1"', (ROOT / "setup.py").read_text())
TOY = ["encoder:=toy", "checkpoint:=untrained", "input_size:=56", "backend:=torch"]
# Nodes: arguments, and what each says when it is at work.
NODES: dict[str, tuple[list[str], str]] = {
    "depth_anything_node": (
        [part for value in TOY for part in ("-p", value)],
        "publishes, each while somebody listens",
    ),
    "synthetic_camera": (["-p", "width:=64", "-p", "height:=48"], "showing room 0"),
}
ONE_TEST = "[test/test_metadata.py, -k, three_places]"  # in place of those that a user's `colcon test` runs
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
    """Programs that can be asked for help where there is no ROS."""
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


@pytest.fixture
def colcon(tmp_path: Path) -> Path:
    """The program colcon; what it makes goes below `tmp_path`."""
    return Path(sys.executable).with_name("colcon")


def in_workspace(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that has sourced the workspace; ROS stays on this machine and out of the home."""
    command = f". {tmp_path}/install/setup.bash && env -0"
    printed = run("env", "-i", f"PATH={os.environ['PATH']}", "bash", "-c", command, cwd=tmp_path)
    sourced = dict(line.split("=", 1) for line in printed.split("\0") if line)
    own = {"ROS_DOMAIN_ID": str(1 + os.getpid() % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return {**sourced, **own, "HOME": str(tmp_path), "ROS_LOG_DIR": str(tmp_path / "ros_log")}


@pytest.mark.parametrize("option", [[], ["--symlink-install"]], ids=["copied", "linked"])
def test_colcon_installs_programs_and_shared_files(
    option: list[str], colcon: Path, source: Path, tmp_path: Path
) -> None:
    (source / "colcon.pkg").write_text(f"pytest-args: {ONE_TEST}\n")
    run(colcon, "--log-base", "log", "build", "--base-paths", source, *option, cwd=tmp_path)
    assert_shared_files_are_in(tmp_path / "install" / NAME / "share")
    environment = in_workspace(tmp_path)
    where = subprocess.check_output(
        [sys.executable, "-c", f"import {NAME}; print({NAME}.__file__)"], cwd="/", env=environment, text=True
    )
    assert Path(where.strip()).is_relative_to(tmp_path)
    programs = tmp_path / "install" / NAME / "lib" / NAME
    assert_programs_run(programs, environment)
    if not option:
        if importlib.util.find_spec("rclpy"):
            assert_nodes_run(programs, environment, tmp_path)
        run(colcon, "--log-base", "log", "test", "--base-paths", source, cwd=tmp_path)
        assert "1 test, 0 errors, 0 failures" in run(colcon, "test-result", "--all", "--verbose", cwd=tmp_path)


def assert_programs_run(folder: Path, environment: dict[str, str]) -> None:
    """Ask every program but the nodes, as it is installed, for its usage."""
    asked = [
        subprocess.Popen([folder / program, "--help"], env=environment, stdout=subprocess.PIPE, text=True)
        for program in with_help()
    ]
    assert ["usage:" in process.communicate(timeout=60)[0].lower() for process in asked] == [True] * len(asked)
    assert all(os.access(folder / program, os.X_OK) for program in NODES)


def assert_nodes_run(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Start the nodes as they are installed, wait until they are at work, and end them."""
    logs = {program: tmp_path / f"{program}.txt" for program in NODES}
    started = {}
    for program, (arguments, _) in NODES.items():
        with logs[program].open("wb") as log:
            command: list[Path | str] = [folder / program, "--ros-args", *arguments]
            started[program] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    for program, process in started.items():
        end_s, (_, said) = time.monotonic() + 60, NODES[program]
        while said not in logs[program].read_text() and process.poll() is None and time.monotonic() < end_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, logs[program].read_text()
        assert said in logs[program].read_text()


def test_colcon_test_runs_what_depends_on_the_distribution() -> None:
    arguments = yaml.safe_load((ROOT / "colcon.pkg").read_text())["pytest-args"]
    paths = [ROOT / argument for argument in arguments if argument.startswith("test/")]
    assert ROOT / "test" / "node" in paths
    assert all(path.exists() for path in paths)
    assert arguments[-2:] == ["-m", "not slow"]
