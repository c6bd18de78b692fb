"""The demonstration model is as good as its card says, on rooms it has never seen."""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.checkpoint_reading import file_sha256
from depth_anything_ros.model.checkpoint_search import bundled_checkpoint
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame
from depth_anything_ros.synthetic.scenes import RANGES, Range, SceneRanges
from training.validation import load, score

ROOT = Path(__file__).parents[2]
SCENES = 24
EDGE_SCENES = 8
EDGE_SIZE = (320, 240)  # as good as 640x480 (AbsRel 0.031 for both), and four times as fast to render
# No seed of training or of the card's own figures lies here; which of them are taken is another matter every time.
SEEDS = 2_000_000


@pytest.fixture(scope="module")
def estimator() -> DepthEstimator:
    return load()


def fresh_seed() -> int:
    return SEEDS + secrets.randbelow(10**9)


@pytest.mark.slow
def test_depth_of_fresh_rooms_is_right_within_a_tenth(estimator: DepthEstimator) -> None:
    seed = fresh_seed()
    mean = score(estimator, seed, SCENES)
    assert mean.abs_rel <= 0.10, f"seeds from {seed}: {mean}"
    assert mean.delta1 >= 0.90, f"seeds from {seed}: {mean}"


def at(value: float) -> Range:
    return Range(value, value)


EDGES: dict[str, SceneRanges] = {
    **{f"room {size} m": replace(RANGES, room_m=at(size)) for size in (RANGES.room_m.low, RANGES.room_m.high)},
    **{
        f"height {height} m, focal ratio {focal}": replace(RANGES, camera_height_m=at(height), focal_ratio=at(focal))
        for height in (RANGES.camera_height_m.low, RANGES.camera_height_m.high)
        for focal in (RANGES.focal_ratio.low, RANGES.focal_ratio.high)
    },
    **{
        f"pitch {pitch} deg": replace(RANGES, pitch_deg=at(pitch))
        for pitch in (RANGES.pitch_deg.low, RANGES.pitch_deg.high)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES)
def test_depth_at_the_edges_of_the_stated_ranges_is_nearly_as_good(estimator: DepthEstimator, edge: str) -> None:
    seed = fresh_seed()
    mean = score(estimator, seed, EDGE_SCENES, EDGES[edge], *EDGE_SIZE)
    assert mean.abs_rel <= 0.12, f"seeds from {seed}: {mean}"
    assert mean.delta1 >= 0.87, f"seeds from {seed}: {mean}"


def frames(count: int, distortion: str = "none") -> list[tuple[SyntheticCamera, SyntheticFrame]]:
    cameras = [SyntheticCamera(seed, distortion=distortion) for seed in range(SEEDS, SEEDS + count)]
    return [(camera, camera.frame()) for camera in cameras]


@pytest.mark.slow
def test_a_cloud_through_a_lens_is_as_good_as_one_without(estimator: DepthEstimator) -> None:
    """The same rooms: how far points are from their true place, as a share of their distance from the camera."""

    def error(distortion: str) -> float:
        errors = []
        for camera, frame in frames(12, distortion):
            points = camera.model.back_project(estimator.estimate(frame.image_bgr).values)
            true = camera.model.back_project(frame.depth)
            errors.append(np.mean(np.linalg.norm(points - true, axis=-1) / np.linalg.norm(true, axis=-1)))
        return float(np.mean(errors))

    assert error("plumb_bob") <= 1.10 * error("none")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_and_devices_agree_within_a_hundredth_of_the_range(
    estimator: DepthEstimator, device: str, precision: str
) -> None:
    other = DepthEstimator.load("vitt", "synthetic", device=device, precision=precision, backend="torch")
    for _, frame in frames(3):
        difference = np.abs(other.estimate(frame.image_bgr).values - estimator.estimate(frame.image_bgr).values)
        assert np.percentile(difference, 99.9) <= 0.01 * estimator.max_depth
        assert difference.mean() <= 0.001 * estimator.max_depth


# ---- what comes with it


def test_the_weights_are_those_of_the_model_card_and_small() -> None:
    path = bundled_checkpoint("vitt", "synthetic")
    assert path is not None
    assert path.stat().st_size <= 8_000_000
    card = (ROOT / "docs/demo_model.md").read_text()
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [file_sha256(path)]


def test_nobody_uses_it_without_being_told_what_it_is_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        DepthEstimator.load("vitt", "synthetic", device="cpu")
    said = [record for record in caplog.records if "not for robots" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]
    assert "`depth_anything download vits hypersim`" in said[0].getMessage()


def test_it_is_given_no_more_pixels_than_it_was_trained_for() -> None:
    sizes = [DepthEstimator.load("vitt", "synthetic", input_size=size, device="cpu").input_size for size in (112, 518)]
    assert sizes == [112, 224]


def test_no_other_encoder_has_bundled_weights() -> None:
    pairs = [("vits", "hypersim"), ("vits", "synthetic"), ("vitt", "hypersim"), ("toy", "synthetic")]
    assert [bundled_checkpoint(*pair) for pair in pairs] == [None] * 4
