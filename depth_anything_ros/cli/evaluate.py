"""Score depth maps against the truth, in the measures the field publishes.

Files are .npy or .npz (metres) or 16-bit .png (levels of 1/scale metres, 0 without a value). Folders
are paired by file stem. Exit status 0 only if every truth file got a score.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_ros.errors import InputError

if TYPE_CHECKING:
    from depth_anything_ros.metrics import DepthMetrics

HELP = "score depth maps against the truth"

DEFAULT_SCALE = 1000.0  # millimetres
STANDARD_STREAM = "-"


@dataclass
class Report:
    """What became of every truth file, and the predictions that have none."""

    images: dict[str, DepthMetrics] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    without_truth: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `PRED GT` and the options."""
    parser.add_argument("predicted", metavar="PRED", type=Path, help="file, folder, or folder written by `predict`")
    parser.add_argument("truth", metavar="GT", type=Path, help="file or folder")
    parser.add_argument(
        "--crop", metavar="NAME", default="none", help="none (default), eigen_nyu, eigen_kitti or garg_kitti"
    )
    parser.add_argument("--median-scaling", action="store_true", help="scale every prediction to its truth's median")
    parser.add_argument("--min-depth", metavar="METRES", type=float, default=1e-3, help="default: %(default)s")
    parser.add_argument(
        "--max-depth", metavar="METRES", type=float, default=80.0, help="0: no limit; default: %(default)s"
    )
    parser.add_argument(
        "--scale", metavar="N", type=float, default=DEFAULT_SCALE, help="levels per metre in PRED's .png (%(default)g)"
    )
    parser.add_argument(
        "--gt-scale", metavar="N", type=float, default=DEFAULT_SCALE, help="the same in GT's (%(default)g); KITTI: 256"
    )
    parser.add_argument("--per-image", action="store_true", help="a line for every image, above the mean")
    parser.add_argument(
        "--json", metavar="FILE", help="write scores there; -: to standard output, the table to standard error"
    )


def run(args: argparse.Namespace) -> int:
    """Score everything. Returns 1 when a truth file got no score, or there was none, else 0."""
    from depth_anything_ros.metrics import mean_metrics

    report = evaluate(args)
    say_what_is_missing(report)
    if not report.images:
        raise InputError("nothing could be evaluated")
    mean = mean_metrics(list(report.images.values()))
    if mean.coverage < 1:
        print(f"predictions are missing: scores are of {mean.coverage:.2%} of the truth", file=sys.stderr)
    table = sys.stderr if args.json == STANDARD_STREAM else sys.stdout
    print(*_table(report.images if args.per_image else {}, mean), sep="\n", file=table)
    if args.json is not None:
        _write_json(args, report, mean)
    return 1 if report.skipped else 0


def evaluate(args: argparse.Namespace) -> Report:
    """Score every pair of files; what cannot be scored is in the report with its reason."""
    from depth_anything_ros.errors import SettingsError
    from depth_anything_ros.media import read_depth
    from depth_anything_ros.metrics import evaluate_depth

    report = Report()
    for name, predicted, truth in pairs(args.predicted, args.truth, report):
        try:
            report.images[name] = evaluate_depth(
                read_depth(predicted, args.scale),
                read_depth(truth, args.gt_scale),
                min_depth_m=args.min_depth,
                max_depth_m=args.max_depth or None,
                crop=args.crop,
                median_scaling=args.median_scaling,
            )
        except SettingsError:
            raise
        except InputError as error:
            report.skipped[name] = str(error)
    return report


def pairs(predicted: Path, truth: Path, report: Report) -> Iterator[tuple[str, Path, Path]]:
    """Yield (name, prediction, truth); put what has no partner into the report."""
    for path in (predicted, truth):
        if not path.exists():
            raise InputError(f"{path} does not exist")
    if predicted.is_dir() != truth.is_dir():
        raise InputError(f"{predicted} and {truth} must be two files or two folders")
    refuse_relative(predicted)
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
            report.skipped[stem] = f"not one prediction and one truth, but {_names(partners)} and {_names(files)}"


def _by_stem(folder: Path) -> Mapping[str, list[Path]]:
    from depth_anything_ros.media import DEPTH_SUFFIXES, files_in

    found: dict[str, list[Path]] = {}
    for path in files_in(folder, DEPTH_SUFFIXES):
        found.setdefault(path.stem, []).append(path)
    return found


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def depth_folder(folder: Path) -> Path:
    """Find the depth in a folder that `predict` wrote, or one of its videos'; other folders are it themselves."""
    from depth_anything_ros.predictions import MANIFEST

    if not any((place / MANIFEST).is_file() for place in (folder, folder.parent)):
        return folder
    return next((folder / kind for kind in ("npy", "png") if (folder / kind).is_dir()), folder)


def refuse_relative(path: Path) -> None:
    """Refuse what `predict` made with a relative model: larger is nearer there, without a unit."""
    from depth_anything_ros.predictions import OtherRun, read_manifest

    for folder in [path, *path.absolute().parents][:4]:  # OUT/NAME/npy/000000.npy lies the deepest
        try:
            manifest = read_manifest(folder)
        except OtherRun:  # another program's file says nothing about these
            continue
        if manifest is not None and manifest.model.get("kind") == "relative":
            raise InputError(f"{path} holds relative depth, which has no metres to be compared")


# ---- output


def say_what_is_missing(report: Report) -> None:
    """Name what got no partner or could not be read, on standard error."""
    for name, reason in report.skipped.items():
        print(f"skipped: {name}: {reason}", file=sys.stderr)
    if report.without_truth:
        names = ", ".join(report.without_truth[:3]) + (", ..." if len(report.without_truth) > 3 else "")
        print(f"{len(report.without_truth)} predictions have no truth: {names}", file=sys.stderr)


# Column -> format of its numbers.
_COLUMNS = {
    "abs_rel": ".4f",
    "sq_rel": ".4f",
    "rmse": ".4f",
    "rmse_log": ".4f",
    "log10": ".4f",
    "silog": ".3f",
    "delta1": ".4f",
    "delta2": ".4f",
    "delta3": ".4f",
    "scale": ".4f",
    "coverage": ".4f",
    "pixels": "d",
}


def _table(images: Mapping[str, DepthMetrics], mean: DepthMetrics) -> Iterator[str]:
    rows = {**images, "mean": mean}
    width = max(len(name) for name in rows)
    yield f"{'':{width}}" + "".join(f"{column:>10}" for column in _COLUMNS)
    for name, scores in rows.items():
        cells = (f"{getattr(scores, column):{number}}" for column, number in _COLUMNS.items())
        yield f"{name:{width}}" + "".join(f"{cell:>10}" for cell in cells)


def _write_json(args: argparse.Namespace, report: Report, mean: DepthMetrics) -> None:
    settings = ("crop", "median_scaling", "min_depth", "max_depth", "scale", "gt_scale")
    content: dict[str, Any] = {
        "settings": {name: getattr(args, name) for name in settings},
        "mean": asdict(mean),
        "images": {name: asdict(scores) for name, scores in report.images.items()},
        "skipped": report.skipped,
        "predictions_without_truth": report.without_truth,
    }
    text = json.dumps(content, indent=1)
    if args.json == STANDARD_STREAM:
        print(text)
        return
    try:
        Path(args.json).write_text(text + "\n")
    except OSError as error:
        raise InputError(f"{args.json} cannot be written: {error.strerror}") from error
