"""What the programs write: files, and the range that a line tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.codec import encode_depth_png16, fitting_png_scale
from depth_anything_ros.io.formats import colorize, encode_npy, encode_png
from depth_anything_ros.io.whole_files import write_file

LEAST_RANGE = 1e-3  # of colours, where all depth is the same


def depth_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Least and largest finite depth (the sky's is infinite); 0 and 0 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def write_depth(target: Path, values: NDArray[np.float32], kind: str, max_depth: float | None = None) -> str:
    """Write depth, `_depth.png` of metres and `_depth.npy` of others, and `_color.png`; returns what is said of them.

    Args:
        target: the files' path but for what is appended.
        max_depth: metres that have to fit into the PNG; None is the largest that there is.
    """
    lowest, highest = depth_range(values)
    if kind == "metric":
        scale = fitting_png_scale(max_depth or highest)
        write(Path(f"{target}_depth.png"), encode_depth_png16(values, scale))
        written = f"_depth.png (metres x {scale:g})"
    else:
        write(Path(f"{target}_depth.npy"), encode_npy(values))
        written = f"_depth.npy ({kind}: no metres)"
    highest = max(highest, lowest + LEAST_RANGE)
    near, far = (highest, lowest) if kind == "relative" else (lowest, highest)
    write(Path(f"{target}_color.png"), encode_png(colorize(values, near, far)))
    return f"{written}, _color.png"


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises CannotWrite."""
    write_file(path, lambda temporary: temporary.write_bytes(content))
