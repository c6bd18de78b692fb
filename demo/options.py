"""The demo's command line."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from depth_anything_ros.files.presence import exists, is_folder
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.settings import ModelSettings

METRIC = [name for name, spec in DATASETS.items() if spec.kind == "metric"]
MAX_PORT = 65535


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    defaults = ModelSettings()
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="A camera through the node, to files.", allow_abbrev=False
    )
    parser.add_argument("photographs", metavar="PHOTO_OR_FOLDER", nargs="*", type=Path, help="none: a rendered room")
    parser.add_argument("--out", type=folder, default=Path("demo_out"), help="default: %(default)s")
    parser.add_argument("--seconds", type=positive, default=12.0, help="time to record, default: %(default)s")
    parser.add_argument("--rate", type=positive, default=5.0, help="frames a second, default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the rendered room, default: %(default)s")
    parser.add_argument("--encoder", choices=list(ENCODERS), help="default: real weights for photographs, else vitt")
    parser.add_argument("--dataset", choices=METRIC, help="default: the encoder's")
    parser.add_argument("--checkpoint", help="a file, or 'untrained'; default: the one on this machine")
    parser.add_argument("--input-size", type=int, default=defaults.input_size)
    parser.add_argument("--device", default=defaults.device)
    parser.add_argument("--precision", default=defaults.precision, help="default: %(default)s")
    parser.add_argument("--page", action="store_true", help="record nothing; keep all running for a browser")
    parser.add_argument("--port", type=port, default=8000, help="of the page, default: %(default)s; 0 takes a free one")
    return parser


def folder(text: str) -> Path:
    """A folder, which may not exist yet."""
    path = Path(text)
    if exists(path) and not is_folder(path):
        raise argparse.ArgumentTypeError(f"{text} is a file; name a folder")
    return path


def positive(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def port(text: str) -> int:
    """A TCP port."""
    if not (text.isdecimal() and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"must be 0 to {MAX_PORT}, not {text!r}")
    return int(text)
