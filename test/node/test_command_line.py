"""What is wrong with a command line is said in one line, and `--help` starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from depth_anything_ros.node import lifecycle, synthetic_camera
from depth_anything_ros.node.command_line import Program, check_arguments, explain_start_error
from depth_anything_ros.node.parameters import PARAMETERS

DEPTH, SYNTHETIC = lifecycle.PROGRAM, synthetic_camera.PROGRAM


@pytest.mark.parametrize("program", [DEPTH, SYNTHETIC])
@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--help", "--ros-args", "-p", "seed:=1"]])
def test_help_names_every_parameter_and_ends(
    program: Program, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check_arguments(program, arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {program.executable} ")
    assert all(f"  {name} (default: " in text for name in program.parameters)


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        (DEPTH, ["--max-range", "8"], "unknown argument '--max-range'; write --ros-args -p max_range_m:=VALUE"),
        (DEPTH, ["--encoder=vitb"], "unknown argument '--encoder=vitb'; write --ros-args -p encoder:=vitb"),
        (DEPTH, ["-p", "max_range_m:=8.0"], "unknown argument '-p'; write --ros-args before -p"),
        (DEPTH, ["--params-file", "a.yaml"], "write --ros-args before --params-file"),
        (DEPTH, ["encoder:=vitb"], "unknown argument 'encoder:=vitb'; write --ros-args -p encoder:=vitb"),
        (DEPTH, ["photo.jpg"], "unknown argument 'photo.jpg'; parameters are given by --ros-args -p NAME:=VALUE"),
        (DEPTH, ["x" * 10**6], "unknown argument 'xxxx"),
        (SYNTHETIC, ["--sed", "7"], "synthetic_camera: unknown argument '--sed'; write --ros-args -p seed:=VALUE"),
    ],
)
def test_what_ros_would_drop_is_refused_with_what_to_write(
    program: Program, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check_arguments(program, arguments)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert len(line) < 300


@pytest.mark.parametrize("arguments", [[], ["--ros-args", "-p", "encoder:=vitb", "-r", "image:=/x"], ["image:=/x"]])
def test_what_ros_understands_passes(arguments: list[str]) -> None:
    check_arguments(DEPTH, arguments)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the parameter file '{file}' cannot be read: there is no such file"),
        ("/**:\n  ros__parameters:\n    a: [1, x]\n", "the parameter file '{file}' cannot be read: Sequence should be"),
        ("a: 1\n", "the parameter file '{file}' cannot be read: Cannot have a value before ros__parameters at line 1"),
    ],
    ids=["missing", "mixed array", "no ros__parameters"],
)
def test_a_bad_parameter_file_costs_one_line(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    if content is not None:
        file.write_text(content)
    error = f"failed to initialize rcl: Couldn't parse params file: '--params-file {file}'. Error: "
    start = "Cannot have a value before ros__parameters at line 1"
    reasons = ("Error opening YAML file", "Sequence should be of same type", start)
    reason = next((text for text in reasons if text[:10] in said), reasons[0])
    place = ", at /project/src/parse.c:435, at /project/src/arguments.c:415"
    text = explain_start_error(RuntimeError(error + reason + place))
    assert text.startswith(said.format(file=file))
    assert "/project/" not in text


def test_the_program_itself_says_so_without_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    a: [1, x]\n")
    command = [sys.executable, "-m", "depth_anything_ros.node", "--ros-args", "--params-file", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith("depth_anything: the parameter file ")
    assert "Sequence should be of same type" in line


def test_every_parameter_of_the_help_has_a_default_that_is_shown() -> None:
    assert set(DEPTH.defaults) == set(PARAMETERS)
    assert "  cloud_stride (default: 1)\n" in DEPTH.help()
    assert "  range_extrinsics (default: not set)\n" in DEPTH.help()
