"""The synthetic camera and the demonstration model: how fast rooms are rendered, and how true their depth comes out."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from time import perf_counter

import torch

from benchmarks import median_ms, report, versions
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.metrics import evaluate_depth, mean_metrics
from depth_anything_ros.model.weights import DEMONSTRATION
from depth_anything_ros.synthetic.camera import SyntheticCamera

FIRST_SEED = 3_000_000  # training, the model card and the tests use others
MEASURES = ("abs_rel", "rmse", "silog", "delta1")


def main(argv: list[str]) -> None:
    """Print one JSON line: milliseconds a picture of 640x480, and scores without any alignment of scale."""
    parser = argparse.ArgumentParser(prog="benchmarks synthetic", description=__doc__)
    parser.add_argument("--scenes", type=int, default=40, help="rooms, one picture each")
    parser.add_argument("--precision", default="fp32", help="of the network")
    args = parser.parse_args(argv)
    estimator = DepthEstimator.load(*DEMONSTRATION, precision=args.precision)
    estimator.estimate(SyntheticCamera(FIRST_SEED).frame().image_bgr)  # the first one pays for what is set up once
    render_s, estimate_s, scores = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + args.scenes):
        camera = SyntheticCamera(seed)
        start = perf_counter()
        frame = camera.frame()
        rendered = perf_counter()
        depth = estimator.estimate(frame.image_bgr)
        render_s.append(rendered - start)
        estimate_s.append(perf_counter() - rendered)
        scores.append(evaluate_depth(depth.values, frame.depth))
    mean = asdict(mean_metrics(scores))
    report(
        "synthetic",
        device=str(estimator.device),
        threads=torch.get_num_threads(),
        versions=versions("torch", "numpy"),
        scenes=args.scenes,
        precision=estimator.backend.precision,
        render_ms=median_ms(render_s),
        estimate_ms=median_ms(estimate_s),
        **{name: round(mean[name], 4) for name in MEASURES},
    )
