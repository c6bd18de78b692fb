"""Depth for pictures and videos: NPY in metres, 16-bit PNG in millimetres, colour pictures, PLY clouds.

Finished results are kept, so the same command continues a run that was stopped. docs/command_line.md says which
files are written.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_ros.cli._model_options import (
    add_level_arguments,
    add_model_arguments,
    check_levels,
    describe_model,
    max_depth,
    model_settings,
    scale_remark,
)
from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.files.presence import exists, is_file
from depth_anything_ros.settings import ImageLimits

if TYPE_CHECKING:
    from depth_anything_ros.estimator import DepthEstimator
    from depth_anything_ros.offline.given_camera import GivenCamera
    from depth_anything_ros.offline.predict_run import PredictRun
    from depth_anything_ros.offline.prediction_folder import Manifest

HELP = "depth for pictures and videos, as files"

MAX_PNG_DEPTH_M = 65.535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `PATH... --out DIR` and the options; their defaults are those of the settings."""
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", type=Path, help="picture, video, or folder of them (without its subfolders)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--formats",
        metavar="LIST",
        help="of npy, png, color, ply, confidence and camera; default: npy, color, and png and ply for metres",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="do finished files again; replace the results of another run"
    )
    limits = ImageLimits()
    parser.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        default=limits.max_pixels,
        help="refuse larger pictures and videos (width times height); default: %(default)s",
    )
    parser.add_argument(
        "--max-side",
        metavar="PIXELS",
        type=int,
        default=limits.max_side,
        help="refuse wider or higher ones; default: %(default)s",
    )
    add_model_arguments(parser)
    add_level_arguments(parser)
    _add_camera_arguments(parser)


def _add_camera_arguments(parser: argparse.ArgumentParser) -> None:
    camera = parser.add_argument_group("camera", "For clouds, and for metres of da3metric.")
    camera.add_argument(
        "--fov",
        metavar="DEGREES",
        type=float,
        help="field of view along the longer side; default: EXIF data, else 60 degrees in clouds",
    )
    for name in ("fx", "fy"):
        camera.add_argument(f"--{name}", metavar="PIXELS", type=float, help="focal length, for pictures of one size")
    for name in ("cx", "cy"):
        camera.add_argument(f"--{name}", metavar="PIXELS", type=float, help="principal point; default: the middle")
    camera.add_argument(
        "--distortion",
        metavar="D",
        type=float,
        nargs="+",
        default=[],
        help="coefficients of the lens, in OpenCV's order: k1 k2 p1 p2 k3 ...",
    )
    camera.add_argument(
        "--distortion-model",
        metavar="NAME",
        default="plumb_bob",
        help="plumb_bob, rational_polynomial or equidistant (fisheye); default: %(default)s",
    )
    camera.add_argument(
        "--undistort",
        action="store_true",
        help="rectify pictures before the network: all results are of a pinhole camera, which camera/NAME.json tells",
    )
    camera.add_argument(
        "--undistort-focal",
        metavar="PIXELS",
        type=float,
        help="focal length of the rectified pictures; default: the largest view without holes",
    )
    camera.add_argument(
        "--stride", metavar="N", type=int, default=1, help="clouds take every n-th row and column; default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Predict. Prints one line of JSON; returns 1 when a file could not be done, else 0."""
    from depth_anything_ros.estimator import DepthEstimator
    from depth_anything_ros.offline.given_camera import GivenCamera
    from depth_anything_ros.offline.predict_run import PredictRun, usable_formats
    from depth_anything_ros.offline.prediction_folder import PredictionFolder
    from depth_anything_ros.offline.progress import say
    from depth_anything_ros.runtime.threads import share_cores

    share_cores(opencv_threads=0)  # here the network waits while files are read and written
    asked = None if args.formats is None else [name.strip() for name in args.formats.split(",")]
    formats = usable_formats(asked, args.dataset)
    lens = args.distortion_model if args.distortion else ""
    camera = GivenCamera(args.fov, args.fx, args.fy, args.cx, args.cy, lens, tuple(args.distortion))
    if _is_undistorted(args, camera) and "camera" not in formats:
        formats = (*formats, "camera")
    limits, max_depth_m = _limits(args), max_depth(args)
    check_levels(args)
    files, missing = _inputs(args.paths)
    estimator = DepthEstimator.from_settings(model_settings(args))
    say(*_remarks(args, formats, max_depth_m))
    manifest = _manifest(args, estimator, max_depth_m, camera, formats)
    with PredictionFolder.open(args.out, manifest, overwrite=args.overwrite) as folder:
        names = folder.claim(files, overwrite=args.overwrite)
        levels = args.black_level, args.white_level
        one = PredictRun(
            estimator,
            folder,
            formats,
            max_depth=max_depth_m,
            camera=camera,
            stride=args.stride,
            limits=limits,
            levels=levels,
            undistort=args.undistort,
            undistort_focal_px=args.undistort_focal,
        )
        say(*(f"failed: {file}: {reason}" for file, reason in missing.items()))
        one.outcome.failed.update(missing)
        return _run(one, names, args.out)


def _run(one: PredictRun, files: dict[str, Path], out: Path) -> int:
    from depth_anything_ros.offline.progress import say

    try:
        outcome = one.run(files)
    except KeyboardInterrupt:
        say("stopped; the same command continues from here")
        raise
    if outcome.failed:
        say(f"{len(outcome.failed)} could not be done: {', '.join(outcome.failed)}")
    print(json.dumps({"out": str(out), "max_depth_m": one.max_depth, **asdict(outcome)}))
    return 1 if outcome.failed else 0


def _is_undistorted(args: argparse.Namespace, camera: GivenCamera) -> bool:
    """Whether pictures are rectified. Raises SettingsError: options that do not go together."""
    if args.undistort and not camera.distortion:
        raise SettingsError("--undistort needs the lens: give --distortion")
    if args.undistort_focal is not None and not args.undistort:
        raise SettingsError("--undistort-focal needs --undistort")
    if args.undistort_focal is not None and not 0 < args.undistort_focal < math.inf:
        raise SettingsError(f"--undistort-focal must be a positive number of pixels, got {args.undistort_focal}")
    return bool(args.undistort)


def _inputs(paths: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """Return the files to do, and the reason for each that is named and cannot be.

    Raises:
        InputError: there is nothing to do.
    """
    from depth_anything_ros.io.media_paths import find_media

    found = find_media(paths)
    files = [file for file in found if is_file(file)]
    missing = {str(file): _what_is_wrong(file) for file in found if not is_file(file)}
    if not files:
        reasons = (f"{file}: {reason}" for file, reason in missing.items())
        raise InputError("; ".join(reasons) or f"no pictures or videos in {', '.join(map(str, paths))}")
    return files, missing


def _what_is_wrong(file: Path) -> str:
    return "not a regular file" if exists(file) else "no such file"


def _limits(args: argparse.Namespace) -> ImageLimits:
    from depth_anything_ros.io.pictures import FILE_LIMITS

    for name in ("max_pixels", "max_side", "stride"):
        if getattr(args, name) < 1:
            raise SettingsError(f"--{name.replace('_', '-')} must be 1 or more, got {getattr(args, name)}")
    return replace(FILE_LIMITS, max_pixels=args.max_pixels, max_side=args.max_side)


def _manifest(
    args: argparse.Namespace,
    estimator: DepthEstimator,
    max_depth_m: float | None,
    camera: GivenCamera,
    formats: tuple[str, ...],
) -> Manifest:
    from depth_anything_ros.offline.prediction_folder import Manifest

    model = describe_model(args, estimator, max_depth_m)
    if estimator.needs_focal or args.undistort:
        model["camera"] = camera.describe()
    if args.undistort:
        model["undistort"] = args.undistort_focal or "largest view"
    cloud = {"stride": args.stride, **camera.describe()} if "ply" in formats else None
    return Manifest(model, checkpoint=estimator.source, cloud=cloud)


def _remarks(args: argparse.Namespace, formats: tuple[str, ...], max_depth_m: float | None) -> Iterator[str]:
    """Say what the results are where they may surprise."""
    from depth_anything_ros.model.registry import dataset_spec, network_spec
    from depth_anything_ros.offline.given_camera import ASSUMED_FOV_DEG

    spec, estimates = dataset_spec(args.dataset), "field_of_view" in network_spec(args.dataset).outputs
    given = args.fov is not None or args.fx is not None
    yield scale_remark(args, max_depth_m, "as given" if given else "that of each picture's EXIF data")
    if "color" in formats:
        far = "the farthest of each picture" if max_depth_m is None else f"{max_depth_m:g} m"
        yield f"color: red is near, blue is {far}"
    if "png" in formats and (max_depth_m is None or max_depth_m > MAX_PNG_DEPTH_M):
        yield f"png: 16 bits of millimetres end at {MAX_PNG_DEPTH_M} m; larger depth becomes 0, which means no value"
    if "ply" in formats and not given and not spec.needs_focal:
        sources = "EXIF data, or else from the model's estimate" if estimates else "EXIF data"
        yield (
            f"ply: the focal length is taken from {sources}; where there is none, {ASSUMED_FOV_DEG:g} degrees along "
            "the longer side are assumed, which the file says. Give --fov, or --fx --fy --cx --cy"
        )
    if "ply" in formats and spec.kind != "metric":
        yield "ply: the points have no unit: they are known up to a factor in each picture"
