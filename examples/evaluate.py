"""How far an estimator is from the truth: `python examples/evaluate.py room`.

The folder holds image/NAME.png, and depth/NAME.npy in metres: `depth_anything render --out room --frames 10` writes
one. `depth_anything evaluate` compares two folders of depth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from depth_anything_ros import DepthEstimator
from depth_anything_ros.metrics import evaluate_depth, mean_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="vitt")
    parser.add_argument("--dataset", default="synthetic")
    args = parser.parse_args()

    paths = sorted(args.folder.glob("image/*.png"))
    if not paths:
        parser.error(f"no pictures in {args.folder / 'image'}: `depth_anything render --out {args.folder}` writes some")
    estimator = DepthEstimator.load(encoder=args.encoder, dataset=args.dataset)
    scores = []
    for path in paths:
        image = np.asarray(cv2.imread(str(path)), np.uint8)
        truth = np.load(args.folder / "depth" / f"{path.stem}.npy")
        scores.append(evaluate_depth(estimator.estimate(image).values, truth))
        print(f"{path.name}: AbsRel {scores[-1].abs_rel:.3f}")
    mean = mean_metrics(scores)
    print(f"all {len(scores)}: AbsRel {mean.abs_rel:.3f}, RMSE {mean.rmse:.3f} m, delta < 1.25 {mean.delta1:.3f}")


if __name__ == "__main__":
    main()
