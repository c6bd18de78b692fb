"""`depth_anything_client`: photographs in; depth, colour picture and point cloud out, by way of a bridge.

Or what a robot's cameras see, see `robot_command`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.client.client import DepthClient
from bridge.client.errors import BridgeError
from bridge.client.images import read_photo
from bridge.client.results import depth_range, write
from bridge.client.robot_command import list_cameras, save_frame, watch
from bridge.client.servers import load_server, read_api_key
from bridge.codec import GENEROUS_LIMITS, decode_image, encode_depth_png16, fitting_png_scale
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError, CannotWrite, InputError, SettingsError, os_reason
from depth_anything_ros.io.formats import colorize, encode_ply, encode_png
from depth_anything_ros.io.media_paths import whole_path
from depth_anything_ros.io.result_names import ResultNames

ASSUMED_FOV_DEG = 60.0
# The server's words for errors that are about one photograph. After any other the next one would fail as well.
PHOTO_CODES = ("undecodable_image", "image_size", "body_too_large")
INTERRUPTED = 130  # the shell's status for a program that Ctrl-C ended


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="depth_anything_client", description="Photographs to depth, by way of a bridge.")
    cli.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="JPEG, PNG or WebP files")
    robot = cli.add_mutually_exclusive_group()
    robot.add_argument(
        "--cameras", action="store_true", help="list the cameras of the robot (the bridge runs with --ros)"
    )
    robot.add_argument("--camera", metavar="NAME", help="write the latest depth of a camera of the robot")
    cli.add_argument("--watch", action="store_true", help="with --camera: a line a second about it, until Ctrl-C")
    where = cli.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", help="a name in the servers file")
    where.add_argument("--url", help="address of a bridge, such as http://robot:8000")
    cli.add_argument(
        "--servers-file", type=Path, help="default: $DEPTH_ANYTHING_SERVERS, or ~/.config/depth_anything/servers.yaml"
    )
    cli.add_argument("--api-key-file", type=Path, help="file that holds the key, for --url")
    cli.add_argument("--model", help="model key, such as vits_hypersim_518; default: the server's")
    cli.add_argument("--max-depth", type=float, help="metres at the network's full output; default: the dataset's own")
    camera = cli.add_mutually_exclusive_group()
    camera.add_argument(
        "--intrinsics",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="pixels, for photographs of the first one's size; they are scaled where a size differs by one factor",
    )
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEGREES",
        help=f"field of view along the longer side; {ASSUMED_FOV_DEG:g} is assumed without --intrinsics",
    )
    cli.add_argument("--out", type=Path, default=Path("depth_out"), help="folder to write to (default: %(default)s)")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    try:
        return run(parser().parse_args(argv))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (BridgeError, InputError) as error:
        say(str(error))
        return 1


def run(arguments: argparse.Namespace) -> int:
    """Process every photograph; one that cannot be done is named, and the next one follows. Returns the exit status."""
    if arguments.max_depth is not None and not 0 < arguments.max_depth < math.inf:
        raise SettingsError(f"--max-depth must be a positive number of metres, got {arguments.max_depth}")
    check_task(arguments)
    if arguments.cameras or arguments.camera:
        with connect(arguments) as client:
            run_robot(client, arguments)
        return 0
    cameras = Cameras(arguments.intrinsics, arguments.fov)
    photos = list({whole_path(photo): photo for photo in arguments.photos}.values())
    names, failed = ResultNames(), 0
    with connect(arguments) as client:
        for photo in photos:
            target = arguments.out / names.give(photo.stem)
            try:
                process(client, photo, target, cameras, arguments.max_depth)
            except (BridgeError, InputError, OSError) as error:
                if not is_about_photo(error):
                    raise
                failed += 1
                say(f"{photo}: {os_reason(error) if isinstance(error, OSError) else error}")
    return 1 if failed else 0


def check_task(arguments: argparse.Namespace) -> None:
    """Raise SettingsError unless there is one thing to do: photographs, or the robot's cameras."""
    is_robot = arguments.cameras or arguments.camera is not None
    if is_robot == bool(arguments.photos):
        raise SettingsError("name photographs, or --cameras, or --camera NAME: one of these")
    if arguments.watch and arguments.camera is None:
        raise SettingsError("--watch needs --camera NAME")
    unused = ("max_depth", "intrinsics", "fov", "model")
    if is_robot and any(getattr(arguments, name) is not None for name in unused):
        raise SettingsError("--model, --max-depth, --intrinsics and --fov are for photographs: the node knows its own")


def run_robot(client: DepthClient, arguments: argparse.Namespace) -> None:
    """List the robot's cameras, watch one, or write its latest depth."""
    if arguments.cameras:
        list_cameras(client)
    elif arguments.watch:
        watch(client.camera(arguments.camera))
    else:
        save_frame(client.camera(arguments.camera), arguments.out)


def say(text: str) -> None:
    """Tell the user what went wrong."""
    print(f"depth_anything_client: {text}", file=sys.stderr)


def is_about_photo(error: Exception) -> bool:
    """Whether the next photograph may still succeed."""
    if isinstance(error, BridgeError):
        return error.code in PHOTO_CODES
    return not isinstance(error, CannotWrite)


def connect(arguments: argparse.Namespace) -> DepthClient:
    """Make the client that the arguments describe."""
    if arguments.server:
        if arguments.api_key_file:
            raise SettingsError("--api-key-file belongs to --url: a named server has its key in the servers file")
        server = load_server(arguments.server, arguments.servers_file)
        return DepthClient(server.base_url, server.api_key, model=arguments.model or server.model)
    key = read_api_key(arguments.api_key_file) if arguments.api_key_file else None
    return DepthClient(arguments.url, key, model=arguments.model)


def process(client: DepthClient, photo: Path, target: Path, cameras: Cameras, max_depth: float | None) -> None:
    """Fetch one photograph's depth and write what follows from it: `NAME_depth.png`, `_color.png`, `.ply`."""
    data = read_photo(photo)
    image = decode_image(data, GENEROUS_LIMITS)
    height, width = image.shape[:2]
    camera = cameras.of(width, height)  # before the work is asked for
    focal_px = (camera.fx + camera.fy) / 2 if cameras.is_known else None
    depth = client.metric_depth(data, max_depth=max_depth, focal_px=focal_px)
    nearest, farthest = depth_range(depth.values)
    scale = fitting_png_scale(depth.max_depth or max_depth or farthest)
    picture = colorize(depth.values, nearest, max(farthest, nearest + 1e-3))
    for suffix, content in (
        ("_depth.png", encode_depth_png16(depth.values, scale)),
        ("_color.png", encode_png(picture)),
        (".ply", encode_ply(camera.back_project(depth.values), image)),
    ):
        write(Path(f"{target}{suffix}"), content)
    used = f", max_depth {depth.max_depth:g} m" if depth.max_depth else ""
    print(f"{photo}: {nearest:.2f} to {farthest:.2f} m ({depth.model_key}{used})")
    print(f"  -> {target}_depth.png (metres x {scale:g}), _color.png, .ply ({described(camera)})")


def described(camera: CameraModel) -> str:
    """The camera that a cloud was made with."""
    return f"fx {camera.fx:g} fy {camera.fy:g} cx {camera.cx:g} cy {camera.cy:g}"


@dataclass
class Cameras:
    """The camera of each photograph: intrinsics of the first one's size, or a field of view.

    Raises:
        CameraError: the numbers describe no camera.
    """

    intrinsics: Sequence[float] | None
    fov_deg: float | None
    first: CameraModel | None = None

    def __post_init__(self) -> None:
        self._of_size(1, 1)

    @property
    def is_known(self) -> bool:
        """Whether the user said something about the camera."""
        return self.intrinsics is not None or self.fov_deg is not None

    def of(self, width: int, height: int) -> CameraModel:
        """Return the camera of a photograph. Raises CameraError where intrinsics cannot be scaled to its size."""
        if self.intrinsics is None:
            return self._of_size(width, height)
        self.first = self.first or self._of_size(width, height)
        try:
            return self.first.scaled_to(width, height)
        except CameraError:
            raise CameraError(
                f"it is {width}x{height}, and --intrinsics hold for {self.first.width}x{self.first.height}, the first "
                "photograph's size, which is not the same at another scale: process it in a run of its own"
            ) from None

    def _of_size(self, width: int, height: int) -> CameraModel:
        if self.intrinsics is None:
            return CameraModel.from_fov(ASSUMED_FOV_DEG if self.fov_deg is None else self.fov_deg, width, height)
        fx, fy, cx, cy = self.intrinsics
        return CameraModel(fx, fy, cx, cy, width, height)


if __name__ == "__main__":
    sys.exit(main())
