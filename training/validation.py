"""How good a checkpoint is on rooms it has never seen, through the public API: an image in, metres out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.pictures import depth_pictures, sheet
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.metrics import DepthMetrics, evaluate_depth, mean_metrics
from depth_anything_ros.model.weights import DEMONSTRATION
from depth_anything_ros.settings import SyntheticCameraSettings
from depth_anything_ros.synthetic.camera import SyntheticCamera
from depth_anything_ros.synthetic.scenes import RANGES, SceneRanges

FIRST_SEED = 1_000_000


def load(checkpoint: Path | None = None) -> DepthEstimator:
    """Load the demonstration model, from a file or the bundled one, in float32 on the CPU."""
    return DepthEstimator.load(*DEMONSTRATION, checkpoint, device="cpu", precision="fp32", backend="torch")


def score(
    estimator: DepthEstimator,
    first_seed: int,
    scenes: int,
    ranges: SceneRanges = RANGES,
    width: int = SyntheticCameraSettings.width,
    height: int = SyntheticCameraSettings.height,
) -> DepthMetrics:
    """Mean scores over as many rooms, one picture of each, without any alignment of scale."""
    results = []
    for seed in range(first_seed, first_seed + scenes):
        frame = SyntheticCamera(seed, width, height, ranges=ranges).frame()
        results.append(evaluate_depth(estimator.estimate(frame.image_bgr).values, frame.depth))
    return mean_metrics(results)


def picture_grid(estimator: DepthEstimator, first_seed: int, rows: int) -> NDArray[np.uint8]:
    """Rows of picture, truth, depth and error, of the first rooms that `score` looks at."""
    lines = []
    for seed in range(first_seed, first_seed + rows):
        frame = SyntheticCamera(seed).frame()
        depth = estimator.estimate(frame.image_bgr).values
        lines.append([frame.image_bgr, *depth_pictures(depth, frame.depth).values()])
    return sheet(lines)
