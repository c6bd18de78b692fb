"""The picture that the benchmarks work on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """uint8 BGR (height, width, 3): smooth shading, an edge and a camera's grain, always the same."""
    v, u = np.mgrid[0:height, 0:width] / height
    shading = np.stack([np.sin(4 * u + 2 * v), np.cos(5 * v), np.sin(9 * u * v)], axis=-1) * 60 + 120
    shading[height // 3 :, width // 2 :] *= 0.6
    grain = np.random.default_rng(0).normal(0, 4, shading.shape)
    return np.clip(shading + grain, 0, 255).astype(np.uint8)
