"""How good a checkpoint is on rooms it has never seen, by the way every user goes: 640x480 in, metres out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.pictures import depth_pictures, sheet
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.metrics import evaluate_depth, mean_metrics
from depth_anything_ros.scenes import RANGES, SceneRanges
from depth_anything_ros.synthetic import SyntheticCamera

FIRST_SEED = 1_000_000


def validate(
    checkpoint: Path, scenes: int, first_seed: int = FIRST_SEED, ranges: SceneRanges = RANGES
) -> dict[str, float]:
    """AbsRel, RMSE and delta < 1.25 over as many scenes, one picture each, without any alignment of scale."""
    estimator, results = load(checkpoint), []
    for seed in range(first_seed, first_seed + scenes):
        frame = SyntheticCamera(seed, ranges=ranges).frame()
        results.append(evaluate_depth(estimator.estimate(frame.image_bgr).values, frame.depth))
    mean = mean_metrics(results)
    return {"scenes": scenes, "abs_rel": mean.abs_rel, "rmse_m": mean.rmse, "delta1": mean.delta1}


def picture_grid(checkpoint: Path, rows: int, first_seed: int = FIRST_SEED) -> NDArray[np.uint8]:
    """Rows of picture, truth, depth and error, of the first rooms that `validate` looks at."""
    estimator, lines = load(checkpoint), []
    for seed in range(first_seed, first_seed + rows):
        frame = SyntheticCamera(seed).frame()
        depth = estimator.estimate(frame.image_bgr).values
        lines.append([frame.image_bgr, *depth_pictures(depth, frame.depth).values()])
    return sheet(lines)


def load(checkpoint: Path) -> DepthEstimator:
    """The demonstration model from a file, as exact as it gets."""
    return DepthEstimator.load("vitt", "synthetic", checkpoint, device="cpu", precision="fp32", backend="torch")
