"""A still scene flickers less, and nothing that moves lags."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.filters.temporal import TemporalFilter
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame, camera_rays, expose, render
from depth_anything_ros.synthetic.ray_caster import stack_scenes
from training.validation import load

PERIOD_S = 0.1
SEEDS = (3_000_100, 3_000_101)
MODEL_SEED = SEEDS[0]  # the only one that the model looks at: that takes its time
STILL_FRAMES, MOVING_FRAMES = 10, 8
WIDTH, HEIGHT = 320, 240


@lru_cache
def model() -> DepthEstimator:
    return load()


@lru_cache
def still_depth(seed: int) -> Tensor:
    """The demonstration model's depth (N, H, W) of one view with fresh noise in every picture."""
    camera = SyntheticCamera(seed, WIDTH, HEIGHT)
    scenes = stack_scenes([camera.scene], torch.device("cpu"))
    colors, _ = render(scenes, *camera.way.pose(1.0), camera_rays(camera.model))
    colors = colors.reshape(3, HEIGHT, WIDTH)
    pictures = [expose(colors, torch.Generator().manual_seed(i)).numpy() for i in range(STILL_FRAMES)]
    return torch.stack([model().estimate_tensors([picture]).depth[0] for picture in pictures])


@lru_cache
def moving_frames(seed: int) -> list[SyntheticFrame]:
    camera = SyntheticCamera(seed, WIDTH, HEIGHT)
    return [camera.frame(i * PERIOD_S) for i in range(MOVING_FRAMES)]


@lru_cache
def truth(seed: int) -> Tensor:
    """Exact depth (N, H, W) of a camera on its way."""
    return torch.stack([torch.from_numpy(frame.depth) for frame in moving_frames(seed)])


@lru_cache
def moving_depth(seed: int) -> Tensor:
    """The demonstration model's depth (N, H, W) of the same."""
    return torch.stack([model().estimate_tensors([frame.image_bgr]).depth[0] for frame in moving_frames(seed)])


def noisy(depth: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(depth.shape, generator=torch.Generator().manual_seed(0))
    return depth * torch.exp(sigma * noise)


def filtered(frames: Iterable[Tensor], period_s: float = PERIOD_S) -> Tensor:
    smooth = TemporalFilter()
    return torch.stack([smooth(depth, 1000 + i * period_s) for i, depth in enumerate(frames)])


def flicker(frames: Tensor) -> float:
    """Temporal standard deviation of log depth, mean over the picture."""
    return frames.log().std(dim=0).mean().item()


def error(frames: Tensor, exact: Tensor) -> float:
    return ((frames - exact).abs() / exact).mean().item()


def test_a_still_scene_flickers_half_as_much_from_the_first_picture_on() -> None:
    depth = still_depth(MODEL_SEED)
    assert flicker(filtered(depth)) <= 0.5 * flicker(depth)


def test_a_moving_camera_sees_no_lag() -> None:
    depth, exact = moving_depth(MODEL_SEED), truth(MODEL_SEED)
    assert error(filtered(depth), exact) < 1.05 * error(depth, exact)


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05])
def test_noise_of_single_pixels_is_averaged_out_in_a_still_scene(sigma: float) -> None:
    depth = noisy(truth(SEEDS[0])[0].expand(12, -1, -1), sigma)
    assert flicker(filtered(depth)) <= 0.5 * flicker(depth)


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("seed", SEEDS)
def test_noise_of_single_pixels_is_no_excuse_for_lag(seed: int, sigma: float) -> None:
    depth, exact = noisy(truth(seed), sigma), truth(seed)
    assert error(filtered(depth), exact) < 1.05 * error(depth, exact)


def test_smoothing_depends_on_time_and_not_on_the_number_of_pictures() -> None:
    """After a small step, the same share of it is left one second later, at whatever rate."""
    before, after = torch.full((32, 32), 4.0), torch.full((32, 32), 4.004)
    left = []
    for rate in (5, 10, 30):
        frames = [before, *[after] * rate]
        left.append((math.log(4.004) - filtered(frames, 1 / rate)[-1, 0, 0].log().item()) / math.log(1.001))
    assert left == pytest.approx([math.exp(-1)] * 3, rel=0.2)  # a little less: the rule lets go of steps softly


# ---- what is let go of at once


def room(seed: int = 0) -> Tensor:
    return truth(SEEDS[seed])[0]


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.1, 3.0])
def test_what_comes_into_a_still_scene_is_there_at_once_and_gone_at_once(factor: float) -> None:
    with_object = room().clone()
    with_object[50:110, 150:190] *= factor
    smooth = TemporalFilter()
    stamp_s = 0.0
    for picture in (room(), room(), with_object, with_object, room()):
        stamp_s += PERIOD_S
        np.testing.assert_allclose(smooth(picture, stamp_s), picture, rtol=1e-5)


def test_a_single_changed_pixel_is_there_at_once() -> None:
    spot = room().clone()
    spot[100, 100] *= 2
    np.testing.assert_allclose(filtered([room(), room(), spot])[-1], spot, rtol=1e-3)


def test_another_scene_is_there_at_once() -> None:
    sequence = noisy(torch.stack([room(0)] * 3 + [room(1)]), 0.01)
    np.testing.assert_allclose(filtered(sequence)[-1], sequence[-1], rtol=1e-5)


@pytest.mark.parametrize("stamp_s", [9.0, 10.0, 16.0, -1e9, math.nan])
def test_a_stamp_that_stands_or_goes_back_or_jumps_begins_anew(stamp_s: float) -> None:
    first, second = noisy(torch.stack([room()] * 2), 0.01)
    smooth = TemporalFilter()
    smooth(first, 10.0)
    assert torch.equal(smooth(second, stamp_s), second)


def test_a_picture_of_another_size_begins_anew() -> None:
    smooth = TemporalFilter()
    smooth(room(), 10.0)
    assert torch.equal(smooth(room()[:50, :70], 10.1), room()[:50, :70])


def test_reset_forgets() -> None:
    first, second = noisy(torch.stack([room()] * 2), 0.01)
    smooth = TemporalFilter()
    smooth(first, 10.0)
    smooth.reset()
    assert torch.equal(smooth(second, 10.1), second)


def test_two_cameras_know_nothing_of_each_other() -> None:
    first, second = noisy(torch.stack([room()] * 2), 0.01)
    one, other = TemporalFilter(), TemporalFilter()
    one(first, 10.0)
    assert torch.equal(other(second, 10.1), second)


# ---- what is no depth


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_a_hole_passes_as_it_came_and_spoils_nothing(bad: float) -> None:
    pictures = noisy(torch.stack([room()] * 4), 0.01)
    without = filtered(pictures)
    pictures[1, 40:60, 50:90] = bad
    smooth = filtered(pictures)
    assert torch.equal(smooth[1, 40:60, 50:90], pictures[1, 40:60, 50:90]) or math.isnan(bad)
    assert torch.isnan(smooth[1, 40:60, 50:90]).all() == math.isnan(bad)
    assert torch.isfinite(smooth[2:]).all()
    outside = torch.ones(room().shape, dtype=torch.bool)
    outside[16:96, 16:128] = False  # beyond the cells around the hole
    np.testing.assert_allclose(smooth[:, outside], without[:, outside], rtol=2e-4)
    assert flicker(smooth[2:, 40:60, 50:90]) < 0.7 * flicker(pictures[2:, 40:60, 50:90])


def test_a_hole_that_closes_is_filled_at_once() -> None:
    pictures = noisy(torch.stack([room()] * 2), 0.01)
    pictures[0, 40:60, 50:90] = math.nan
    np.testing.assert_allclose(filtered(pictures)[1, 40:60, 50:90], pictures[1, 40:60, 50:90], rtol=1e-5)


def test_pictures_of_nothing_are_survived() -> None:
    nothing = torch.full((20, 30), math.nan)
    assert torch.isnan(filtered([nothing, nothing])).all()
    assert torch.equal(filtered([nothing, torch.ones(20, 30)])[1], torch.ones(20, 30))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 17)])
def test_any_size_will_do(shape: tuple[int, int]) -> None:
    assert filtered([torch.full(shape, 2.0)] * 3).shape == (3, *shape)


def test_depth_that_the_caller_still_holds_is_not_written_to() -> None:
    pictures = noisy(torch.stack([room()] * 3), 0.01)
    kept = pictures.clone()
    filtered(pictures)
    assert torch.equal(pictures, kept)


@pytest.mark.parametrize("options", [{"time_constant_s": 0.0}, {"tolerance": -1.0}, {"time_constant_s": math.nan}])
def test_a_number_that_makes_no_sense_is_named(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(options))}.*{next(iter(options.values()))}"):
        TemporalFilter(**options)


@pytest.mark.parametrize("depth", [torch.ones(4), torch.ones(0, 4), torch.ones((4, 4), dtype=torch.int32)])
def test_what_is_no_depth_map_is_named(depth: Tensor) -> None:
    with pytest.raises(InputError, match=r"depth must be a float array or tensor \(H, W\)"):
        TemporalFilter()(depth, 0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_agrees_with_the_cpu() -> None:
    pictures = noisy(truth(SEEDS[0]), 0.01)
    on_cuda = filtered(pictures.cuda())
    assert on_cuda.is_cuda
    np.testing.assert_allclose(on_cuda.cpu(), filtered(pictures), rtol=1e-3)
