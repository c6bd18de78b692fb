"""The picture of a cloud as the page should draw it, computed without the page: points, a pose, pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_FIELD = math.tan(math.radians(25.0))  # of the view's shorter side


@dataclass(frozen=True)
class Pose:
    """From where a cloud is looked at: angles in radians, distances in the cloud's unit."""

    yaw: float
    pitch: float
    distance: float
    target: tuple[float, float, float]

    @classmethod
    def parse(cls, text: str) -> Pose:
        """Read what the page says of itself."""
        yaw, pitch, distance, *target = map(float, text.split())
        return cls(yaw, pitch, distance, (target[0], target[1], target[2]))

    def view(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """Points (N, 3) in the camera's frame -> right, down and forward of the eye."""
        about_y, about_x = _rotation(1, -self.yaw), _rotation(0, self.pitch)
        turned: NDArray[np.float64] = (np.asarray(points, np.float64) - self.target) @ (about_x @ about_y).T
        turned[:, 2] += self.distance
        return turned


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    c, s = math.cos(angle), math.sin(angle)
    x_or_y = {0: [[1, 0, 0], [0, c, -s], [0, s, c]], 1: [[c, 0, s], [0, 1, 0], [-s, 0, c]]}
    return np.array(x_or_y[axis], np.float64)


def draw(
    points: NDArray[np.float32],
    colours: NDArray[np.uint8],
    pose: Pose,
    focal_px: float,
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Draw squares as large as a pixel of the camera is from there; the nearest is seen.

    Args:
        points, colours: float32 (N, 3) and uint8 (N, 4).
        focal_px: of the camera that took the picture.
        size: of the view, width and height in pixels.

    Returns:
        uint8 (height, width, 4), 0 where there is no point.
    """
    width, height = size
    focal_view = min(size) / 2 / HALF_FIELD
    right, down, forward = pose.view(points).T
    x, y = width / 2 + focal_view * right / forward, height / 2 + focal_view * down / forward
    sides = np.clip(np.ceil(focal_view * points[:, 2] / focal_px / forward), 1, 32).astype(int)
    picture = np.zeros((height, width, 4), np.uint8)
    columns, rows, owners = [], [], []
    for dy in range(sides.max()):
        for dx in range(sides.max()):
            reach = np.flatnonzero((dx < sides) & (dy < sides) & (forward > 0))
            columns.append(np.ceil(x[reach] - sides[reach] / 2 - 0.5).astype(int) + dx)
            rows.append(np.ceil(y[reach] - sides[reach] / 2 - 0.5).astype(int) + dy)
            owners.append(reach)
    u, v, owner = np.concatenate(columns), np.concatenate(rows), np.concatenate(owners)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v, owner = u[inside], v[inside], owner[inside]
    far_first = np.argsort(-forward[owner], kind="stable")
    picture[v[far_first], u[far_first]] = colours[owner[far_first]]
    return picture
