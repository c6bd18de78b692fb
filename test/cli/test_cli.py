"""`depth_anything`: the preflight tells the truth, and downloads fail with words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from depth_anything_ros.cli import doctor, main
from depth_anything_ros.cli.download import HELP
from depth_anything_ros.errors import BackendError

ROOT = Path(__file__).parents[2]
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


def test_doctor_says_that_every_use_can_run_where_everything_is_here() -> None:
    done = call("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-5:] == [f"{use:9} can run" for use in doctor.USES]
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
    assert state_of("torch", done.stdout) == "missing"
    assert "libcudart.so.12" in done.stdout
    assert done.returncode == 0, "the client can run"
    assert done.stdout.splitlines()[-5:] == [
        *(f"{use:9} cannot run: torch" for use in doctor.ESTIMATING),
        "client    can run",
    ]


@pytest.mark.parametrize(("use", "status"), [("client", 0), ("predict", 1)])
def test_doctor_of_one_use_looks_at_what_it_needs_alone(
    use: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked_at: list[str] = []

    def fake_probe(code: str) -> doctor.Probe:
        looked_at.append(code)
        return doctor.Probe(error="No module named 'torch'") if code == doctor.TORCH else doctor.Probe(("1.0",))

    monkeypatch.setattr(doctor, "probe", fake_probe)
    assert main(["doctor", use]) == status
    assert not {doctor.RCLPY, doctor.CV_BRIDGE} & set(looked_at)
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{use:9} can")


@pytest.mark.parametrize("use", doctor.EXTRAS)
def test_the_libraries_of_an_extra_are_those_of_setup_py(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_version", {"httpx": "0.27"}.get)
    found = doctor.check_extra(use)
    assert (found.state, found.uses) == ("missing", (use,))
    assert "httpx" not in found.detail
    assert f"depth_anything_ros[{doctor.EXTRA_NAMES[use]}]" in found.advice
    setup = (ROOT / "setup.py").read_text()
    for name in doctor.EXTRAS[use]:
        assert f'"{name}>=' in setup


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 99\n",
        b"<!DOCTYPE html><html>404</html>",
        b"",
    ],
    ids=["Git LFS pointer", "web page", "empty"],
)
def test_a_file_that_is_no_checkpoint_is_not_called_one(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPTH_ANYTHING_CHECKPOINTS", str(tmp_path))
    path = tmp_path / "depth_anything_v2_metric_hypersim_vits.pth"
    path.write_bytes(content)
    [found] = doctor.check_checkpoints()
    assert (found.state, found.uses) == ("missing", doctor.ESTIMATING)
    assert f"{path} is not a checkpoint" in found.detail
    assert found.advice == "delete it, then: depth_anything download vits hypersim"


def test_doctor_survives_a_library_that_crashes_on_import(tmp_path: Path) -> None:
    replace_module(tmp_path, "rclpy", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    done = call("doctor", "node", PYTHONPATH=str(tmp_path))
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


def test_checkpoints_in_the_search_folders_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_folder: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    [none] = doctor.check_checkpoints()
    assert none.state == "optional"
    assert "depth_anything download vits hypersim" in none.advice
    monkeypatch.setenv("DEPTH_ANYTHING_CHECKPOINTS", str(toy_folder))
    found = list(doctor.check_checkpoints())
    assert {finding.state for finding in found} == {"ok"}
    assert f"toy vkitti: {toy_folder / 'depth_anything_v2_metric_vkitti_toy.pth'}" in [row.detail for row in found]


def test_too_little_shared_memory_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY_BYTES", 1 << 60)
    found = doctor.check_shared_memory()
    assert found.state == "optional"
    assert "--shm-size" in found.advice
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    assert doctor.check_shared_memory().state == "optional"


def test_download_of_unknown_names_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "vitx", "hypersim"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("depth_anything download: unknown encoder 'vitx'; known: vits, vitb, vitl")
    assert main(["download", "vits", "indoor"]) == 1
    assert "hypersim, vkitti, relative" in capsys.readouterr().err


def test_download_without_names_lists_the_models_with_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    repository = "depth-anything/Depth-Anything-V2-Metric-Hypersim-Small"
    assert ["vits", "hypersim", "metric", "Apache-2.0", repository] in rows
    assert {row[3] for row in rows if row[:2] == ["vitl", "relative"]} == {"CC-BY-NC-4.0"}
    assert [row[0] for row in rows if row[1] == "synthetic"] == ["vitt"]
    assert main(["download", "vits"]) == 1
    assert "DATASET is missing" in capsys.readouterr().err


def test_download_names_the_licence_and_wants_consent_where_it_is_non_commercial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "vitl", "hypersim", "--folder", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "licence CC-BY-NC-4.0" in printed.out
    assert "--accept-license" in printed.err
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


@pytest.mark.parametrize(
    ("numpy", "sourced", "says_it"),
    [
        ("2.4.6", "/opt/ros/humble", True),
        ("1.21.5", "/opt/ros/humble", False),
        ("2.4.6", "/opt/ros/lyrical", False),
        ("2.4.6", None, False),
    ],
)
def test_doctor_says_how_to_get_the_numpy_back_that_cv_bridge_is_made_for(
    numpy: str, sourced: str | None, says_it: bool
) -> None:
    advice = doctor.numpy_advice(numpy, None if sourced is None else Path(sourced))
    assert ("pip install -c constraints-numpy1.txt" in advice) == says_it


@pytest.mark.parametrize("swallowed_as", [BackendError, ImportError, AttributeError])
def test_ctrl_c_that_a_library_turns_into_another_error_is_ctrl_c_still(
    swallowed_as: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise swallowed_as("module 'torch._dynamo' has no attribute 'exc'") from error
        return 0

    monkeypatch.setattr(doctor, "run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("words", "short"), [("render --out x --frame 1", "--frame"), ("doctor --tun", "--tun")])
def test_options_may_not_be_shortened(words: str, short: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert short in capsys.readouterr().err
