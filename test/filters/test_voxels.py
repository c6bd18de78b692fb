"""One point for each voxel: the centroid of what is in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.filters import voxels
from depth_anything_ros.filters.voxels import voxel_centroids


def expected(points: NDArray[np.float32], voxel_m: float) -> NDArray[np.float64]:
    """Centroids of points (3, N), sorted, by a dictionary."""
    inside: dict[tuple[float, ...], list[NDArray[np.float64]]] = {}
    for point in points.T[np.isfinite(points).all(axis=0)]:
        cell = np.floor(point * np.float32(1 / voxel_m))
        inside.setdefault(tuple(cell), []).append(point.astype(np.float64))
    return np.array(sorted(tuple(np.mean(found, axis=0)) for found in inside.values())).reshape(-1, 3)


@pytest.mark.parametrize("strip", [7, 1000])
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.3, 2.0]), st.floats(0.0, 1.0))
def test_the_centroids_are_those_of_a_dictionary(strip: int, seed: int, voxel_m: float, share_of_holes: float) -> None:
    rng = np.random.default_rng(seed)
    points = np.cumsum(rng.normal(0, 0.02, (3, 60)), axis=1).astype(np.float32)
    points[:, rng.random(60) < share_of_holes] = rng.choice([np.nan, np.inf, -np.inf])
    wanted = expected(points, voxel_m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voxels, "STRIP_POINTS", strip)
        on_host = voxel_centroids(torch.from_numpy(points), voxel_m)
    for found, one in (on_host, voxels._by_scatter(torch.from_numpy(points), voxel_m)):  # as on a GPU
        np.testing.assert_allclose(np.array(sorted(map(tuple, found.numpy()))).reshape(-1, 3), wanted, atol=1e-6)
        cells = np.floor(points[:, one.numpy()] * np.float32(1 / voxel_m))
        assert len(set(map(tuple, cells.T))) == len(found) == len(one), "one point of each voxel"


def test_points_too_far_to_be_counted_are_left_out() -> None:
    points = torch.tensor([[0.0, 1e9], [0.0, 0.0], [1.0, 1.0]])
    centroids, one = voxel_centroids(points, 0.05)
    assert (centroids.tolist(), one.tolist()) == ([[0.0, 0.0, 1.0]], [0])


@pytest.mark.parametrize("voxel_m", [0.0, -1.0, float("nan")])
def test_a_voxel_without_a_size_is_refused(voxel_m: float) -> None:
    with pytest.raises(SettingsError, match="positive"):
        voxel_centroids(torch.zeros(3, 1), voxel_m)
