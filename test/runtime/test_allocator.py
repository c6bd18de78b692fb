"""The allocation policy that programs choose: taken where the C library knows it, harmless elsewhere."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from depth_anything_ros.runtime import allocator

# Allocates and frees 40 MB again and again, and says how many pages had to be faulted in for it.
FAULTS = """
import resource, sys
from depth_anything_ros.runtime.allocator import keep_freed_memory, trim_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    bytearray(40_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, trim_freed_memory())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again_and_can_be_given_back() -> None:
    def run(policy: str) -> tuple[int, bool]:
        command = [sys.executable, "-c", FAULTS, policy]
        faults, trimmed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(faults), trimmed == "True"

    faults_by_default, _ = run("default")
    faults_kept, given_back = run("keep")
    assert 10 * faults_kept < faults_by_default
    assert given_back


def test_a_c_library_without_the_functions_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()
    assert not allocator.trim_freed_memory()
