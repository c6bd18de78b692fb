"""No flying pixels: points that hang between a foreground and the background behind it.

A network draws a silhouette as a ramp of a few pixels. Points on it belong to neither surface. Along rows and along
columns, each pixel is compared with the surfaces on both sides of it, as they would go on at its place. This is done
in inverse depth, in which a plane is linear in the pixel's position, at whatever angle it is seen: floors stay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import InputError, SettingsError

# How far off a surface is looked for, as a share of the picture's shorter side: ramps grow with the picture.
REACH = 1 / 60
TOLERANCE = 0.02  # of depth: what is nearer than this to a surface lies on it


def mark_flying(depth: Tensor, reach_px: int | None = None, tolerance: float = TOLERANCE) -> Tensor:
    """Put NaN where depth lies between the surfaces on both sides, on neither of them.

    Args:
        depth: float32 (H, W), metres, any device.
        reach_px: how wide a ramp may be, in pixels; None is a sixtieth of the shorter side.
        tolerance: share of depth that a pixel may be off a surface.

    Returns:
        A new tensor like `depth`. NaN, infinite, zero and negative values stay as they are. +Inf is a background
        (REP 117: beyond range); where the others are, no surface is found and nothing is marked.

    Raises:
        InputError: not a floating-point tensor (H, W), or empty.
        SettingsError: a reach below 1 pixel, or a tolerance that is not between 0 and 1.
    """
    if depth.ndim != 2 or not depth.numel() or not depth.is_floating_point():
        raise InputError(f"depth must be a float tensor (H, W), got {depth.dtype} {tuple(depth.shape)}")
    if reach_px is None:
        reach_px = max(1, round(REACH * min(depth.shape)))
    if reach_px < 1:
        raise SettingsError(f"reach_px of the edge filter must be 1 or more, got {reach_px}")
    if not 0 < tolerance < 1:
        raise SettingsError(f"tolerance of the edge filter must be between 0 and 1, got {tolerance}")
    inverse = torch.where(depth > 0, 1 / depth, torch.nan)  # 0 of +Inf
    flying = _between_surfaces(inverse, reach_px, tolerance) | _between_surfaces(inverse.T, reach_px, tolerance).T
    return torch.where(flying, torch.nan, depth)


def _between_surfaces(inverse: Tensor, reach_px: int, tolerance: float) -> Tensor:
    """Where inverse depth (H, W) lies between what its row's surfaces to the left and to the right would have there."""
    width = inverse.shape[1]
    padded = F.pad(inverse[None], (2 * reach_px, 2 * reach_px), mode="replicate")[0]
    far_left, left, right, far_right = (padded[:, i * reach_px : i * reach_px + width] for i in (0, 1, 3, 4))
    slopes = left - far_left, far_right - right
    slope = _smaller(*slopes)
    low, high = torch.minimum(left + slope, right - slope), torch.maximum(left + slope, right - slope)
    between = (inverse > low * (1 + tolerance)) & (inverse < high * (1 - tolerance))
    # Beside a crease, a pixel goes on with the whole slope of its own side.
    off_left = (inverse - left - slopes[0]).abs() > tolerance * inverse
    off_right = (inverse - right + slopes[1]).abs() > tolerance * inverse
    return between & off_left & off_right


def _smaller(a: Tensor, b: Tensor) -> Tensor:
    """The slope that both sides have at least (minmod): 0 where they differ in sign. One of them may cross an edge."""
    return torch.where(a * b > 0, torch.where(a.abs() < b.abs(), a, b), 0.0)
