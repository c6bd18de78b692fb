"""What the tests of the recipes share: parameter files, cameras in a room, clouds as arrays, and drawings of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from sensor_msgs.msg import LaserScan, PointCloud2

from depth_anything_ros.synthetic.camera import SyntheticCamera

CONFIG = Path(__file__).parents[2] / "config"
Array = NDArray[np.float32]
Picture = NDArray[np.uint8]


def recipe(name: str) -> dict[str, Any]:
    """Parameters of a recipe's file."""
    return dict(yaml.safe_load((CONFIG / f"recipes/{name}.yaml").read_text())["/**"]["ros__parameters"])


def mounted(room: SyntheticCamera) -> dict[str, float]:
    """What a user has to write into the file: how the camera is mounted."""
    return {"camera_pitch_rad": room.way.pitch_rad, "camera_height_m": room.way.height_m}


def xyz(cloud: PointCloud2) -> Array:
    """Finite points (N, 3)."""
    data = np.frombuffer(bytes(cloud.data), np.uint8).reshape(-1, cloud.point_step)
    points = np.ascontiguousarray(data[:, :12]).view(np.float32)
    return points[np.isfinite(points).all(axis=1)]


def from_above(points: Array, scan: LaserScan) -> Picture:
    """Draw a cloud in blue and a scan in red, 480x480: the camera is at the bottom, looks up, a metre is 75 pixels."""
    picture = np.full((480, 480, 3), 255, np.uint8)
    for metre in range(1, 7):
        cv2.circle(picture, (240, 470), 75 * metre, (225, 225, 225), 1)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    ranges = np.array(scan.ranges)
    beams = np.stack([-ranges * np.sin(angles), np.zeros_like(ranges), ranges * np.cos(angles)], axis=1)
    for found, color, radius in ((points, (200, 120, 40), 1), (beams[np.isfinite(ranges)], (40, 40, 220), 2)):
        for x, _, z in found:
            cv2.circle(picture, (int(240 + 75 * x), int(470 - 75 * z)), radius, color, -1)
    cv2.circle(picture, (240, 470), 5, (0, 0, 0), -1)
    return picture


def floor_plan(size_m: Array, scale_px: float, margin_px: int = 20) -> Picture:
    """Return a white picture of a room's floor with a line for its walls: north is up, a metre is `scale_px` pixels."""
    width, height = (round(scale_px * side) + 2 * margin_px for side in size_m[:2])
    picture = np.full((height, width, 3), 255, np.uint8)
    cv2.rectangle(picture, (margin_px, margin_px), (width - margin_px, height - margin_px), (150, 150, 150), 1)
    return picture


def put_on_plan(
    picture: Picture, points: Array, colors: Picture, scale_px: float, radius_px: int = 1, margin_px: int = 20
) -> None:
    """Draw world points (N, 3) with colours (N, 3) on a `floor_plan`, the highest last."""
    order = np.argsort(points[:, 2])
    u = (margin_px + scale_px * points[order, 0]).round().astype(int)
    v = (len(picture) - margin_px - scale_px * points[order, 1]).round().astype(int)
    for column, row, color in zip(u.tolist(), v.tolist(), colors[order].tolist(), strict=True):
        low, high = (column - radius_px, row - radius_px), (column + radius_px, row + radius_px)
        cv2.rectangle(picture, low, high, color, -1)


def from_aside(points: Array, colors: Picture, size: tuple[int, int], yaw_rad: float, aside_m: float) -> Picture:
    """Draw points (N, 3) of a camera's frame as a camera sees them that stands `aside_m` to the right, turned left.

    Args:
        colors: BGR (N, 3). size: (H, W) of the picture.
    """
    turn = np.array([[np.cos(yaw_rad), 0, np.sin(yaw_rad)], [0, 1, 0], [-np.sin(yaw_rad), 0, np.cos(yaw_rad)]])
    seen = (points - [aside_m, -0.6, -0.6]) @ turn.T
    order = np.argsort(-seen[:, 2])
    x, y, z = seen[order].T
    height, width = size
    picture = np.full((height, width, 3), 255, np.uint8)
    for column, row, metres, color in zip(
        width / 2 + 0.7 * width * x / z, height / 2 + 0.7 * width * y / z, z, colors[order].tolist(), strict=True
    ):
        if metres > 0.1:
            cv2.circle(picture, (int(column), int(row)), 1, color, -1)
    return picture
