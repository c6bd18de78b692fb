"""Measure every way to run a model on this machine, show them, and keep the fastest that is true enough."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depth_anything_ros.settings import ModelSettings

HELP = "measure what runs a model fastest on this machine, and keep it"

HEIGHT, WIDTH = 480, 640


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the model, `--height H` and `--width W`."""
    from depth_anything_ros.cli._model_options import add_model_arguments

    add_model_arguments(parser)
    parser.add_argument("--height", metavar="H", type=int, default=HEIGHT, help="of the images; default: %(default)s")
    parser.add_argument("--width", metavar="W", type=int, default=WIDTH, help="of the images; default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Print the table, fastest first, the chosen row marked."""
    from depth_anything_ros.cli._model_options import model_settings
    from depth_anything_ros.runtime.threads import share_cores

    share_cores()
    for line in tuned(model_settings(args), args.height, args.width):
        print(line)
    return 0


def tuned(settings: ModelSettings, height: int = HEIGHT, width: int = WIDTH) -> list[str]:
    """Measure a model for images of one size, keep the plan, and return its table as lines.

    Raises:
        SettingsError: what was asked for leaves nothing to choose.
        DepthAnythingError: as `DepthEstimator.load`.
    """
    from depth_anything_ros.backends.plan import table
    from depth_anything_ros.backends.planned_backend import PlannedBackend
    from depth_anything_ros.errors import SettingsError
    from depth_anything_ros.estimator import DepthEstimator

    estimator = DepthEstimator.from_settings(settings)
    if not isinstance(estimator.backend, PlannedBackend):
        raise SettingsError(
            f"nothing to choose with backend {settings.backend}, precision {settings.precision} on {estimator.device}: "
            "leave one of them out"
        )
    return table(estimator.backend.tune(estimator.network_size(height, width)))
