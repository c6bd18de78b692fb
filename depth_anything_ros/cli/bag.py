"""Depth for a recorded bag: of every frame of its cameras, beside the original messages, with the original stamps.

Works without ROS. The same command continues a run that was stopped. docs/command_line.md says which topics are
written.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
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
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.settings import BagSettings

if TYPE_CHECKING:
    from depth_anything_ros.offline.bag.run import BagRun
    from depth_anything_ros.offline.bag.work import WorkFolder

HELP = "depth for a recorded bag, as another one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `IN OUT` and the options; their defaults are those of the settings."""
    defaults = BagSettings()
    parser.add_argument(
        "source",
        metavar="IN",
        type=Path,
        help="bag: a folder, or an .mcap, .db3 or (ROS 1) .bag file",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the bag to write")
    parser.add_argument(
        "--camera",
        metavar="TOPIC",
        action="append",
        default=[],
        help="image topic to use, can be repeated; default: every one with a camera_info beside it that holds no depth",
    )
    parser.add_argument("--only-depth", action="store_true", help="write depth alone, without the messages of IN")
    parser.add_argument(
        "--storage",
        choices=("mcap", "sqlite3"),
        default=defaults.storage,
        help="default: as IN; mcap for ROS 1",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the bag OUT")
    parser.add_argument(
        "--depth-encoding",
        choices=("32FC1", "16UC1"),
        default=defaults.depth_encoding,
        help="metres, or millimetres with 0 for invalid; default: %(default)s",
    )
    parser.add_argument(
        "--rectified", action="store_true", help="the images are rectified: P describes them, not K and D"
    )
    parser.add_argument(
        "--undistort",
        action="store_true",
        help="rectify raw images before the network: depth is of a pinhole camera, which .../depth/camera_info tells",
    )
    parser.add_argument(
        "--undistort-focal",
        metavar="PIXELS",
        type=float,
        default=defaults.undistort_focal_px,
        help="focal length of the rectified images; default: the largest view without holes",
    )
    parser.add_argument(
        "--camera-info-any-frame",
        action="store_true",
        help="use a CameraInfo of another frame_id where there is none of the image's",
    )
    parser.add_argument("--cloud", action="store_true", help="also write clouds")
    parser.add_argument(
        "--cloud-stride",
        metavar="N",
        type=int,
        default=defaults.cloud_stride,
        help="the cloud takes every n-th row and column, default: %(default)s",
    )
    add_model_arguments(parser)
    add_level_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Make the bag. Prints one line of JSON; returns 1 when frames were left out, else 0."""
    try:
        import rosbags  # noqa: F401
    except ImportError as error:
        raise SettingsError("bags need the library rosbags: pip install 'depth_anything_ros[bag]'") from error
    from depth_anything_ros.estimator import DepthEstimator
    from depth_anything_ros.model.registry import dataset_spec
    from depth_anything_ros.offline.bag.cameras import check_outputs, choose_cameras
    from depth_anything_ros.offline.bag.files import Bag
    from depth_anything_ros.offline.bag.ros1 import as_ros2
    from depth_anything_ros.offline.bag.run import BagRun, describe_source
    from depth_anything_ros.offline.bag.work import WorkFolder, check_target
    from depth_anything_ros.offline.progress import say

    check_levels(args)
    settings, max_depth_m, kind = _bag_settings(args), max_depth(args), dataset_spec(args.dataset).kind
    check_target(args.out, args.source, overwrite=args.overwrite)
    with as_ros2(args.source, args.out, say) as source, Bag.open(source) as bag:
        cameras = choose_cameras(bag, args.camera, say)
        check_outputs(bag, cameras, kind, settings)
        estimator = DepthEstimator.from_settings(model_settings(args))
        say(scale_remark(args, max_depth_m, "that of each image's CameraInfo"))
        run = {"bag": describe_source(args.source), **describe_model(args, estimator, max_depth_m)}
        if estimator.needs_focal or args.undistort:
            run["camera"] = [args.rectified, args.camera_info_any_frame]
        if args.undistort:
            run["undistort"] = args.undistort_focal or "largest view"
        with WorkFolder.open(args.out, run, say) as work:
            one = BagRun(estimator, bag, cameras, settings, work, max_depth=max_depth_m)
            return _run(one, work, args.out)


def _run(one: BagRun, work: WorkFolder, out: Path) -> int:
    from depth_anything_ros.offline.progress import say

    try:
        one.run()
        work.finish()
    except KeyboardInterrupt:
        say("stopped; the same command continues from here")
        raise
    cameras = {topic: asdict(tally) for topic, tally in one.tallies.items()}
    content = {
        "out": str(out),
        "max_depth_m": one.max_depth,
        "messages": one.messages,
        "cameras": cameras,
        "ms_per_frame": one.ms_per_frame,
    }
    print(json.dumps(content))
    return 1 if one.left_something_out else 0


def _bag_settings(args: argparse.Namespace) -> BagSettings:
    return BagSettings(
        cloud=args.cloud,
        cloud_stride=args.cloud_stride,
        rectified=args.rectified,
        undistort=args.undistort,
        undistort_focal_px=args.undistort_focal,
        camera_info_any_frame=args.camera_info_any_frame,
        depth_encoding=args.depth_encoding,
        black_level=args.black_level,
        white_level=args.white_level,
        storage=args.storage,
        only_depth=args.only_depth,
    )
