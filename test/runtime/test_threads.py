"""Threads: physical cores within affinity and quota, one for OpenCV, and the user's own choice before ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depth_anything_ros.runtime.threads import available_cores, cpu_quota, physical_cores

REPORT = """
import cv2, torch
from depth_anything_ros.runtime.threads import share_cores
share_cores({arguments})
print(torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads())
"""


def topology(folder: Path, cores: list[tuple[int, int]]) -> Path:
    """Write the kernel's files for CPUs on these (package, core)."""
    for cpu, (package, core) in enumerate(cores):
        place = folder / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text(f"{package}\n")
        (place / "core_id").write_text(f"{core}\n")
    return folder


def test_siblings_of_one_core_count_once_and_cores_of_two_packages_twice(tmp_path: Path) -> None:
    place = topology(tmp_path, [(0, 0), (0, 1), (0, 0), (0, 1), (1, 0), (1, 0)])
    assert physical_cores(range(6), place) == 3
    assert physical_cores([0, 2], place) == 1
    assert physical_cores([0, 1, 9], place) == 3, "one that is not described is a core"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container_is_read(files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path) == expected


def test_available_cores_are_within_affinity_and_quota_and_never_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    place = topology(tmp_path / "cpus", [(0, core) for core in range(8)])
    (tmp_path / "cpu.max").write_text("max 100000")
    assert available_cores(place, tmp_path) == 4
    (tmp_path / "cpu.max").write_text("250000 100000")
    assert available_cores(place, tmp_path) == 2
    (tmp_path / "cpu.max").write_text("50000 100000")
    assert available_cores(place, tmp_path) == 1


def threads_of(arguments: str = "", **environment: str) -> list[int]:
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | environment
    program = [sys.executable, "-c", REPORT.format(arguments=arguments)]
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_a_program_computes_on_all_its_cores_and_converts_on_one() -> None:
    assert threads_of() == [available_cores(), 1, 1]


def test_a_renderer_computes_on_one() -> None:
    assert threads_of("torch_threads=1") == [1, 1, 1]


def test_programs_side_by_side_share_the_cores() -> None:
    assert threads_of("1000") == [1, 1, 1]


def test_who_sets_openmps_threads_has_chosen() -> None:
    assert threads_of("processes=0", OMP_NUM_THREADS="1") == [1, 1, 1], "ours would divide by zero"
