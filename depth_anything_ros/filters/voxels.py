"""Thin points to one for each voxel: the centroid of those in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from depth_anything_ros.errors import SettingsError

# Voxels are counted from the origin, up to so many each way: 10 km at a centimetre. Points beyond are left out.
MAX_CELL = 2**20 - 1
STRIP_POINTS = 32_768  # worked on at a time in host memory, so that what is between the steps stays in the cache


def voxel_centroids(points: Tensor, voxel_m: float) -> tuple[Tensor, Tensor]:
    """Return the centroid of the points in each voxel, and one of these points.

    Args:
        points: float32 (3, N), x, y and z in metres, on any device; those that are not finite are left out. In host
            memory it is fast for points of neighbouring pixels one after the other, as in a picture.
        voxel_m: side of a voxel; one has a corner at the origin.

    Returns:
        float32 (M, 3) and int64 (M,), the index of a point in each, both on the device.

    Raises:
        SettingsError: a side that is not positive.
    """
    if not voxel_m > 0:
        raise SettingsError(f"the side of a voxel must be a positive number of metres, got {voxel_m}")
    if points.device.type == "cpu":
        centroids, one = _by_runs(points.numpy(), voxel_m)
        return torch.from_numpy(centroids), torch.from_numpy(one)
    return _by_scatter(points, voxel_m)


def _by_runs(points: NDArray[np.float32], voxel_m: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sum neighbours in one voxel first: far fewer runs than points have to be sorted."""
    strips = [
        _runs(points[:, first : first + STRIP_POINTS], voxel_m) for first in range(0, points.shape[1], STRIP_POINTS)
    ]
    starts = np.concatenate([strip[0] + i * STRIP_POINTS for i, strip in enumerate(strips)])
    cells, sums = (np.concatenate([strip[k] for strip in strips], axis=1) for k in (1, 2))
    counts = np.diff(starts, append=points.shape[1])
    if not np.abs(cells).max(initial=0) <= MAX_CELL:  # or there is a NaN
        known = (np.abs(cells) <= MAX_CELL).all(axis=0)
        starts, counts, cells, sums = starts[known], counts[known], cells[:, known], sums[:, known]
    # In NumPy: torch would share so little work between threads, and wait for the slower one.
    keys = _keys(*(cells.astype(np.int64) + MAX_CELL))
    order = np.argsort(keys)
    is_new = np.diff(keys[order], prepend=-1) != 0
    voxel = np.empty_like(order)
    voxel[order] = np.cumsum(is_new) - 1
    total = np.stack([np.bincount(voxel, along) for along in sums], axis=-1)
    return (total / np.bincount(voxel, counts)[:, None]).astype(np.float32), starts[order[is_new]]


def _runs(
    points: NDArray[np.float32], voxel_m: float
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return where runs of points (3, N) in one voxel start (R,), their voxels (3, R), and their sums (3, R)."""
    with np.errstate(invalid="ignore"):
        cells = np.floor(points * np.float32(1 / voxel_m))
    changes = cells[0, 1:] != cells[0, :-1]
    for along in cells[1:]:
        changes |= along[1:] != along[:-1]
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return starts, cells[:, starts], np.add.reduceat(points, starts, axis=1)


def _by_scatter(points: Tensor, voxel_m: float) -> tuple[Tensor, Tensor]:
    """Sort and add on the device, all points side by side."""
    cells = (points * (1 / voxel_m)).floor()
    index = torch.nonzero((cells.abs() <= MAX_CELL).all(0))[:, 0]
    _, voxel, counts = torch.unique(
        _keys(*(cells[:, index].long() + MAX_CELL)), return_inverse=True, return_counts=True
    )
    total = points.new_zeros((counts.numel(), 3), dtype=torch.float64)
    total.index_add_(0, voxel, points[:, index].double().T)
    one = torch.full_like(counts, points.shape[1]).scatter_reduce_(0, voxel, index, "amin")
    return (total / counts[:, None]).float(), one


def _keys(x: Any, y: Any, z: Any) -> Any:
    """Return a number int64 (N,) for each voxel of an array or a tensor, 21 bits for each direction."""
    return (x << 42) | (y << 21) | z
