"""Score depth maps against the truth, with the measures that papers publish.

Files are .npy or .npz (metres), or 16-bit .png (levels, see --pred-scale; 0 means no value). Files in folders are
paired by stem. Exit status 0 only if every truth file got a score.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_ros.cli._depth_pairs import Report, add_scale_arguments, pairs, say_what_is_missing
from depth_anything_ros.errors import InputError, SettingsError, os_reason

if TYPE_CHECKING:
    from depth_anything_ros.metrics import DepthMetrics

HELP = "score depth maps against the truth"

STANDARD_STREAM = "-"


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
    add_scale_arguments(parser)
    parser.add_argument("--per-image", action="store_true", help="a line for every image, above the mean")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the scores to FILE; -: to standard output, and the table to standard error",
    )


def run(args: argparse.Namespace) -> int:
    """Score everything. Returns 1 when a truth file got no score, or there was none, else 0."""
    from depth_anything_ros.metrics import mean_metrics

    report = evaluate(args)
    say_what_is_missing(report)
    if not report.images:
        raise InputError(f"no pair of files in {args.predicted} and {args.truth} could be scored")
    mean = mean_metrics(list(report.images.values()))
    if mean.coverage < 1:
        print(f"predictions are missing: the scores cover {mean.coverage:.2%} of the truth", file=sys.stderr)
    table = sys.stderr if args.json == STANDARD_STREAM else sys.stdout
    print(*_table(report.images if args.per_image else {}, mean), sep="\n", file=table)
    if args.json is not None:
        _write_json(args, report, mean)
    return 1 if report.skipped else 0


def evaluate(args: argparse.Namespace) -> Report:
    """Score every pair of files; what cannot be scored is in the report with its reason."""
    from depth_anything_ros.io.depth_files import read_depth
    from depth_anything_ros.metrics import evaluate_depth

    report = Report()
    for name, predicted, truth in pairs(args.predicted, args.truth, report, needs_metres=not args.median_scaling):
        try:
            report.images[name] = evaluate_depth(
                read_depth(predicted, args.pred_scale),
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


# ---- output


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
    settings = ("crop", "median_scaling", "min_depth", "max_depth", "pred_scale", "gt_scale")
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
        raise InputError(f"{args.json} cannot be written: {os_reason(error)}") from error
