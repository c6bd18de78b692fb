"""`depth_anything`: the preflight tells the truth, and downloads fail with words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from depth_anything_ros.cli import doctor
from depth_anything_ros.cli.download import HELP

PROGRAM = "import sys; from depth_anything_ros.cli import main; sys.exit(main())"
EVERY_HELP = """
import contextlib, pkgutil, sys
from depth_anything_ros import cli
for module in pkgutil.iter_modules(cli.__path__):
    if not module.name.startswith("_"):
        with contextlib.suppress(SystemExit):
            cli.main([module.name, "--help"])
heavy = {"torch", "numpy", "cv2", "rosbags", "tqdm", "yaml", "huggingface_hub"}
print("heavy:", sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
STATES = ("ok", "missing", "optional")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Environment of the tests, with changes; PYTHONPATH goes before what is there."""
    if "PYTHONPATH" in changes and "PYTHONPATH" in os.environ:
        changes["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    return os.environ | changes


def call(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, check=False, env=environment(**changes)
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def state_of(name: str, output: str) -> str:
    """State in the row of a finding; every row starts with one."""
    rows = [line for line in output.splitlines() if line.split(" ")[0] in STATES]
    return next(line.split()[0] for line in rows if line[10:].startswith(name))


def advice_for(name: str, output: str) -> str:
    lines = output.splitlines()
    row = next(index for index, line in enumerate(lines) if line[10:].startswith(name))
    return lines[row + 1].strip().removeprefix("-> ")


def replace_module(folder: Path, name: str, code: str) -> None:
    """Put a module in front of the installed one of that name, for a process with PYTHONPATH=folder."""
    (folder / f"{name}.py").write_text(code)


def remove_module(folder: Path, name: str) -> None:
    replace_module(folder, name, f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')")


def test_doctor_says_that_a_node_can_run_where_everything_is_here() -> None:
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "A node can run."
    for name in ("Python", "NumPy", "OpenCV", "torch", "rclpy"):
        assert state_of(name, done.stdout) == "ok"
    assert "rmw_" in done.stdout


def test_doctor_works_where_nothing_is_installed_and_says_how_to_get_each_thing(tmp_path: Path) -> None:
    needed = ("numpy", "cv2", "torch", "safetensors", "huggingface_hub", "rclpy")
    for name in needed:
        remove_module(tmp_path, name)
    done = call("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    for name in ("NumPy", "OpenCV", "torch", "safetensors", "huggingface_hub", "rclpy"):
        assert state_of(name, done.stdout) == "missing"
        assert "install" in advice_for(name, done.stdout)
    for name in needed:
        assert f"No module named '{name}'" in done.stdout


def test_doctor_reports_a_library_that_is_there_but_broken(tmp_path: Path) -> None:
    replace_module(tmp_path, "torch", "raise OSError('libcudart.so.12: cannot open shared object file')")
    done = call("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert state_of("torch", done.stdout) == "missing"
    assert "libcudart.so.12" in done.stdout


def test_doctor_survives_a_library_that_crashes_on_import(tmp_path: Path) -> None:
    replace_module(tmp_path, "rclpy", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    done = call("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert state_of("rclpy", done.stdout) == "missing"
    assert "SIGSEGV" in done.stdout


def test_a_ros_installation_mixed_with_the_one_from_pip_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "share/rclpy").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere{os.pathsep}{tmp_path}")
    monkeypatch.setattr(doctor, "installed_version", lambda distribution: "9.1.2")
    found = doctor.check_rclpy()
    assert found.state == "missing"
    assert "two ROS are mixed" in found.detail
    assert str(tmp_path) in found.detail


def test_a_sourced_workspace_without_rclpy_is_not_taken_for_a_ros_installation(tmp_path: Path) -> None:
    (tmp_path / "share/depth_anything_ros").mkdir(parents=True)
    assert doctor.sourced_ros({"AMENT_PREFIX_PATH": str(tmp_path)}) is None
    assert doctor.sourced_ros({}) is None


def test_missing_rclpy_is_advised_by_what_the_machine_has_of_ros(tmp_path: Path) -> None:
    assert "install ROS 2" in doctor.rclpy_advice(None, tmp_path)
    setup = tmp_path / "jazzy/setup.bash"
    setup.parent.mkdir()
    setup.touch()
    assert doctor.rclpy_advice(None, tmp_path) == f"source {setup}"
    (tmp_path / "jazzy/lib/python3.12").mkdir(parents=True)
    advice = doctor.rclpy_advice(tmp_path / "jazzy", tmp_path)
    assert "python3.12" in advice
    assert "--system-site-packages" in advice


def test_pip_is_advised_in_a_virtual_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/somewhere/.venv")
    assert doctor.pip("torch") == "pip install 'torch'"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "-m venv --system-site-packages" in doctor.pip("torch")


def test_checkpoints_in_the_search_folders_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DEPTH_ANYTHING_CHECKPOINTS", str(tmp_path))
    assert doctor.check_checkpoints().state == "optional"
    path = tmp_path / "depth_anything_v2_metric_vkitti_vitb.pth"
    path.touch()
    assert doctor.check_checkpoints() == doctor.Finding("checkpoints", "ok", str(path))


def test_too_little_shared_memory_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY_BYTES", 1 << 60)
    found = doctor.check_shared_memory()
    assert found.state == "optional"
    assert "--shm-size" in found.advice
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    assert doctor.check_shared_memory().state == "optional"


def test_download_of_unknown_names_lists_the_known_ones(tmp_path: Path) -> None:
    done = call("download", "vitx", "hypersim")
    assert done.returncode == 1
    assert done.stderr.startswith("depth_anything download: unknown encoder 'vitx'; known: vits, vitb, vitl")
    done = call("download", "vits", "indoor")
    assert done.returncode == 1
    assert "hypersim, vkitti, relative" in done.stderr


def test_download_names_the_licence_and_wants_consent_where_it_is_non_commercial(tmp_path: Path) -> None:
    done = call("download", "vitl", "hypersim", "--folder", str(tmp_path))
    assert done.returncode == 1
    assert "licence CC-BY-NC-4.0" in done.stdout
    assert "--accept-license" in done.stderr
    assert not list(tmp_path.iterdir())


def test_download_from_a_hub_that_does_not_answer_ends_with_status_1(tmp_path: Path) -> None:
    done = call("download", "vits", "hypersim", "--folder", str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "licence Apache-2.0" in done.stdout
    assert "cannot download depth_anything_v2_metric_hypersim_vits.pth" in done.stderr


def test_a_missing_library_points_to_the_preflight(tmp_path: Path) -> None:
    remove_module(tmp_path, "torch")
    done = call("download", "vits", "hypersim", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "depth_anything doctor" in done.stderr


def test_ctrl_c_ends_a_command_with_status_130(tmp_path: Path) -> None:
    started = tmp_path / "started"
    replace_module(tmp_path, "numpy", f"import time; open({str(started)!r}, 'w').close(); time.sleep(60)")
    process = subprocess.Popen(
        command("doctor"), env=environment(PYTHONPATH=str(tmp_path)), stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline_s = time.monotonic() + 30
    while not started.exists():
        assert time.monotonic() < deadline_s, "the probe never started"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=30) == 130


def test_help_lists_every_subcommand() -> None:
    done = call("--help")
    assert done.returncode == 0
    assert HELP in done.stdout
    assert doctor.HELP in done.stdout


def test_help_of_every_subcommand_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: depth_anything ") >= 8
    assert done.stderr == "heavy: []\n"
