"""What a model runs on is told in names and bytes, for the machine the tests run on."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import psutil
import pytest
import torch

from depth_anything_ros.runtime import hardware

CPU = torch.device("cpu")


def test_a_cpu_has_the_processors_name() -> None:
    name = hardware.hardware_name(CPU)
    assert name.strip()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (model := re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)):
        assert name == model.group(1).strip()


def test_where_the_system_tells_nothing_there_are_the_machines_kind_and_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    hardware.hardware_name.cache_clear()
    assert hardware.hardware_name(CPU) == platform.machine()
    hardware.hardware_name.cache_clear()
    assert hardware.resident_bytes() is None


def test_the_memory_is_what_the_system_says_of_this_process() -> None:
    resident = hardware.resident_bytes()
    assert resident == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)


def test_only_a_gpu_has_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.device_bytes(CPU) is None
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    gpu = torch.device("cuda", 1)
    assert (hardware.device_bytes(gpu), hardware.hardware_name(gpu)) == (5 << 20, "GPU 1")
