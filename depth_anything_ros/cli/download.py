"""Fetch official weights from the Hugging Face Hub ahead of time; without names, list the models and their licences."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "fetch official weights ahead of time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `[ENCODER DATASET] [--accept-license] [--folder DIR]`."""
    parser.add_argument("encoder", metavar="ENCODER", nargs="?", help="such as vits; default: list the models")
    parser.add_argument("dataset", metavar="DATASET", nargs="?", help="such as hypersim or da3metric")
    parser.add_argument("--accept-license", action="store_true", help="agree to a non-commercial licence")
    parser.add_argument("--folder", metavar="DIR", type=Path, help="where to put the file instead of the cache folder")


def run(args: argparse.Namespace) -> int:
    """Download one checkpoint; print its licence, its path and its SHA-256. Or list the models."""
    from depth_anything_ros.errors import SettingsError
    from depth_anything_ros.model.checkpoint_download import download_checkpoint
    from depth_anything_ros.model.checkpoint_reading import file_sha256
    from depth_anything_ros.model.checkpoint_search import checkpoint_name
    from depth_anything_ros.model.registry import encoder_spec, license_of

    if args.encoder is None:
        list_models()
        return 0
    encoder_spec(args.encoder)
    if args.dataset is None:
        raise SettingsError("DATASET is missing: `depth_anything download` lists the models")
    name, license_id = checkpoint_name(args.encoder, args.dataset), license_of(args.encoder, args.dataset)
    if license_id is not None:
        print(f"{name}, licence {license_id}", flush=True)
    path = download_checkpoint(args.encoder, args.dataset, accept_license=args.accept_license, folder=args.folder)
    print(f"{path}\nSHA-256 {file_sha256(path)}")
    return 0


def list_models() -> None:
    """Print one line a model that has weights: encoder, dataset, kind, licence, and its file or repository."""
    from depth_anything_ros.model.checkpoint_search import bundled_checkpoint, find_checkpoint, hub_repository
    from depth_anything_ros.model.registry import DATASETS, encoders_of, license_of

    for dataset, spec in DATASETS.items():
        for encoder in encoders_of(dataset):
            here = find_checkpoint(encoder, dataset) or bundled_checkpoint(encoder, dataset)
            source = here or hub_repository(encoder, dataset)
            if source is not None:
                license_id = license_of(encoder, dataset) or "unknown"
                print(f"{encoder:5} {dataset:10} {spec.kind:16} {license_id:13} {source}")
