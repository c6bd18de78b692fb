"""From images to what a network is given, on the device: the size it sees, resizing, normalising.

Depth Anything V2 and 3 resize in different ways. Both are here; `preprocessing_for` knows which one a dataset takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.errors import ImageError, SettingsError
from depth_anything_ros.model.registry import PATCH_SIZE, network_spec
from depth_anything_ros.settings import RESIZE_RULES, InputLimits, ResizeRule

Size = tuple[int, int]

# ImageNet statistics, RGB, for values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Preprocessing(Protocol):
    """How images become a network's input."""

    def network_size(self, height: int, width: int, input_size: int, limits: InputLimits) -> Size:
        """Return the (h, w) an image becomes, both multiples of 14.

        Raises:
            ImageError: an empty image, too elongated, or too many tokens. Looks at the numbers only.
        """
        ...

    def __call__(self, images_bgr: Tensor, input_size: int) -> Tensor:
        """uint8 BGR (B, H, W, 3) -> normalised float32 RGB (B, 3, h, w), a new tensor on the same device."""
        ...

    def back(self, maps: Tensor, size: Size) -> Tensor:
        """Resize maps (B, h, w) of the network's size to the images', (B, *size)."""
        ...


def preprocessing_for(dataset: str, resize: str | None = None) -> Preprocessing:
    """Return the preprocessing of a dataset's networks.

    Args:
        resize: `lower_bound`: the short side becomes `input_size`; `upper_bound`: the long one; None is the network's.

    Raises:
        SettingsError: unknown dataset or rule.
    """
    network = network_spec(dataset)
    return PREPROCESSING[network.preprocessing](network.resize if resize is None else known_rule(resize))


@dataclass(frozen=True)
class ResizeOnce:
    """Depth Anything V2: one bicubic resize of floats.

    The official rule (`Resize(keep_aspect_ratio)`): scale so that the short side (`lower_bound`) or the long one
    (`upper_bound`) reaches `input_size`, round each side to the nearest multiple of 14, away from the bound if need be.
    """

    rule: ResizeRule = "lower_bound"

    def network_size(self, height: int, width: int, input_size: int, limits: InputLimits) -> Size:
        """See `Preprocessing`."""
        check_image_size(height, width, limits)
        return within_tokens(self._size(height, width, input_size), (height, width), input_size, limits)

    def __call__(self, images_bgr: Tensor, input_size: int) -> Tensor:
        """See `Preprocessing`.

        Bicubic on floats without antialiasing, which is what cv2.INTER_CUBIC does; antialiasing, or
        resizing uint8, gives other values.
        """
        height, width = images_bgr.shape[1:3]
        size = self._size(height, width, input_size)
        x = images_bgr.permute(0, 3, 1, 2).float()
        return normalise(F.interpolate(x, size, mode="bicubic", align_corners=False))

    def back(self, maps: Tensor, size: Size) -> Tensor:
        """See `Preprocessing`. With aligned corners, as the official code does it."""
        return F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=True).squeeze(1)

    def _size(self, height: int, width: int, input_size: int) -> Size:
        ratios = (input_size / height, input_size / width)
        if self.rule == "lower_bound":
            scale = max(ratios)
            return _multiple_at_least(height * scale, input_size), _multiple_at_least(width * scale, input_size)
        scale = min(ratios)
        return _multiple_at_most(height * scale, input_size), _multiple_at_most(width * scale, input_size)


@dataclass(frozen=True)
class ResizeTwice:
    """Depth Anything 3: a resize to `input_size`, a second one to multiples of 14, each rounded to uint8.

    Each is an average over the area each pixel covers, or bicubic where a side grows. torch and OpenCV, which the
    official code uses, differ by one level of 255 at most, in less than 0.1 % of the values.
    """

    rule: ResizeRule = "upper_bound"

    def network_size(self, height: int, width: int, input_size: int, limits: InputLimits) -> Size:
        """See `Preprocessing`."""
        check_image_size(height, width, limits)
        return within_tokens(self._sizes(height, width, input_size)[1], (height, width), input_size, limits)

    def __call__(self, images_bgr: Tensor, input_size: int) -> Tensor:
        """See `Preprocessing`."""
        return normalise(self.resized(images_bgr, input_size))

    def back(self, maps: Tensor, size: Size) -> Tensor:
        """See `Preprocessing`. The official code leaves maps as they are; pixels' centres match as in its resizes."""
        return F.interpolate(maps.unsqueeze(1), size, mode="bilinear", align_corners=False).squeeze(1)

    def resized(self, images_bgr: Tensor, input_size: int) -> Tensor:
        """uint8 BGR (B, H, W, 3) -> float32 BGR (B, 3, h, w), whole numbers from 0 to 255."""
        x = images_bgr.permute(0, 3, 1, 2).float()
        height, width = images_bgr.shape[1:3]
        for size in self._sizes(height, width, input_size):
            x = resize_rounded(x, size)
        return x

    def _sizes(self, height: int, width: int, input_size: int) -> tuple[Size, Size]:
        """Return (h, w) after the first resize, and after the second one."""
        scale = input_size / (max(height, width) if self.rule == "upper_bound" else min(height, width))
        # The factor is rounded first, as in the official code: half a pixel may go the other way.
        scaled = [max(1, round(length * scale)) for length in (height, width)]
        h, w = (max(PATCH_SIZE, _nearest_multiple(length)) for length in scaled)
        return (scaled[0], scaled[1]), (h, w)


PREPROCESSING: dict[str, Callable[[ResizeRule], Preprocessing]] = {"once": ResizeOnce, "twice": ResizeTwice}


def known_rule(name: str) -> ResizeRule:
    """Return a resize rule by its name. Raises SettingsError for any other."""
    for rule in RESIZE_RULES:
        if name == rule:
            return rule
    raise SettingsError(f"unknown resize {name!r}; known: {', '.join(RESIZE_RULES)}")


def check_image_size(height: int, width: int, limits: InputLimits) -> None:
    """Raise ImageError for an empty image, and for one that is too elongated."""
    if height <= 0 or width <= 0:
        raise ImageError(f"the image is empty: {width}x{height} pixels")
    aspect_ratio = max(height, width) / min(height, width)
    if aspect_ratio > limits.max_aspect_ratio:
        raise ImageError(
            f"the image is {width}x{height} pixels, an aspect ratio of {aspect_ratio:.1f}:1; "
            f"allowed: up to {limits.max_aspect_ratio:g}:1"
        )


def within_tokens(size: Size, image: Size, input_size: int, limits: InputLimits) -> Size:
    """Return `size`, the network's for an image (H, W). Raises ImageError where it makes too many tokens."""
    tokens = (size[0] // PATCH_SIZE) * (size[1] // PATCH_SIZE)
    if tokens > limits.max_tokens:
        raise ImageError(
            f"a {image[1]}x{image[0]} image at input size {input_size} makes {tokens} tokens; "
            f"allowed: up to {limits.max_tokens}: take a smaller input size"
        )
    return size


def _multiple_at_least(length: float, minimum: int) -> int:
    nearest = round(length / PATCH_SIZE) * PATCH_SIZE
    return nearest if nearest >= minimum else math.ceil(length / PATCH_SIZE) * PATCH_SIZE


def _multiple_at_most(length: float, maximum: int) -> int:
    nearest = round(length / PATCH_SIZE) * PATCH_SIZE
    return max(PATCH_SIZE, nearest if nearest <= maximum else math.floor(length / PATCH_SIZE) * PATCH_SIZE)


def _nearest_multiple(length: int) -> int:
    """The nearest multiple of 14, the larger one of two that are equally near."""
    return (length + PATCH_SIZE // 2) // PATCH_SIZE * PATCH_SIZE


def resize_rounded(x: Tensor, size: Size) -> Tensor:
    """Resize float32 (B, C, h, w) to `size` and round to 0...255, as OpenCV resizes uint8.

    Bicubic where a side grows, else the average over the area that each new pixel covers.
    """
    height, width = x.shape[-2:]
    if size == (height, width):
        return x
    if size[0] > height or size[1] > width:
        resized = F.interpolate(x, size, mode="bicubic", align_corners=False)
    else:
        shorter = averaged(x.permute(2, 0, 3, 1), size[0])  # (h, B, W, C)
        resized = averaged(shorter.permute(2, 1, 0, 3), size[1]).permute(1, 3, 2, 0)  # of (w, B, h, C)
    return resized.round().clamp(0, 255)


def averaged(x: Tensor, length: int) -> Tensor:
    """Shrink the first side of a tensor to `length`: each new pixel is the average of those it covers, some in part."""
    step = x.shape[0] / length
    starts = torch.arange(length, device=x.device, dtype=torch.float64)[:, None] * step
    pixels = starts.floor() + torch.arange(math.ceil(step) + 1, device=x.device)  # no new pixel covers more
    covered = torch.minimum(starts + step, pixels + 1) - torch.maximum(starts, pixels)
    shares = (covered.clamp(min=0) / step).float()
    sums = F.embedding_bag(pixels.long().clamp(max=x.shape[0] - 1), x.flatten(1), per_sample_weights=shares, mode="sum")
    return sums.view(length, *x.shape[1:])


def normalise(images_bgr: Tensor) -> Tensor:
    """Float32 BGR (B, 3, h, w) in [0, 255] -> normalised RGB, a new tensor on the same device."""
    images_rgb = images_bgr.flip(1)
    for channel, mean, std in zip(images_rgb.unbind(1), MEAN, STD, strict=True):
        channel.sub_(255 * mean).div_(255 * std)  # plain numbers: tensors would be copied to the device, each time
    return images_rgb
