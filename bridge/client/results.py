"""What the programs write: files, and the range that a line tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.io.whole_files import write_file


def depth_range(values: NDArray[np.float32]) -> tuple[float, float]:
    """Least and largest finite depth (the sky's is infinite); 0 and 0 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises CannotWrite."""
    write_file(path, lambda temporary: temporary.write_bytes(content))
