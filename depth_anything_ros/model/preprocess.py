"""The official preprocessing, on the device: resize to multiples of 14, normalise."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import ImageError
from depth_anything_ros.model.registry import PATCH_SIZE
from depth_anything_ros.settings import InputLimits

# ImageNet statistics, RGB, for values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def network_size(height: int, width: int, input_size: int, limits: InputLimits) -> tuple[int, int]:
    """Return the (h, w) an image is resized to: short side `input_size`, both multiples of 14.

    The official rule (`Resize(keep_aspect_ratio, resize_method="lower_bound")`): scale so that both
    sides reach `input_size`, round each to the nearest multiple of 14, up where that is too small.

    Raises:
        ImageError: an empty image, too elongated, or too many tokens. Looks at the numbers only.
    """
    if height <= 0 or width <= 0:
        raise ImageError(f"the image is empty: {width}x{height} pixels")
    aspect_ratio = max(height, width) / min(height, width)
    if aspect_ratio > limits.max_aspect_ratio:
        raise ImageError(
            f"the image is {width}x{height} pixels, an aspect ratio of {aspect_ratio:.1f}:1; "
            f"allowed is up to {limits.max_aspect_ratio:g}:1"
        )
    scale = max(input_size / height, input_size / width)
    h, w = _multiple_of_patch(height * scale, input_size), _multiple_of_patch(width * scale, input_size)
    tokens = (h // PATCH_SIZE) * (w // PATCH_SIZE)
    if tokens > limits.max_tokens:
        raise ImageError(
            f"a {width}x{height} image at input size {input_size} makes {tokens} tokens; "
            f"allowed are up to {limits.max_tokens}: take a smaller input size"
        )
    return h, w


def _multiple_of_patch(length: float, minimum: int) -> int:
    nearest = round(length / PATCH_SIZE) * PATCH_SIZE
    return nearest if nearest >= minimum else math.ceil(length / PATCH_SIZE) * PATCH_SIZE


def preprocess(images_bgr: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 BGR (B, H, W, 3) -> normalised float32 RGB (B, 3, *size) on the same device.

    Bicubic on floats without antialiasing, which is what cv2.INTER_CUBIC does; antialiasing, or
    resizing uint8, gives other values.
    """
    x = images_bgr.permute(0, 3, 1, 2).float()
    return normalise(F.interpolate(x, size, mode="bicubic", align_corners=False))


def normalise(images_bgr: Tensor) -> Tensor:
    """Float32 BGR (B, 3, h, w) in [0, 255] -> normalised RGB, a new tensor on the same device."""
    images_rgb = images_bgr.flip(1)
    for channel, mean, std in zip(images_rgb.unbind(1), MEAN, STD, strict=True):
        channel.sub_(255 * mean).div_(255 * std)  # plain numbers: tensors would be copied to the device, each time
    return images_rgb
