"""Depth for pictures and videos: NPY in metres, 16-bit PNG in millimetres, colour pictures, PLY clouds.

What is done already is skipped, so the same command goes on where it was stopped. docs/command_line.md
says what lies where.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_ros.errors import InputError, SettingsError

if TYPE_CHECKING:
    from depth_anything_ros.estimator import DepthEstimator
    from depth_anything_ros.offline.predict_run import Batch, CloudSettings
    from depth_anything_ros.offline.prediction_folder import Manifest
from depth_anything_ros.cli._model_options import add_model_arguments, describe_model, max_depth, model_settings

HELP = "depth for pictures and videos, as files"

DEFAULT_FORMATS = "npy,png,color,ply"
MAX_PNG_DEPTH_M = 65.535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `PATH... --out DIR` and the options; their defaults are those of the settings."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="picture, video, or folder of such (not the folders in it)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--formats", metavar="LIST", default=DEFAULT_FORMATS, help="of npy, png, color and ply; default: all"
    )
    parser.add_argument("--overwrite", action="store_true", help="do again what is done; replace another run's results")
    add_model_arguments(parser)
    _add_cloud_arguments(parser)


def _add_cloud_arguments(parser: argparse.ArgumentParser) -> None:
    cloud = parser.add_argument_group("clouds")
    cloud.add_argument("--fov", metavar="DEGREES", type=float, help="field of view along the longer side")
    for name in ("fx", "fy"):
        cloud.add_argument(f"--{name}", metavar="PIXELS", type=float, help="focal length, for pictures of one size")
    for name in ("cx", "cy"):
        cloud.add_argument(f"--{name}", metavar="PIXELS", type=float, help="principal point; default: the middle")
    cloud.add_argument("--stride", metavar="N", type=int, help="take every n-th row and column")


def run(args: argparse.Namespace) -> int:
    """Predict. Prints one line of JSON; returns 1 when a file could not be done, else 0."""
    from depth_anything_ros.estimator import DepthEstimator
    from depth_anything_ros.io.media import find_media
    from depth_anything_ros.model.registry import dataset_spec
    from depth_anything_ros.offline.predict_run import Batch, usable_formats
    from depth_anything_ros.offline.prediction_folder import PredictionFolder
    from depth_anything_ros.runtime.threads import share_cores

    share_cores(opencv_threads=0)  # here the network waits while files are read and written
    spec = dataset_spec(args.dataset)
    formats = usable_formats([name.strip() for name in args.formats.split(",")], spec.kind)
    cloud = _cloud_settings(args)
    max_depth_m = max_depth(args)
    files = find_media(args.paths)
    if not files:
        raise InputError(f"no pictures or videos in {', '.join(map(str, args.paths))}")
    estimator = DepthEstimator.from_settings(model_settings(args))
    _say(*_remarks(args, spec.kind, formats, max_depth_m, cloud))
    manifest = _manifest(args, estimator, max_depth_m, cloud if "ply" in formats else None)
    with PredictionFolder.open(args.out, manifest, overwrite=args.overwrite) as folder:
        names = folder.claim([file for file in files if file.is_file()], overwrite=args.overwrite)
        missing = {str(file): "no such file" for file in files if not file.is_file()}
        _say(*(f"failed: {file}: {reason}" for file, reason in missing.items()))
        batch = Batch(estimator, folder, formats, max_depth=max_depth_m, cloud=cloud)
        batch.outcome.failed.update(missing)
        return _run(batch, names, args.out)


def _run(batch: Batch, files: dict[str, Path], out: Path) -> int:
    try:
        outcome = batch.run(files)
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        raise
    if outcome.failed:
        _say(f"{len(outcome.failed)} could not be done: {', '.join(outcome.failed)}")
    print(json.dumps({"out": str(out), **asdict(outcome)}))
    return 1 if outcome.failed else 0


def _cloud_settings(args: argparse.Namespace) -> CloudSettings:
    from depth_anything_ros.offline.predict_run import CloudSettings

    if args.fov is not None and args.fx is not None:
        raise SettingsError("--fov and --fx say the same thing: give one of them")
    options = {"fov_deg": args.fov, **{name: getattr(args, name) for name in ("fx", "fy", "cx", "cy", "stride")}}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return CloudSettings(**given)


def _manifest(
    args: argparse.Namespace, estimator: DepthEstimator, max_depth_m: float, cloud: CloudSettings | None
) -> Manifest:
    from depth_anything_ros.offline.prediction_folder import Manifest

    model = describe_model(args, estimator, max_depth_m)
    return Manifest(model, checkpoint=estimator.source, cloud=None if cloud is None else cloud.describe())


def _remarks(
    args: argparse.Namespace, kind: str, formats: tuple[str, ...], max_depth_m: float, cloud: CloudSettings
) -> Iterator[str]:
    """Say what the results are where that is not what one would think."""
    if kind == "relative":
        yield "relative depth has no metres: npy and color only, colours over each picture's own range"
    elif "color" in formats:
        yield f"color: red is near, blue is {max_depth_m:g} m"
    if "png" in formats and max_depth_m > MAX_PNG_DEPTH_M:
        yield f"png: 16 bits of millimetres end at {MAX_PNG_DEPTH_M} m; what is further is 0, without a value"
    if "ply" in formats and args.fov is None and args.fx is None:
        yield (
            f"ply: a field of view of {cloud.fov_deg:g} degrees along the longer side is a guess; "
            "say --fov, or --fx --fy --cx --cy"
        )


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)
