"""Options that say which model to run. Subcommands that estimate depth share them."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.settings import RESIZE_RULES, CameraSettings, ModelSettings

if TYPE_CHECKING:
    from depth_anything_ros.estimator import DepthEstimator


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which model, and its maximum depth."""
    defaults = ModelSettings()
    model = parser.add_argument_group("model")
    model.add_argument("--encoder", metavar="NAME", default=defaults.encoder, help="default: %(default)s")
    model.add_argument("--dataset", metavar="NAME", default=defaults.dataset, help="default: %(default)s")
    model.add_argument(
        "--checkpoint",
        metavar="FILE",
        default=defaults.checkpoint,
        help="file of weights (.pth, .safetensors, or .onnx of `export`); 'untrained': random weights, for trials",
    )
    model.add_argument(
        "--input-size",
        metavar="PIXELS",
        type=int,
        default=defaults.input_size,
        help="side given to the network, the short one, or the long one for da3...; default: the network's own",
    )
    model.add_argument("--resize", choices=RESIZE_RULES, help="lower_bound: the short side; default: the network's own")
    model.add_argument("--device", metavar="NAME", default=defaults.device, help="auto, cpu, cuda or cuda:N")
    model.add_argument("--precision", metavar="NAME", default=defaults.precision, help="auto, fp32, bf16 or fp16")
    model.add_argument("--backend", metavar="NAME", default=defaults.backend, help="default: %(default)s")
    model.add_argument("--compile", action="store_true", help="use torch.compile, which takes minutes at the start")
    model.add_argument(
        "--max-depth", metavar="METRES", type=float, help="depth at the network's full output; default: the dataset's"
    )
    model.add_argument("--no-download", action="store_true", help="never fetch weights")


def add_level_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the counts that are black and white in 16-bit pictures."""
    defaults = CameraSettings()
    levels = parser.add_argument_group("16-bit pictures", "Levels are found in the picture where they are not given.")
    for name in ("black", "white"):
        levels.add_argument(
            f"--{name}-level",
            metavar="COUNT",
            type=int,
            default=getattr(defaults, f"{name}_level"),
            help=f"count that is {name}; 0 (default): found",
        )


def check_levels(args: argparse.Namespace) -> None:
    """Raise SettingsError for levels that cannot be, before anything is loaded."""
    from depth_anything_ros.messages.levels import LevelFinder

    LevelFinder(args.black_level, args.white_level)


def model_settings(args: argparse.Namespace) -> ModelSettings:
    """Read the options of `add_model_arguments`."""
    return ModelSettings(
        encoder=args.encoder,
        dataset=args.dataset,
        checkpoint=args.checkpoint,
        input_size=args.input_size,
        device=args.device,
        precision=args.precision,
        backend=args.backend,
        compile=args.compile,
        resize=args.resize,
        download=not args.no_download,
    )


def max_depth(args: argparse.Namespace) -> float | None:
    """Return the maximum depth in metres, the option's or the dataset's; None if depth does not depend on one.

    Raises:
        SettingsError: not a positive number, or given for a dataset that has none.
    """
    from depth_anything_ros.model.registry import dataset_spec

    spec = dataset_spec(args.dataset)
    if spec.kind != "metric" or spec.needs_focal:
        if args.max_depth is not None:
            raise SettingsError(f"--max-depth does not apply to {args.dataset}: leave it out")
        return None
    max_depth_m: float = spec.max_depth_m if args.max_depth is None else args.max_depth
    if not 0 < max_depth_m < math.inf:
        raise SettingsError(f"--max-depth must be a positive number of metres, got {max_depth_m:g}")
    return max_depth_m


def scale_remark(args: argparse.Namespace, max_depth_m: float | None, focal_source: str) -> str:
    """Say what the numbers are and where their scale comes from.

    Args:
        focal_source: where the focal length comes from, for models that need it.
    """
    from depth_anything_ros.model.registry import dataset_spec

    spec = dataset_spec(args.dataset)
    if spec.kind == "relative":
        return "relative depth has no metres, and larger is nearer"
    if spec.kind == "scale_invariant":
        return "scale_invariant depth has no metres: it is known up to a factor in each picture; larger is farther"
    if spec.needs_focal:
        return f"metres follow from the focal length: {focal_source}"
    source = f"that of {args.dataset}; --max-depth sets another" if args.max_depth is None else "as given"
    return f"max_depth: {max_depth_m:g} m at the network's full output ({source})"


def describe_model(args: argparse.Namespace, estimator: DepthEstimator, max_depth_m: float | None) -> dict[str, Any]:
    """Describe the model as run, and its input. Results in one folder or bag have all of this in common."""
    given = {name: getattr(args, name) for name in ("black_level", "white_level", "resize") if getattr(args, name)}
    return {
        "key": estimator.key,
        "kind": estimator.kind,
        "sha256": estimator.sha256 or estimator.source,
        "max_depth_m": max_depth_m,
        "precision": args.precision,
        "backend": args.backend,
        **given,
    }
