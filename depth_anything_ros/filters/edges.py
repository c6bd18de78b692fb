"""Remove flying pixels: points that hang between a foreground and the background behind it.

A network draws a silhouette as a ramp a few pixels wide. The points on that ramp belong to neither surface. Each pixel
is compared, along its row and along its column, with the two surfaces beside it, continued to its place. This is done
in inverse depth, where a plane is linear in the pixel's position whatever its angle. So floors are kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.filters.arrays import Depth, like, to_tensor

# How far from a pixel its surfaces are sampled, as a share of the shorter side: ramps grow with the picture.
REACH = 1 / 60
TOLERANCE = 0.02  # share of depth: a pixel closer than this to a surface lies on it


def mark_flying(depth: Depth, reach_px: int | None = None, tolerance: float = TOLERANCE) -> Depth:
    """Return the depth with NaN at flying pixels: those between the surfaces on both sides and on neither of them.

    Args:
        depth: float32 (H, W), metres; a NumPy array, or a torch tensor on any device.
        reach_px: widest ramp that is found, in pixels; None is a sixtieth of the shorter side.
        tolerance: how far a pixel may be off a surface, as a share of depth.

    Returns:
        A new array or tensor like `depth`. NaN, infinite, zero and negative values stay as they are. +Inf counts as a
        background (REP 117: beyond range). The other invalid values are no surface, so nothing beside them is marked.

    Raises:
        InputError: not floating-point (H, W), or empty.
        SettingsError: a reach below 1 pixel, or a tolerance that is not between 0 and 1.
    """
    metres = to_tensor(depth)
    if reach_px is None:
        reach_px = max(1, round(REACH * min(metres.shape)))
    if reach_px < 1:
        raise SettingsError(f"reach_px of the edge filter must be 1 or more, got {reach_px}")
    if not 0 < tolerance < 1:
        raise SettingsError(f"tolerance of the edge filter must be between 0 and 1, got {tolerance}")
    inverse = torch.where(metres > 0, 1 / metres, torch.nan)  # 0 of +Inf
    flying = _between_surfaces(inverse, reach_px, tolerance) | _between_surfaces(inverse.T, reach_px, tolerance).T
    return like(depth, torch.where(flying, torch.nan, metres))


def _between_surfaces(inverse: Tensor, reach_px: int, tolerance: float) -> Tensor:
    """Return where inverse depth (H, W) lies between the surfaces to the left and right, continued to that pixel."""
    width = inverse.shape[1]
    padded = F.pad(inverse[None], (2 * reach_px, 2 * reach_px), mode="replicate")[0]
    far_left, left, right, far_right = (padded[:, i * reach_px : i * reach_px + width] for i in (0, 1, 3, 4))
    slopes = left - far_left, far_right - right
    slope = _smaller(*slopes)
    low, high = torch.minimum(left + slope, right - slope), torch.maximum(left + slope, right - slope)
    between = (inverse > low * (1 + tolerance)) & (inverse < high * (1 - tolerance))
    # Next to a crease, a pixel continues its own side with that side's full slope.
    off_left = (inverse - left - slopes[0]).abs() > tolerance * inverse
    off_right = (inverse - right + slopes[1]).abs() > tolerance * inverse
    return between & off_left & off_right


def _smaller(a: Tensor, b: Tensor) -> Tensor:
    """Return the smaller slope of both sides (minmod), 0 where their signs differ: one of them may cross an edge."""
    return torch.where(a * b > 0, torch.where(a.abs() < b.abs(), a, b), 0.0)
