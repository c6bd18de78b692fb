"""Depth of one picture, as a colour picture beside it: `python examples/estimate.py [PHOTO]`.

Without a photo a rendered room is used, and the demonstration model that comes with the package. A photo needs real
weights (`depth_anything download vits hypersim`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from depth_anything_ros import DepthEstimator
from depth_anything_ros.io.formats import colorize
from depth_anything_ros.io.pictures import read_image
from depth_anything_ros.synthetic.camera import SyntheticCamera


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("depth.png"))
    args = parser.parse_args()

    if args.photo is None:
        estimator = DepthEstimator.load(encoder="vitt", dataset="synthetic")
        image = SyntheticCamera(seed=7).frame(time_s=0.0).image_bgr
    else:
        image = read_image(args.photo)
        estimator = DepthEstimator.load(encoder="vits", dataset="hypersim")

    depth = estimator.estimate(image).values  # float32 (H, W), metres
    print(f"{depth.min():.2f} to {depth.max():.2f} m")
    cv2.imwrite(str(args.out), np.hstack([image, colorize(depth, float(depth.min()), float(depth.max()))]))
    print(f"wrote {args.out}: red is near, blue is far")


if __name__ == "__main__":
    main()
