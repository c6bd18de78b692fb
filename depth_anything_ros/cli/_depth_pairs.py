"""Predicted depth beside true depth, file by file: for subcommands that compare the two."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_ros.errors import InputError, plain_line
from depth_anything_ros.files.presence import exists

if TYPE_CHECKING:
    from depth_anything_ros.metrics import DepthMetrics


def add_scale_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the levels of 16-bit PNGs become metres."""
    scales = parser.add_argument_group(
        "whole numbers",
        "16-bit PNGs hold levels: depth in metres = level / N. Files of .npy and .npz hold metres; whole numbers in "
        "them are refused unless N is given.",
    )
    scales.add_argument(
        "--pred-scale",
        "--scale",  # its older name
        metavar="N",
        type=float,
        help="levels per metre in PRED; default: 1000, which is millimetres, in a PNG",
    )
    scales.add_argument(
        "--gt-scale",
        metavar="N",
        type=float,
        help="the same in GT; KITTI: 256",
    )


@dataclass
class Report:
    """What became of every truth file, and the predictions that have none."""

    images: dict[str, DepthMetrics] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    without_truth: list[str] = field(default_factory=list)


def pairs(
    predicted: Path, truth: Path, report: Report, *, needs_metres: bool = True
) -> Iterator[tuple[str, Path, Path]]:
    """Yield (name, prediction, truth); put what has no partner into the report.

    Args:
        needs_metres: refuse predictions that are known up to a factor only.

    Raises:
        InputError: paths that do not exist or do not match, or predictions that cannot be compared.
    """
    for path in (predicted, truth):
        if not exists(path):
            raise InputError(f"{path} does not exist")
    if predicted.is_dir() != truth.is_dir():
        raise InputError(f"{predicted} and {truth} must be two files or two folders")
    refuse_without_metres(predicted, needs_metres=needs_metres)
    if not predicted.is_dir():
        yield truth.stem, predicted, truth
        return
    predictions, truths = _by_stem(depth_folder(predicted)), _by_stem(truth)
    report.without_truth += sorted(predictions.keys() - truths.keys())
    for stem, files in truths.items():
        partners = predictions.get(stem, [])
        if len(files) == len(partners) == 1:
            yield stem, partners[0], files[0]
        elif not partners:
            report.skipped[stem] = f"no prediction for {files[0]}"
        else:
            report.skipped[stem] = (
                f"it needs one prediction and one truth, found {_names(partners)} and {_names(files)}"
            )


def _by_stem(folder: Path) -> Mapping[str, list[Path]]:
    from depth_anything_ros.io.depth_files import DEPTH_SUFFIXES
    from depth_anything_ros.io.media_paths import files_in

    found: dict[str, list[Path]] = {}
    for path in files_in(folder, DEPTH_SUFFIXES):
        found.setdefault(path.stem, []).append(path)
    return found


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def depth_folder(folder: Path) -> Path:
    """Return where depth files are: below a folder of `predict` or of one of its videos, else in the folder itself."""
    from depth_anything_ros.offline.prediction_folder import MANIFEST

    if not any((place / MANIFEST).is_file() for place in (folder, folder.parent)):
        return folder
    return next((folder / kind for kind in ("npy", "png") if (folder / kind).is_dir()), folder)


def refuse_without_metres(path: Path, *, needs_metres: bool = True) -> None:
    """Raise InputError for depth without metres of `predict`; depth up to a factor passes unless metres are needed."""
    from depth_anything_ros.errors import OtherRun
    from depth_anything_ros.offline.prediction_folder import read_manifest

    for folder in [path, *path.absolute().parents][:4]:  # OUT/NAME/npy/000000.npy lies the deepest
        try:
            manifest = read_manifest(folder)
        except OtherRun:  # another program's file says nothing about these
            continue
        kind = None if manifest is None else manifest.model.get("kind")
        if kind == "relative":
            raise InputError(f"{path} holds relative depth, which has no metres and cannot be compared with depth")
        if kind == "scale_invariant" and needs_metres:
            raise InputError(
                f"{path} holds scale_invariant depth, which has no metres; `evaluate --median-scaling` scores it"
            )


def say_what_is_missing(report: Report) -> None:
    """Name what got no partner or could not be read, on standard error."""
    for name, reason in report.skipped.items():
        print(plain_line(f"skipped: {name}: {reason}"), file=sys.stderr)
    if report.without_truth:
        names = ", ".join(report.without_truth[:3]) + (", ..." if len(report.without_truth) > 3 else "")
        print(plain_line(f"{len(report.without_truth)} predictions have no truth: {names}"), file=sys.stderr)
