"""examples/client.py asks a real server."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from running_bridge import RunningBridge

EXAMPLE = Path(__file__).parents[3] / "examples/client.py"


def test_the_example_prints_a_depth(
    running_bridge: RunningBridge,
    jpeg: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpeg)
    monkeypatch.setattr(sys, "argv", ["client.py", str(photo), "--url", running_bridge.url])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out.strip().endswith("m in the middle")
