"""Images to the device, depth back to the host: one copy each way, through pinned memory where the device is a GPU.

Pinned blocks come from torch's own pool, which does not reuse a block before the copy that uses it is done. So
nothing here waits for an upload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(images_bgr: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Images of one shape, uint8 (H, W, 3), any strides -> uint8 (B, H, W, 3) on the device.

    On a CPU a single image is a view of the caller's memory where torch can have one.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):  # otherwise pinning would also initialise the first GPU
            staging = torch.empty((len(images_bgr), *images_bgr[0].shape), dtype=torch.uint8, pin_memory=True)
        return stage(images_bgr, staging).to(device, non_blocking=True)
    if len(images_bgr) > 1:
        return stage(images_bgr, torch.empty((len(images_bgr), *images_bgr[0].shape), dtype=torch.uint8)).to(device)
    [image] = images_bgr
    if not image.flags.writeable or any(stride < 0 for stride in image.strides):
        image = image.copy()
    return torch.from_numpy(image).unsqueeze(0).to(device)


def stage(images_bgr: Sequence[NDArray[np.uint8]], staging: Tensor) -> Tensor:
    """Copy images into uint8 (B, H, W, 3) in host memory, and return it."""
    for place, image in zip(staging.numpy(), images_bgr, strict=True):
        np.copyto(place, image)
    return staging


def to_host(maps: Tensor) -> list[NDArray[Any]]:
    """(B, H, W) of any dtype on any device -> B arrays (H, W) in ordinary host memory, each its own on a GPU.

    The thread sleeps until a GPU is done, instead of spinning on a core that decodes the next image.
    """
    if maps.device.type != "cuda":
        return list(maps.cpu().numpy())
    with torch.cuda.device(maps.device):
        staging = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=True)
        staging.copy_(maps, non_blocking=True)
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record()
        done.synchronize()
    # Copied once more: pinned memory is scarce, and the caller may keep the result.
    return [values.copy() for values in staging.numpy()]
