"""`depth_anything_client`: photographs in; depth, colour picture and point cloud out, by way of a bridge.

Or what a robot's cameras see, see `robot_command`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.client.calls import ServedDepth, has_metres, metric_depth_call, relative_depth_call
from bridge.client.cameras import Said
from bridge.client.client import DepthClient
from bridge.client.errors import BridgeError
from bridge.client.images import read_photo
from bridge.client.photo_cameras import CAMERA_OPTIONS, Cameras, add_camera_arguments
from bridge.client.results import depth_range, write, write_depth
from bridge.client.robot_command import list_cameras, save_frame, watch
from bridge.client.servers import load_server, read_api_key
from bridge.codec import GENEROUS_LIMITS, decode_image
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CannotWrite, InputError, SettingsError, os_reason
from depth_anything_ros.io.formats import UNITLESS, encode_ply
from depth_anything_ros.io.media_paths import whole_path
from depth_anything_ros.io.result_names import ResultNames
from depth_anything_ros.messages.rectification import Rectification
from depth_anything_ros.offline.given_camera import FocalSource, PictureCamera

# The server's words for errors that are about one photograph. After any other the next one would fail as well.
PHOTO_CODES = ("undecodable_image", "image_size", "body_too_large")
# Options that say what a depth node knows by itself.
OF_PHOTOS = ("model", "max_depth", *CAMERA_OPTIONS)
INTERRUPTED = 130  # the shell's status for a program that Ctrl-C ended


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(
        prog="depth_anything_client", description="Photographs to depth, by way of a bridge.", allow_abbrev=False
    )
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
    add_camera_arguments(cli)
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
    cameras = Cameras.from_arguments(arguments)
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
    unused = [f"--{name.replace('_', '-')}" for name in OF_PHOTOS if getattr(arguments, name) is not None]
    if is_robot and unused:
        raise SettingsError(f"leave {' and '.join(unused)} out: that is for photographs, and the node knows its own")


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
    """Fetch one photograph's depth and write what follows from it: the files in docs/client.md."""
    data = read_photo(photo)
    image = decode_image(data, GENEROUS_LIMITS)
    height, width = image.shape[:2]
    camera = cameras.of(width, height)  # before the work is asked for
    depth = ask(client, data, cameras.said(camera), max_depth)
    source: FocalSource = "given" if cameras.is_known else "assumed"
    if depth.camera is not None:
        image, camera = Rectification(camera, depth.camera.fx)(image), depth.camera
    elif depth.focal_px is not None and depth.is_focal_estimated:
        camera, source = Said(focal_px=depth.focal_px).of(image.shape[:2]), "estimate"
    written = write_depth(target, depth.values, depth.kind, depth.max_depth or max_depth)
    if depth.kind != "relative":
        of_focal = [*PictureCamera(camera, source).remarks()]
        remarks = [*([] if depth.kind == "metric" else [UNITLESS]), *of_focal]
        write(Path(f"{target}.ply"), encode_ply(camera.back_project(depth.values), image, comments=remarks))
        written += f", .ply ({'; '.join([described(camera), *of_focal])})"
    nearest, farthest = depth_range(depth.values)
    unit = "m" if depth.kind == "metric" else depth.kind
    used = f", max_depth {depth.max_depth:g} m" if depth.max_depth else ""
    print(f"{photo}: {nearest:.2f} to {farthest:.2f} {unit} ({depth.model_key}{used})")
    print(f"  -> {target}{written}")


def ask(client: DepthClient, data: bytes, camera: Said, max_depth: float | None) -> ServedDepth:
    """Depth in metres; from a model that is named and has none, what it has."""
    if has_metres(client.model):
        return client.run(metric_depth_call(data, max_depth, camera, client.model))
    if max_depth is not None:
        raise SettingsError(f"--max-depth does not apply to model {client.model}, which has no metres")
    return client.run(relative_depth_call(data, camera, client.model))


def described(camera: CameraModel) -> str:
    """The camera that a cloud was made with."""
    return f"fx {camera.fx:g} fy {camera.fy:g} cx {camera.cx:g} cy {camera.cy:g}"


if __name__ == "__main__":
    sys.exit(main())
