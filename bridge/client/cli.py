"""`depth_anything_client`: photographs in; depth, colour picture and point cloud out, by way of a bridge."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from bridge.client import BridgeError, DepthClient
from bridge.client.servers import load_server
from bridge.codec import decode_image, encode_depth_png16, fitting_png_scale
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import InputError
from depth_anything_ros.io.formats import colorize, encode_ply, encode_png

# What the indoor networks were trained for. Any other model needs --max-depth to be said. The registry says it
# too, but the client imports nothing above the ground floor.
HYPERSIM_MAX_DEPTH_M = 20.0
ASSUMED_FIELD_OF_VIEW_DEG = 60.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="depth_anything_client", description="Photographs to depth, by way of a bridge.")
    cli.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="JPEG, PNG or WebP files")
    where = cli.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", help="a name in the servers file")
    where.add_argument("--url", help="address of a bridge, such as http://robot:8000")
    cli.add_argument(
        "--servers-file", type=Path, help="default: $DEPTH_ANYTHING_SERVERS, or ~/.config/depth_anything/servers.yaml"
    )
    cli.add_argument("--api-key-file", type=Path, help="file that holds the key, for --url")
    cli.add_argument("--model", help="model key, such as vits_hypersim_518; default: the server's")
    cli.add_argument("--max-depth", type=float, help="metres at the network's full output; default: 20 with hypersim")
    cli.add_argument(
        "--intrinsics",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help=f"pixels; default: a field of view of {ASSUMED_FIELD_OF_VIEW_DEG:g} degrees along the longer side",
    )
    cli.add_argument("--out", type=Path, default=Path("depth_out"), help="folder to write to (default: %(default)s)")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    try:
        run(parser().parse_args(argv))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (BridgeError, InputError, OSError, UnicodeError, httpx.InvalidURL) as error:
        print(f"depth_anything_client: {error}", file=sys.stderr)
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Process every photograph; the first that fails ends it."""
    with connect(arguments) as client:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for photo in arguments.photos:
            process(client, photo, arguments)


def connect(arguments: argparse.Namespace) -> DepthClient:
    """Make the client that the arguments describe."""
    if arguments.server:
        server = load_server(arguments.server, arguments.servers_file)
        return DepthClient(server.base_url, server.api_key, model=arguments.model or server.model)
    key = arguments.api_key_file.read_text().strip() if arguments.api_key_file else None
    return DepthClient(arguments.url, key, model=arguments.model)


def process(client: DepthClient, photo: Path, arguments: argparse.Namespace) -> None:
    """Fetch one photograph's depth and write what follows from it: `NAME_depth.png`, `_color.png`, `.ply`."""
    data = photo.read_bytes()
    try:
        image = decode_image(data)
    except InputError as error:
        raise InputError(f"{photo}: {error}") from error
    max_depth = HYPERSIM_MAX_DEPTH_M if arguments.max_depth is None else arguments.max_depth
    depth = client.metric_depth(data, max_depth=max_depth)
    if arguments.max_depth is None and "_hypersim_" not in depth.model_key:
        raise InputError(f"the server answered with {depth.model_key}: say --max-depth (80 for vkitti)")
    camera = camera_of(arguments.intrinsics, depth)
    scale = fitting_png_scale(max_depth)
    nearest, farthest = float(depth.values.min()), float(depth.values.max())
    target = arguments.out / photo.stem
    Path(f"{target}_depth.png").write_bytes(encode_depth_png16(depth.values, scale))
    picture = colorize(depth.values, nearest, max(farthest, nearest + 1e-3))
    Path(f"{target}_color.png").write_bytes(encode_png(picture))
    Path(f"{target}.ply").write_bytes(encode_ply(camera.back_project(depth.values), image))
    print(f"{photo}: {nearest:.2f} to {farthest:.2f} m ({depth.model_key}) -> {target}_depth.png, _color.png, .ply")
    print(
        f"  depth PNG: metres x {scale:g}; cloud: fx {camera.fx:g} fy {camera.fy:g} cx {camera.cx:g} cy {camera.cy:g}"
    )


def camera_of(intrinsics: Sequence[float] | None, depth: DepthMap) -> CameraModel:
    """The camera that was given, or one with the assumed field of view, its axis in the middle."""
    height, width = depth.values.shape
    if intrinsics is None:
        return CameraModel.from_fov(ASSUMED_FIELD_OF_VIEW_DEG, width, height)
    fx, fy, cx, cy = intrinsics
    return CameraModel(fx, fy, cx, cy, width, height)


if __name__ == "__main__":
    sys.exit(main())
