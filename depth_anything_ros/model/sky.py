"""Sky: where it is, the depth that the official code of Depth Anything 3 gives it, and what is beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from depth_anything_ros.model.registry import SKY_THRESHOLD

FILL_QUANTILE = 0.99
HALF = 0.5  # of a resized pixel's neighbours, by their weights: with less ground than that it is sky
MIN_PIXELS = 10  # with this many pixels of sky or fewer, or of the rest, nothing is filled


def sky_depth(depth: Tensor, sky: Tensor) -> Tensor:
    """Return what sky becomes in each picture of a batch: the 99th percentile of the depth that is no sky.

    The official code draws 100,000 pixels at random where there are more; here all count.

    Args:
        depth, sky: outputs of the network, float32 (B, h, w).

    Returns:
        float32 (B,); NaN where nothing is filled. Nothing waits for the device.
    """
    is_sky = (sky >= SKY_THRESHOLD).flatten(1)
    ascending = depth.flatten(1).masked_fill(is_sky, torch.inf).sort(dim=1).values
    count = (~is_sky).sum(1, keepdim=True)
    place = FILL_QUANTILE * (count - 1).clamp(min=0).double()
    low = place.floor().long()
    high = torch.minimum(low + 1, (count - 1).clamp(min=0))
    fill = torch.lerp(ascending.gather(1, low), ascending.gather(1, high), (place - low).float())
    is_filled = (count > MIN_PIXELS) & (is_sky.shape[1] - count > MIN_PIXELS)
    return fill.where(is_filled, torch.nan).squeeze(1)


def resized_beside_sky(depth: Tensor, sky: Tensor, resize: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Resize depth so that what is beside the sky keeps its own: the network's depth of the sky means nothing.

    What is sky is decided before it is resized, and its border lies half-way between a pixel of sky and one that is
    none. Resized first, the threshold would put it closer to the latter: a wire or a pole would lose its rims.

    Args:
        depth, sky: outputs of the network, float32 (B, h, w).
        resize: linear, of maps (B, h, w).

    Returns:
        Depth float32, of the size that `resize` gives: the average of the neighbours that are no sky, by their weights;
        where all are sky, that of the network's depth. And bool of the same size, where sky is.
    """
    is_ground = (sky < SKY_THRESHOLD).to(depth.dtype)
    weight = resize(is_ground)
    return torch.where(weight > 0, resize(depth * is_ground) / weight, resize(depth)), weight < HALF


def fill_sky(depth: Tensor, is_sky: Tensor, fill: Tensor) -> Tensor:
    """Return depth (B, H, W) with `sky_depth` of each picture where `is_sky`; NaN leaves a picture as it is."""
    fill = fill[:, None, None]
    return torch.where(is_sky & ~fill.isnan(), fill, depth)
