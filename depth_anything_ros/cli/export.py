"""Write the network as an ONNX file for one image size, checked against torch, for other machines to run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from depth_anything_ros.backends.protocol import Backend
    from depth_anything_ros.model.depth_network import DepthNetwork

HELP = "write the network as an ONNX file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `ENCODER DATASET --out FILE --height H --width W [...]`."""
    from depth_anything_ros.settings import ModelSettings

    parser.add_argument("encoder", metavar="ENCODER", help="such as vits; `depth_anything download` lists all models")
    parser.add_argument("dataset", metavar="DATASET", help="such as hypersim or da3metric")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="file to write, FILE.onnx")
    parser.add_argument("--height", metavar="H", type=int, required=True, help="height of the images in pixels")
    parser.add_argument("--width", metavar="W", type=int, required=True, help="width of the images in pixels")
    parser.add_argument(
        "--input-size",
        metavar="N",
        type=int,
        default=ModelSettings.input_size,
        help="side given to the network; default: its own",
    )
    parser.add_argument("--dynamic-batch", action="store_true", help="leave the number of images open")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights to take instead of searching for them")
    parser.add_argument("--int8", action="store_true", help="in 8 bits, for processors without bf16; needs --calibrate")
    parser.add_argument(
        "--calibrate",
        metavar="FOLDER",
        type=Path,
        help="pictures such as the network will see, for --int8: 20 or more; at most 300 are used",
    )


def run(args: argparse.Namespace) -> int:
    """Export, run the result as it will be run, write the file if it agrees; print one JSON line."""
    import torch

    from depth_anything_ros.backends import parity
    from depth_anything_ros.backends.onnx_backend import OPSET
    from depth_anything_ros.backends.onnx_files import LIMITS, backend_for, check_content, export_file, in_int8
    from depth_anything_ros.io.whole_files import write_file
    from depth_anything_ros.model.preprocess import preprocessing_for
    from depth_anything_ros.model.registry import encoder_for
    from depth_anything_ros.model.weights import load_model
    from depth_anything_ros.settings import InputLimits, own_input_size

    _check_int8(args)
    input_size = encoder_for(args.encoder, args.dataset).clamp_input_size(
        own_input_size(args.dataset) if args.input_size is None else args.input_size
    )
    size = preprocessing_for(args.dataset).network_size(args.height, args.width, input_size, InputLimits())
    pictures = _network_inputs(args, input_size) if args.int8 else []
    loaded = load_model(args.encoder, args.dataset, args.checkpoint, download=False)
    content = export_file(
        loaded.network, args.encoder, args.dataset, size, loaded.sha256, dynamic_batch=args.dynamic_batch
    )
    if args.int8:
        content = in_int8(content, pictures)
    checked = check_content(content, str(args.out), args.encoder, args.dataset)
    running = backend_for(checked, torch.device("cpu"), "auto", "auto", str(args.out))
    x = parity.probe_image(*size)
    if args.int8:
        said = {"pictures": len(pictures), **_accuracy(running, loaded.network, size)}
    else:
        x = parity.probe_image(*size)
        expected = parity.reference(loaded.network, x)
        off = parity.require_within(running(x), expected, LIMITS[running.precision], "the exported network")
        said = {"max_difference": float(f"{off.max:.2g}"), "mean_difference": float(f"{off.mean:.2g}")}
    write_file(args.out, lambda path: path.write_bytes(content))
    shape = ["batch" if args.dynamic_batch else 1, 3, *size]
    print(
        json.dumps(
            {
                "file": str(args.out),
                "encoder": args.encoder,
                "dataset": args.dataset,
                "precision": running.precision,
                "shape": shape,
                "opset": OPSET,
                **said,
                "sha256": checked.sha256,
            }
        )
    )
    return 0


def _check_int8(args: argparse.Namespace) -> None:
    """Refuse options that do not fit, before anything is loaded. Raises SettingsError, BackendError."""
    from depth_anything_ros.errors import SettingsError

    if args.int8 != (args.calibrate is not None):
        raise SettingsError("--int8 and --calibrate FOLDER belong together: the pictures tell the ranges of 8 bits")
    if args.int8 and args.dynamic_batch:
        raise SettingsError("--int8 is for one image at a time: leave --dynamic-batch out")
    if args.int8:
        from depth_anything_ros.backends.int8 import import_nncf

        import_nncf()


def _network_inputs(args: argparse.Namespace, input_size: int) -> list[Tensor]:
    """What the network sees of the folder's pictures, each cut to the shape of the images that it is exported for.

    Raises:
        InputError: the folder cannot be read, or has too few pictures.
        ImageError: one of them cannot be read.
    """
    import torch

    from depth_anything_ros.backends.int8 import MAX_PICTURES, MIN_PICTURES
    from depth_anything_ros.errors import InputError
    from depth_anything_ros.io.media_paths import IMAGE_SUFFIXES, files_in
    from depth_anything_ros.io.pictures import read_image
    from depth_anything_ros.model.preprocess import preprocessing_for

    files = files_in(args.calibrate, IMAGE_SUFFIXES)[:MAX_PICTURES]
    if len(files) < MIN_PICTURES:
        raise InputError(
            f"{args.calibrate} has {len(files)} pictures ({', '.join(IMAGE_SUFFIXES)}); "
            f"--calibrate needs {MIN_PICTURES} or more, because fewer do not show the ranges"
        )
    prepare = preprocessing_for(args.dataset)
    cut = (_cut(read_image(file), args.height, args.width) for file in files)
    return [prepare(torch.from_numpy(image)[None], input_size) for image in cut]


def _cut(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest middle part (h, w, 3) of this aspect, resized to (height, width, 3)."""
    import cv2
    import numpy as np

    scale = min(image.shape[0] / height, image.shape[1] / width)
    h, w = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (image.shape[0] - h) // 2, (image.shape[1] - w) // 2
    part = image[top : top + h, left : left + w]
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _accuracy(running: Backend, network: DepthNetwork, size: tuple[int, int]) -> dict[str, Any]:
    """Compare depth of rendered rooms with torch's in fp32. Raises BackendError: it is something else altogether."""
    from depth_anything_ros.backends import parity
    from depth_anything_ros.backends.fidelity import judge, rooms

    scenes = rooms(size)
    found = [running(room.x) for room in scenes]
    expected = [parity.reference(network, room.x) for room in scenes]
    for own, says in zip(found, expected, strict=True):
        parity.require_within(own, says, parity.INT8_LIMIT, "int8")
    verdict = judge(found, expected, scenes)
    change = verdict.abs_rel
    return {
        "rooms_median_relative": float(f"{verdict.median:.2g}"),
        "rooms_p99_relative": float(f"{verdict.p99:.2g}"),
        "rooms_abs_rel_change": None if change is None else float(f"{change:.2g}"),
        "weights_look_trained": verdict.trained,
    }
