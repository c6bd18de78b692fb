"""The synthetic camera's pictures as files: image/000000.png, depth/000000.npy in metres, and camera.json.

Finished pictures are kept, so the same command continues a run that was stopped. docs/command_line.md says which
files are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.settings import SYNTHETIC_LIMITS, SyntheticCameraSettings

if TYPE_CHECKING:
    import torch

    from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame

HELP = "pictures of a rendered room with their true depth, as files"

DESCRIPTION = "camera.json"
DEFAULT_FRAMES = 100
LIMITS = {**SYNTHETIC_LIMITS, "frames": (1, 1_000_000)}  # names have six digits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--out DIR` and the options; their defaults are those of the camera node."""
    defaults = SyntheticCameraSettings()
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument("--frames", metavar="N", type=int, default=DEFAULT_FRAMES, help="default: %(default)s")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=defaults.seed,
        help="number that the room, the camera and its path are drawn from; default: %(default)s",
    )
    for name in ("width", "height"):
        parser.add_argument(
            f"--{name}", metavar="PIXELS", type=int, default=getattr(defaults, name), help="default: %(default)s"
        )
    parser.add_argument(
        "--rate", metavar="HZ", dest="rate_hz", type=float, default=defaults.rate_hz, help="default: %(default)s"
    )
    parser.add_argument("--distortion", metavar="NAME", default=defaults.distortion, help="none (default) or plumb_bob")
    parser.add_argument("--device", metavar="NAME", default=defaults.device, help="auto, cpu (default), cuda or cuda:N")
    parser.add_argument("--overwrite", action="store_true", help="replace another camera's pictures")


def run(args: argparse.Namespace) -> int:
    """Render. Prints one line of JSON; progress goes to stderr."""
    from depth_anything_ros.offline.progress import say
    from depth_anything_ros.runtime.device import select_device
    from depth_anything_ros.runtime.threads import share_cores
    from depth_anything_ros.synthetic.camera import SyntheticCamera

    share_cores(torch_threads=1)
    _check(args)
    device = select_device(args.device)
    camera = SyntheticCamera(args.seed, args.width, args.height, args.distortion, device)
    _claim(args.out, _describe(camera, args, device), overwrite=args.overwrite)
    try:
        rendered = _render(camera, args)
    except KeyboardInterrupt:
        say("stopped; the same command continues from here")
        raise
    print(json.dumps({"out": str(args.out), "rendered": rendered, "skipped": args.frames - rendered}))
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, (lowest, highest) in LIMITS.items():
        value = getattr(args, name)
        if not lowest <= value <= highest:
            option = "rate" if name == "rate_hz" else name
            raise SettingsError(f"--{option} is {value}; allowed: {lowest:.10g} to {highest:.10g}")


def _describe(camera: SyntheticCamera, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return the content of `camera.json`. It decides every pixel: pictures in one folder have it in common."""
    model = camera.model
    frames = []
    for index in range(args.frames):
        time_s = index / args.rate_hz
        position, rotation = camera.way.pose(time_s)
        image, depth = (str(path) for path in _files(Path(), index))
        pose = {"position": position.tolist(), "rotation": rotation.tolist()}
        frames.append({"image": image, "depth": depth, "time_s": time_s, **pose})
    return {
        "version": 1,
        "seed": args.seed,
        "rate_hz": args.rate_hz,
        "device": device.type,  # its noise differs
        "width": model.width,
        "height": model.height,
        "K": [[model.fx, 0.0, model.cx], [0.0, model.fy, model.cy], [0.0, 0.0, 1.0]],
        "distortion_model": model.distortion_model or "plumb_bob",
        "D": list(model.distortion) or [0.0] * 5,
        "frames": frames,
    }


def _files(folder: Path, index: int) -> tuple[Path, Path]:
    return folder / f"image/{index:06d}.png", folder / f"depth/{index:06d}.npy"


def _claim(folder: Path, content: dict[str, Any], *, overwrite: bool) -> None:
    """Write `camera.json` before the first picture, which makes the folder this camera's.

    Raises:
        OtherRun: it holds other pictures. CannotWrite: it cannot be read or written.
    """
    from depth_anything_ros.errors import CannotWrite, OtherRun, os_reason
    from depth_anything_ros.io.whole_files import write_file

    text = json.dumps(content, indent=1) + "\n"
    path = folder / DESCRIPTION
    try:
        if path.is_file() and path.read_text(errors="replace") == text:
            return
        strangers = list(_results(folder))
        if strangers and not overwrite:
            raise OtherRun(
                f"{folder} holds another camera's pictures, such as {strangers[0].relative_to(folder)}. "
                "Choose another folder, or remove them with --overwrite."
            )
        for stranger in strangers:
            stranger.unlink()
    except OSError as error:
        raise CannotWrite(f"{error.filename or folder} cannot be replaced: {os_reason(error)}") from error
    write_file(path, lambda temporary: temporary.write_text(text))


def _results(folder: Path) -> Iterator[Path]:
    """Yield every file that a run may have left in a folder; `camera.json`, which describes the others, is last."""
    for pattern in ("image/[0-9]*.png", "depth/[0-9]*.npy", DESCRIPTION):
        yield from sorted(folder.glob(pattern))


def _render(camera: SyntheticCamera, args: argparse.Namespace) -> int:
    """Write the pictures that are not there yet; return how many."""
    from depth_anything_ros.offline.progress import Progress

    rendered = 0
    with Progress(args.frames, "picture") as progress:
        for index in range(args.frames):
            image_path, depth_path = _files(args.out, index)
            if not (image_path.is_file() and depth_path.is_file()):
                _write(camera.frame(index / args.rate_hz), image_path, depth_path)
                rendered += 1
            progress.advance()
    return rendered


def _write(frame: SyntheticFrame, image_path: Path, depth_path: Path) -> None:
    from depth_anything_ros.io.formats import encode_npy, encode_png
    from depth_anything_ros.io.whole_files import write_file

    png, npy = encode_png(frame.image_bgr), encode_npy(frame.depth)
    write_file(image_path, lambda temporary: temporary.write_bytes(png))
    write_file(depth_path, lambda temporary: temporary.write_bytes(npy))
