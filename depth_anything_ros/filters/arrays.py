"""Depth for the filters: NumPy arrays and torch tensors alike, checked once."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depth_anything_ros.errors import InputError

Depth = TypeVar("Depth", NDArray[np.floating[Any]], Tensor)


def to_tensor(depth: NDArray[np.floating[Any]] | Tensor) -> Tensor:
    """Return depth (H, W) as a tensor: a tensor itself, an array as a copy in host memory.

    Raises:
        InputError: not floating-point (H, W), or empty.
    """
    is_float = depth.is_floating_point() if isinstance(depth, Tensor) else np.issubdtype(depth.dtype, np.floating)
    if depth.ndim != 2 or 0 in depth.shape or not is_float:
        raise InputError(f"depth must be a float array or tensor (H, W), got {depth.dtype} {tuple(depth.shape)}")
    return depth if isinstance(depth, Tensor) else torch.tensor(depth)


def like(depth: Depth, result: Tensor) -> Depth:
    """Return a result as what the depth came as."""
    return result if isinstance(depth, Tensor) else result.numpy()
