"""The demo's folder of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from demo.photographs import Photograph
from depth_anything_ros.errors import CannotWrite, os_reason
from depth_anything_ros.io.formats import encode_png

SUMMARY, SHEET = "summary.json", "sheet.png"
FOLDERS = "folders"  # in the summary: where this run's results are
PICTURES = ("input", "truth", "color", "error", "cloud", "depth", "bridge_depth")
FILES = (*(f"{name}.png" for name in PICTURES), "cloud.ply")


def prepare(out: Path, photographs: list[Photograph]) -> None:
    """Make the folder, without an earlier run's results, and put the photographs there. Raises CannotWrite."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_earlier(out)
        for photograph in photographs:
            (out / photograph.name).mkdir(exist_ok=True)
            (out / photograph.name / "input.png").write_bytes(encode_png(photograph.image))
    except OSError as error:
        raise CannotWrite(f"{error.filename or out} cannot be written: {os_reason(error)}") from error


def remove_earlier(out: Path) -> None:
    """Remove the files that the summary of an earlier run names; other files stay. Raises OSError."""
    for name in earlier_folders(out):
        for file in FILES:
            (out / name / file).unlink(missing_ok=True)
        if not any((out / name).iterdir()):
            (out / name).rmdir()
    for file in (SUMMARY, SHEET):
        (out / file).unlink(missing_ok=True)


def earlier_folders(out: Path) -> list[str]:
    """Return the names of an earlier run's folders, as far as they are there."""
    try:
        summary: Any = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
        names = [str(name) for name in summary[FOLDERS]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if Path(name).name == name and (out / name).is_dir()]
