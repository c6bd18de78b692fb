"""Progress where standard error is a file: lines, not a bar, and not one for every step."""

from __future__ import annotations

import pytest

from depth_anything_ros.offline.progress import Progress, say


def test_lines_say_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(2, "file", every_s=0) as files:
        files.advance()
        with Progress(None, "frame", "clip\n", every_s=0) as frames:
            frames.advance()
            frames.advance()
        files.advance()
    assert capsys.readouterr().err.splitlines() == [
        "file 1 of 2",
        "clip\\n: frame 1",
        "clip\\n: frame 2",
        "file 2 of 2",
    ]


def test_a_short_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, "file") as progress:
        for _ in range(100):
            progress.advance()
    assert capsys.readouterr().err == ""


def test_what_is_said_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb\x1b[2J", "x" * 5000)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "a\\nb\\x1b[2J"
    assert len(second) < 2100
