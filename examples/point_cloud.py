"""Depth to a coloured point cloud: `python examples/point_cloud.py`, then open cloud.ply in a viewer.

MeshLab, CloudCompare and Blender read it. With `pip install open3d`, `--show` opens a window.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from depth_anything_ros import DepthEstimator
from depth_anything_ros.filters.edges import mark_flying
from depth_anything_ros.io.formats import encode_ply
from depth_anything_ros.synthetic.camera import SyntheticCamera


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("cloud.ply"))
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()

    camera = SyntheticCamera(seed=7)  # for your own: CameraModel(fx, fy, cx, cy, width, height)
    image = camera.frame(time_s=0.0).image_bgr
    estimator = DepthEstimator.load(encoder="vitt", dataset="synthetic")

    depth = estimator.estimate(image).values  # float32 (H, W), metres
    depth = mark_flying(depth)  # NaN between a foreground and its background
    points = camera.model.back_project(depth)  # float32 (H, W, 3), metres; x right, y down, z forward
    args.out.write_bytes(encode_ply(points, image))
    print(f"wrote {args.out}: {np.isfinite(points).all(axis=2).sum()} points")

    if args.show:
        import open3d  # type: ignore[import-not-found, unused-ignore]

        open3d.visualization.draw_geometries([open3d.io.read_point_cloud(str(args.out))])


if __name__ == "__main__":
    main()
