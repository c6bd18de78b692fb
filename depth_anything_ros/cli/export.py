"""Write the network as an ONNX file for one image size, checked against torch, for other machines to run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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


def run(args: argparse.Namespace) -> int:
    """Export, run the result in ONNX Runtime, write the file if it agrees; print one JSON line."""
    import torch

    from depth_anything_ros.backends import parity
    from depth_anything_ros.backends.onnx_backend import OPSET, Session
    from depth_anything_ros.backends.onnx_files import check_content, export_file
    from depth_anything_ros.io.whole_files import write_file
    from depth_anything_ros.model.preprocess import preprocessing_for
    from depth_anything_ros.model.registry import encoder_for
    from depth_anything_ros.model.weights import load_model
    from depth_anything_ros.settings import InputLimits, own_input_size

    input_size = encoder_for(args.encoder, args.dataset).clamp_input_size(
        own_input_size(args.dataset) if args.input_size is None else args.input_size
    )
    size = preprocessing_for(args.dataset).network_size(args.height, args.width, input_size, InputLimits())
    loaded = load_model(args.encoder, args.dataset, args.checkpoint, download=False)
    content = export_file(
        loaded.network, args.encoder, args.dataset, size, loaded.sha256, dynamic_batch=args.dynamic_batch
    )
    checked = check_content(content, str(args.out), args.encoder, args.dataset)
    x = parity.probe_image(*size)
    found = Session(content, torch.device("cpu"), "fp32", None)(x)
    off = parity.require_within(found, parity.reference(loaded.network, x), parity.FP32_LIMIT, "the exported network")
    write_file(args.out, lambda path: path.write_bytes(content))
    shape = ["batch" if args.dynamic_batch else 1, 3, *size]
    print(
        json.dumps(
            {
                "file": str(args.out),
                "encoder": args.encoder,
                "dataset": args.dataset,
                "shape": shape,
                "opset": OPSET,
                "max_difference": float(f"{off.max:.2g}"),
                "mean_difference": float(f"{off.mean:.2g}"),
                "sha256": checked.sha256,
            }
        )
    )
    return 0
