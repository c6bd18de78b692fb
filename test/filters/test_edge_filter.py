"""Flying points go, good ones stay: exact depth of rooms, smoothed as a network's output is."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.filters.edges import mark_flying
from depth_anything_ros.synthetic.camera import SyntheticCamera

WIDTH, HEIGHT = 320, 240
ROOMS = tuple(range(10, 18))
OFF_EVERY_SURFACE = 0.03  # of depth: what makes a point a flying one


@lru_cache
def exact(seed: int, distortion: str = "none") -> Tensor:
    return torch.from_numpy(SyntheticCamera(seed, WIDTH, HEIGHT, distortion).frame(1.0).depth)


def smoothed(depth: Tensor, factor: float) -> Tensor:
    """Downsampled and upsampled: silhouettes become ramps."""
    height, width = depth.shape
    small = (round(height / factor), round(width / factor))
    less = F.interpolate(depth[None, None], small, mode="bilinear", antialias=True)
    return F.interpolate(less, (height, width), mode="bilinear")[0, 0]


def is_flying(smooth: Tensor, depth: Tensor, factor: float) -> Tensor:
    """Where smoothed depth is near to no exact depth within the reach of the smoothing."""
    reach = math.ceil(factor)
    padded = F.pad(depth[None, None], (reach,) * 4, mode="replicate")
    neighbours = F.unfold(padded, 2 * reach + 1)[0].reshape(-1, *depth.shape)
    return ((neighbours - smooth).abs() / depth).amin(dim=0) > OFF_EVERY_SURFACE


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_nine_of_ten_flying_points_go_and_97_of_100_good_ones_stay(factor: float, distortion: str) -> None:
    gone = flying = 0
    for seed in ROOMS:
        depth = exact(seed, distortion)
        smooth = smoothed(depth, factor)
        should, does = is_flying(smooth, depth, factor), torch.isnan(mark_flying(smooth))
        assert (does & ~should).sum() < 0.03 * (~should).sum(), f"room {seed}"
        gone, flying = gone + int((does & should).sum()), flying + int(should.sum())
    assert flying > 1000
    assert gone >= 0.9 * flying


def test_exact_silhouettes_stay_on_both_sides() -> None:
    marked = [torch.isnan(mark_flying(exact(seed))).float().mean().item() for seed in ROOMS]
    assert max(marked) < 0.02


def test_points_of_a_sharp_step_stay_all_of_them() -> None:
    step = torch.full((60, 80), 4.0)
    step[:, 33:] = 1.5
    assert torch.equal(mark_flying(step), step)


def test_points_of_a_ramp_go_all_but_its_ends() -> None:
    ramp = torch.cat([torch.full((3,), 1.5), torch.linspace(1.5, 4.0, 8)[1:-1], torch.full((3,), 4.0)])
    row = torch.cat([torch.full((30,), 1.5), ramp, torch.full((30,), 4.0)])
    marked = torch.isnan(mark_flying(row.expand(60, -1), reach_px=8))
    assert marked[:, 33:39].all()
    assert not marked[:, :33].any()
    assert not marked[:, 39:].any()


@pytest.mark.parametrize("height_m", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("roll_rad", [0.0, 0.4])
def test_a_floor_stays_down_to_the_most_grazing_angle(height_m: float, roll_rad: float) -> None:
    v, u = torch.meshgrid(torch.arange(480.0), torch.arange(640.0), indexing="ij")
    down = (math.cos(roll_rad) * (v - 239.5) + math.sin(roll_rad) * (u - 319.5)) / 500
    floor = torch.where(down > 0.01, height_m / down, torch.inf)  # seen at 0.6 degrees and more
    marked = torch.isnan(mark_flying(floor))
    assert marked.float().mean() < 0.001  # at the picture's border a surface cannot be seen to go on
    assert not marked[20:-20, 20:-20].any()


def test_a_corner_of_two_walls_stays() -> None:
    u = torch.arange(640.0)
    away = torch.minimum(1 / (0.2 + (u - 300).clamp(min=0) * 0.004), 1 / (0.2 + (300 - u).clamp(min=0) * 0.002))
    assert torch.equal(mark_flying(away.expand(480, -1)), away.expand(480, -1))


def test_a_pole_in_front_of_a_wall_stays() -> None:
    pole = torch.full((60, 80), 4.0)
    pole[:, 40:44] = 1.5
    assert torch.equal(mark_flying(pole, reach_px=8), pole)


def test_columns_are_treated_as_rows_are() -> None:
    smooth = smoothed(exact(ROOMS[0]), 2)
    np.testing.assert_array_equal(mark_flying(smooth.T.contiguous()).T, mark_flying(smooth))


def test_the_scale_of_depth_changes_nothing() -> None:
    smooth = smoothed(exact(ROOMS[0]), 2)
    assert torch.equal(torch.isnan(mark_flying(smooth * 4)), torch.isnan(mark_flying(smooth)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_what_is_no_depth_stays_as_it_is_and_takes_nothing_with_it(bad: float) -> None:
    depth = torch.full((60, 80), 3.0)
    depth[20:30, 30:50] = bad
    np.testing.assert_array_equal(mark_flying(depth), depth)


def test_points_between_something_and_what_is_beyond_range_go() -> None:
    row = torch.cat([torch.full((30,), 2.0), torch.tensor([4.0, 8.0, 16.0]), torch.full((30,), torch.inf)])
    marked = torch.isnan(mark_flying(row.expand(60, -1), reach_px=8))
    assert marked[0].nonzero().flatten().tolist() == [30, 31, 32]


def test_the_depth_handed_over_is_not_written_to() -> None:
    smooth = smoothed(exact(ROOMS[0]), 2)
    kept = smooth.clone()
    assert torch.isnan(mark_flying(smooth)).any()
    assert torch.equal(smooth, kept)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (7, 3)])
def test_any_size_will_do(shape: tuple[int, int]) -> None:
    assert torch.equal(mark_flying(torch.full(shape, 2.0)), torch.full(shape, 2.0))


def test_bad_input_is_named() -> None:
    for depth in (torch.ones(4), torch.ones(0, 4), torch.ones((4, 4), dtype=torch.int32)):
        with pytest.raises(InputError, match=r"depth must be a float array or tensor \(H, W\)"):
            mark_flying(depth)
    with pytest.raises(SettingsError, match=r"reach_px.*0"):
        mark_flying(torch.ones(4, 4), reach_px=0)
    for tolerance in (0.0, 1.0, math.nan):
        with pytest.raises(SettingsError, match=f"tolerance.*{tolerance}"):
            mark_flying(torch.ones(4, 4), tolerance=tolerance)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_agrees_with_the_cpu() -> None:
    smooth = smoothed(exact(ROOMS[0]), 2)
    on_cuda = torch.isnan(mark_flying(smooth.cuda()))
    assert on_cuda.is_cuda
    assert (on_cuda.cpu() != torch.isnan(mark_flying(smooth))).float().mean() < 1e-4
