"""How programs start: threads that wait do not spin, and what is missing is named in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from depth_anything_ros.runtime import programs
from depth_anything_ros.runtime.threads import SLEEP_WHILE_WAITING, let_waiting_threads_sleep

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = re.findall(r'"(\w+) = ([\w.]+):(\w+)"', (ROOT / "setup.py").read_text())


def run(*arguments: str, first: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python without this one's choice of threads; modules in the folder `first` come before all others."""
    env = {name: value for name, value in os.environ.items() if name not in SLEEP_WHILE_WAITING} | environment
    env["PYTHONPATH"] = f"{first}{os.pathsep}{ROOT}"
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, cwd=first, capture_output=True, text=True, check=False, timeout=60)


def starting(program: str) -> str:
    return f"import sys; from depth_anything_ros.runtime.programs import {program} as main; sys.exit(main())"


def take_away(name: str, folder: Path) -> None:
    """Let a folder hold a module of this name that imports as if it were not installed."""
    (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(name='{name}')")


def test_every_program_of_setup_starts_in_one_place() -> None:
    assert len(ENTRY_POINTS) == 5
    for name, module, function in ENTRY_POINTS:
        assert (module, function) == (programs.__name__, name)
        assert callable(getattr(programs, function))


def test_a_program_chooses_how_threads_wait_before_torch_is_imported_and_torch_takes_it() -> None:
    program = "from depth_anything_ros.runtime.programs import Program, start; start(Program('torch', 'torch', 'core'))"
    shown = run("-c", program, OMP_DISPLAY_ENV="true").stderr  # GNU's OpenMP prints what it was told when it is loaded
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in shown


@pytest.mark.parametrize("module", ["depth_anything_ros.node", "demo", "soak.bridge", "training", "benchmarks"])
def test_so_does_a_module_that_is_run(module: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os, sys; sys.exit(os.environ.get('OMP_WAIT_POLICY'))")
    assert run("-m", module, first=tmp_path).stderr.strip() == "PASSIVE"


def test_the_bridges_workers_inherit_it_from_a_supervisor_without_torch() -> None:
    program = (
        "import os, sys; from depth_anything_ros.runtime.programs import depth_anything_bridge; "
        "sys.argv[1:] = ['make-key', 'laptop']; depth_anything_bridge(); "
        "print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    )
    assert run("-c", program).stdout.splitlines()[-1] == "False PASSIVE"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    let_waiting_threads_sleep()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["KMP_BLOCKTIME"]) == ("ACTIVE", "0")


def test_a_client_without_its_extra_names_it(tmp_path: Path) -> None:
    take_away("httpx", tmp_path)
    done = run("-c", starting("depth_anything_client"), first=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "depth_anything_client: httpx is missing: pip install '.[client]'; `depth_anything doctor` says what else is"
    ]


def test_a_node_without_ros_says_how_to_get_it(tmp_path: Path) -> None:
    take_away("rclpy", tmp_path)
    done = run("-c", starting("synthetic_camera"), first=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "source the setup.bash of a ROS 2" in done.stderr


@pytest.mark.parametrize("program", ["depth_anything_bridge", "depth_anything_client"])
def test_another_module_of_the_name_bridge_is_named(program: str, tmp_path: Path) -> None:
    (tmp_path / "bridge.py").write_text("my_robot = 1\n")
    done = run("-c", starting(program), first=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{tmp_path / 'bridge.py'} hides this project's package `bridge`: rename it" in done.stderr


START = "import sys; from depth_anything_ros.runtime.programs import Program, start; "
CTRL_C = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
SWALLOWS_CTRL_C = f"""
try:
    {CTRL_C}
except BaseException:
    raise ImportError("a part of this library is missing")
"""


@pytest.mark.parametrize("library", [CTRL_C, SWALLOWS_CTRL_C])
def test_ctrl_c_during_the_imports_ends_a_program_without_a_traceback(library: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(library)
    ended = run("-c", f"{START} sys.exit(start(Program('slow', 'slow', 'core')))", first=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")


@pytest.mark.parametrize("module", ["demo", "bridge", "depth_anything_ros.node"])
def test_so_it_does_where_a_module_is_run(module: str, tmp_path: Path) -> None:
    for name in ("cv2", "pydantic"):
        (tmp_path / f"{name}.py").write_text(CTRL_C)
    ended = run("-m", module, first=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_ctrl_c_after_the_imports_is_no_traceback_either(tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text(f"def main():\n    {CTRL_C}")
    ended = run("-c", f"{START} sys.exit(start(Program('quick', 'quick', 'core')))", first=tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_a_program_that_is_told_to_ignore_ctrl_c_does(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(f"{CTRL_C}def main():\n    return 7")
    ignores = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    ended = run("-c", f"{ignores}{START} sys.exit(start(Program('slow', 'slow', 'core')))", first=tmp_path)
    assert (ended.returncode, ended.stderr) == (7, "")
