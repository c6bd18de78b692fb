"""Photographs of any kind and size, made ready to be published."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

LONG_SIDE_PX = 1280
MAX_PHOTOGRAPHS = 20  # each is shown for at least two seconds


@dataclass(frozen=True)
class Photograph:
    """A picture, uint8 BGR (H, W, 3), and the name of its folder in the output."""

    name: str
    image: NDArray[np.uint8]


def collect(paths: list[Path]) -> list[Photograph]:
    """Read files, and folders of files. What cannot be read is named and skipped."""
    photographs: list[Photograph] = []
    for path in _files(paths):
        image = read_image(path)
        if image is None:
            print(f"skipped: {path} is not a readable image", file=sys.stderr)
        elif len(photographs) == MAX_PHOTOGRAPHS:
            print(f"skipped: {path}, after the first {MAX_PHOTOGRAPHS}", file=sys.stderr)
        else:
            photographs.append(Photograph(f"{len(photographs):02d}_{_plain(path.stem)}", fit(image)))
    return photographs


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """Decode a file to uint8 BGR (H, W, 3), its EXIF rotation applied; None if that is impossible."""
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def fit(image: NDArray[np.uint8], long_side_px: int = LONG_SIDE_PX) -> NDArray[np.uint8]:
    """Shrink an image until its long side is `long_side_px`; smaller ones stay as they are."""
    scale = long_side_px / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files += sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return files


def _plain(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem)
