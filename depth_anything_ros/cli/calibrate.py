"""Fit a camera's scale and shift: predicted depth against reference depth, or against the ground.

Predictions and references are files or folders, as for `evaluate`. Prints one line of JSON. docs/scale.md says what
is fitted and when a fit is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_ros.cli._depth_pairs import Report, add_scale_arguments, depth_folder, pairs, say_what_is_missing
from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.files.presence import exists
from depth_anything_ros.settings import check_camera_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from depth_anything_ros.scale.fit import ScaleFit

HELP = "fit a camera's scale and shift"

MAX_SAMPLES = 50_000
SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `PRED [GT] [--out FILE --camera NAME]` and the options."""
    parser.add_argument("predicted", metavar="PRED", type=Path, help="file, folder, or folder written by `predict`")
    parser.add_argument("truth", metavar="GT", type=Path, nargs="?", help="reference: file or folder")
    parser.add_argument("--out", metavar="FILE", type=Path, help="YAML file of calibrations to add the result to")
    parser.add_argument("--camera", metavar="NAME", help="the camera's name in it, as the node has it")
    parser.add_argument("--model", metavar="KEY", help="model key; default: what `predict` wrote down")
    parser.add_argument("--no-shift", action="store_true", help="fit the scale alone")
    parser.add_argument("--min-depth", metavar="METRES", type=float, default=0.1, help="of GT; default: %(default)s")
    parser.add_argument("--max-depth", metavar="METRES", type=float, default=80.0, help="of GT; default: %(default)s")
    add_scale_arguments(parser)
    ground = parser.add_argument_group("ground plane, instead of GT")
    ground.add_argument("--ground-plane", metavar="HEIGHT_M", type=float, help="the camera's height above the ground")
    for name in ("fx", "fy", "cx", "cy"):
        ground.add_argument(f"--{name}", metavar="PIXELS", type=float, help="intrinsics of pictures without distortion")
    ground.add_argument(
        "--pitch", metavar="DEGREES", type=float, default=0.0, help="how far the camera looks down; default: 0"
    )
    ground.add_argument(
        "--roll", metavar="DEGREES", type=float, default=0.0, help="how far it is turned clockwise; default: 0"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, print, and write where asked. Returns 1 when a file had to be left out, else 0.

    Raises:
        FitRefused: the fit is bad; nothing is written. SettingsError: options that do not go together.
    """
    from depth_anything_ros.scale.calibrations import Calibration, save_calibration
    from depth_anything_ros.scale.lasting_factor import LASTING_FACTOR

    _check(args)
    said = _model_of(args.predicted)
    if args.model and said and args.model != said:
        raise SettingsError(f"{args.predicted} was made by model {said}, not by {args.model}: leave --model out")
    model = args.model or said
    if args.out is not None and not model:
        raise SettingsError(f"{args.predicted} does not say which model made it: give --model")
    report = Report()
    is_unitless = _is_unitless(model)
    fit = _fit_pairs(args, report, is_unitless) if args.truth is not None else _fit_ground(args, report, is_unitless)
    say_what_is_missing(report)
    if is_unitless:
        print(LASTING_FACTOR, file=sys.stderr)
    if args.out is not None:
        save_calibration(args.out, args.camera, Calibration.of(fit, model, date.today().isoformat()))
    out = {} if args.out is None else {"out": str(args.out), "camera": args.camera}
    print(json.dumps({**asdict(fit), "model": model, **out}))
    return 1 if report.skipped else 0


def _check(args: argparse.Namespace) -> None:
    if (args.truth is None) == (args.ground_plane is None):
        raise SettingsError("give either a reference GT or --ground-plane HEIGHT_M")
    if args.ground_plane is not None and args.fx is None:
        raise SettingsError("--ground-plane needs the camera: give --fx, and --fy --cx --cy if you know them")
    if (args.out is None) != (args.camera is None):
        raise SettingsError("--out FILE and --camera NAME belong together: give both or neither")
    if args.camera is not None:
        check_camera_name(args.camera)
    if not 0 < args.min_depth < args.max_depth:
        raise SettingsError(f"the depth range must be 0 < minimum < maximum, got {args.min_depth} to {args.max_depth}")


def _model_of(predicted: Path) -> str:
    """Return the model key that `predict` wrote down; empty for what others made."""
    from depth_anything_ros.errors import OtherRun
    from depth_anything_ros.offline.prediction_folder import read_manifest

    for folder in [predicted, *predicted.absolute().parents][:4]:
        try:
            manifest = read_manifest(folder)
        except OtherRun:
            continue
        if manifest is not None:
            return str(manifest.model.get("key", ""))
    return ""


def _is_unitless(model: str) -> bool:
    """Whether a model, by its key, gives depth up to a factor: then only the factor is fitted, of any size."""
    from depth_anything_ros.model.registry import DATASETS

    spec = DATASETS.get("_".join(model.split("_")[1:-1]))
    return spec is not None and spec.kind == "scale_invariant"


def _fit_pairs(args: argparse.Namespace, report: Report, is_unitless: bool) -> ScaleFit:
    """Fit to samples of all pairs of files."""
    import numpy as np

    from depth_anything_ros.scale.fit import fit_scale
    from depth_anything_ros.scale.lasting_factor import fit_lasting
    from depth_anything_ros.settings import FitSettings

    rng = np.random.default_rng(SEED)
    files = list(pairs(args.predicted, args.truth, report, needs_metres=not is_unitless))
    samples = []
    for name, predicted, truth in files:
        try:
            samples.append(_sampled(args, predicted, truth, math.ceil(MAX_SAMPLES / len(files)), rng))
        except SettingsError:
            raise
        except InputError as error:
            report.skipped[name] = str(error)
    if not samples:
        say_what_is_missing(report)
        raise InputError(f"no pair of files in {args.predicted} and {args.truth} can be used for a fit")
    if is_unitless:
        return fit_lasting([(picture[0], picture[1]) for picture in samples])
    p, t = np.concatenate(samples, axis=1)
    return fit_scale(p, t, FitSettings(fit_shift=not args.no_shift))


def _sampled(
    args: argparse.Namespace, predicted: Path, truth: Path, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Predicted and measured depth, (2, N), at up to `count` pixels that have both and are at no edge of either."""
    import numpy as np

    from depth_anything_ros.io.depth_files import read_depth
    from depth_anything_ros.scale.range_samples import sample_depth

    p, t = read_depth(predicted, args.pred_scale), read_depth(truth, args.gt_scale)
    if p.shape != t.shape:
        raise InputError(f"prediction and truth must be of one size, got {p.shape} and {t.shape}")
    with np.errstate(invalid="ignore"):
        row, column = np.nonzero((p > 0) & np.isfinite(p) & (t >= args.min_depth) & (t <= args.max_depth))
    chosen = rng.permutation(row.size)[:count]
    u, v = column[chosen].astype(np.float64), row[chosen].astype(np.float64)
    return np.stack([sample_depth(p, u, v), sample_depth(t, u, v)])


def _fit_ground(args: argparse.Namespace, report: Report, is_unitless: bool) -> ScaleFit:
    """Fit to the ground in every picture; return the one in the middle."""
    from depth_anything_ros.errors import FitRefused
    from depth_anything_ros.io.depth_files import read_depth
    from depth_anything_ros.offline.given_camera import GivenCamera
    from depth_anything_ros.scale.ground_plane import fit_ground_plane, ground_settings
    from depth_anything_ros.scale.lasting_factor import middle, middle_of_lasting

    camera = GivenCamera(fx=args.fx, fy=args.fy, cx=args.cx, cy=args.cy)
    pitch, roll = math.radians(args.pitch), math.radians(args.roll)
    settings = ground_settings("scale_invariant" if is_unitless else "metric")
    fits = []
    for path in _predictions(args.predicted, needs_metres=not is_unitless):
        try:
            depth = read_depth(path, args.pred_scale)
            height, width = depth.shape
            model = camera.of_picture(width, height).model
            fits.append(fit_ground_plane(depth, model, args.ground_plane, settings, pitch_rad=pitch, roll_rad=roll))
        except SettingsError:
            raise
        except InputError as error:
            report.skipped[path.stem] = str(error)
    if len(fits) <= len(report.skipped):
        say_what_is_missing(report)
        raise FitRefused(
            f"the ground was found in {len(fits)} pictures and not in {len(report.skipped)}; need more than half"
        )
    return middle_of_lasting(fits) if is_unitless else middle(fits)


def _predictions(predicted: Path, *, needs_metres: bool) -> Iterator[Path]:
    from depth_anything_ros.cli._depth_pairs import refuse_without_metres
    from depth_anything_ros.io.depth_files import DEPTH_SUFFIXES
    from depth_anything_ros.io.media_paths import files_in

    if not exists(predicted):
        raise InputError(f"{predicted} does not exist")
    refuse_without_metres(predicted, needs_metres=needs_metres)
    yield from files_in(depth_folder(predicted), DEPTH_SUFFIXES) if predicted.is_dir() else [predicted]
