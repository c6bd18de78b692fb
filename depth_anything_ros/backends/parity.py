"""Whether a network that was converted still says what torch says: measured, never assumed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.dpt import DepthAnythingV2

SEED = 0
COARSE = 14  # pixels between two values of the smooth part of the test picture
TINY = 1e-6


@dataclass(frozen=True)
class Difference:
    """Largest and mean difference, as fractions of the range that the expected depth covers."""

    max: float
    mean: float

    def within(self, limit: Difference) -> bool:
        """Whether neither is above the limit's. NaN is not."""
        return self.max <= limit.max and self.mean <= limit.mean

    def __str__(self) -> str:
        return f"{self.max:.2g} (mean {self.mean:.2g}) of the depth's range"


# Other summation orders move float32 by 1e-5; another interpolation of the position embedding by 1e-2.
FP32_LIMIT = Difference(1e-3, 1e-4)
# What a half precision may cost where nobody asked for it.
AUTO_HALF_LIMIT = Difference(1e-2, 1e-3)
# What it may cost who asked for it: with random weights its rounding alone comes to 6e-2 (mean 7e-3), in torch too.
HALF_LIMIT = Difference(1e-1, 1e-2)


def probe_image(height: int, width: int) -> Tensor:
    """Return a test picture, float32 (1, 3, height, width), normalised: smooth patches with some grain."""
    rng = np.random.default_rng([SEED, height, width])
    coarse = torch.from_numpy(rng.standard_normal((1, 3, height // COARSE + 1, width // COARSE + 1), np.float32))
    grain = torch.from_numpy(rng.standard_normal((1, 3, height, width), np.float32))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True) + 0.1 * grain


def reference(network: DepthAnythingV2, x: Tensor) -> Tensor:
    """Run the network in torch, float32 on the CPU -> float32 (1, h, w).

    Not in inference mode, even where the caller is: what it keeps for this size (the position
    embedding) is then an ordinary tensor, which an export takes up as a constant.
    """
    with torch.inference_mode(False), torch.no_grad():
        return network(x)  # type: ignore[no-any-return]


def cached_reference(network: DepthAnythingV2, x: Tensor, cache: BlobCache, *depends_on: object) -> Tensor:
    """Return `reference`, from a cache where it was asked before for this very picture and `depends_on`.

    Torch takes longer than all else in a start with a warm cache, and much memory. What is compared with
    its answer is measured every time all the same.
    """
    kept = cache.load(*_reference_key(x), *depends_on)
    if kept is not None:
        return torch.from_numpy(np.frombuffer(kept, np.float32).reshape(-1, *x.shape[2:]).copy())
    return fresh_reference(network, x, cache, *depends_on)


def fresh_reference(network: DepthAnythingV2, x: Tensor, cache: BlobCache, *depends_on: object) -> Tensor:
    """Return `reference`, asked anew and kept for `cached_reference`."""
    found = reference(network, x)
    cache.store(found.numpy().tobytes(), *_reference_key(x), *depends_on)
    return found


def _reference_key(x: Tensor) -> tuple[object, ...]:
    return "reference", tuple(x.shape), hashlib.sha256(x.numpy().data).hexdigest()


def difference(found: Tensor, expected: Tensor) -> Difference:
    """Compare two results of the same shape."""
    off = (found - expected).abs()
    depth_range = max(float(expected.max() - expected.min()), TINY)
    return Difference(float(off.max()) / depth_range, float(off.mean()) / depth_range)


def require_within(found: Tensor, expected: Tensor, limit: Difference, what: str) -> Difference:
    """Return the difference. Raises BackendError, with the numbers, where it is above the limit."""
    off = difference(found, expected)
    if not off.within(limit):
        raise BackendError(f"{what} departs from torch by {off}; allowed is {limit}")
    return off
