"""Depth from a server: start `depth_anything_bridge`, then `python examples/client.py photo.jpg`.

Needs `pip install '.[client]'` alone: no torch, no ROS.
"""

from __future__ import annotations

import argparse

from bridge.client import DepthClient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    args = parser.parse_args()

    with DepthClient(args.url) as client:
        depth = client.metric_depth(args.photo)
    middle = tuple(side // 2 for side in depth.values.shape)
    print(f"{depth.model_key}: {depth.values[middle]:.2f} m in the middle")


if __name__ == "__main__":
    main()
