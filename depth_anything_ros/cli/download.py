"""Fetch official weights from the Hugging Face Hub ahead of time."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "fetch official weights ahead of time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `ENCODER DATASET [--accept-license] [--folder DIR]`."""
    parser.add_argument("encoder", metavar="ENCODER", help="vits, vitb or vitl")
    parser.add_argument("dataset", metavar="DATASET", help="hypersim (indoor), vkitti (outdoor) or relative")
    parser.add_argument("--accept-license", action="store_true", help="agree to a non-commercial licence")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="where to put the file instead of the cache folder")


def run(args: argparse.Namespace) -> int:
    """Download one checkpoint; print its licence, its path and its SHA-256."""
    from depth_anything_ros.model.checkpoint_download import download_checkpoint
    from depth_anything_ros.model.checkpoint_reading import file_sha256
    from depth_anything_ros.model.checkpoint_search import checkpoint_name
    from depth_anything_ros.model.registry import license_of

    name, license_id = checkpoint_name(args.encoder, args.dataset), license_of(args.encoder, args.dataset)
    if license_id is not None:
        print(f"{name}, licence {license_id}", flush=True)
    path = download_checkpoint(args.encoder, args.dataset, accept_license=args.accept_license, folder=args.folder)
    print(f"{path}\nSHA-256 {file_sha256(path)}")
    return 0
