"""How far a converted network's output is from torch's: measured on a test picture, never assumed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.registry import SKY_THRESHOLD

SEED = 0
COARSE = 14  # pixels between two values of the smooth part of the test picture
# An output that is nearly constant is measured by this instead of its range: what is sky is decided at 0.3,
# confidence begins at 1, and a field of view is about a radian.
LEAST_RANGES = {"depth": 1e-6, "sky": SKY_THRESHOLD, "confidence": 1.0, "field_of_view": 1.0}


@dataclass(frozen=True)
class Difference:
    """Largest and mean difference, as fractions of the range that what was expected covers."""

    max: float
    mean: float

    def within(self, limit: Difference) -> bool:
        """Return whether both are at most the limit's. NaN is not."""
        return self.max <= limit.max and self.mean <= limit.mean

    def __str__(self) -> str:
        return f"{self.max:.2g} (mean {self.mean:.2g}) of the range"


# Other summation orders move float32 by 1e-5; another interpolation of the position embedding by 1e-2.
FP32_LIMIT = Difference(1e-3, 1e-4)
# Largest difference of one that was asked for: with random weights rounding alone gives 6e-2 (mean 7e-3), in torch too.
HALF_LIMIT = Difference(1e-1, 1e-2)

# Of int8 from its own result where it was made, which other processors round in other places.
INT8_LIMIT = Difference(5e-1, 5e-2)


def probe_image(height: int, width: int) -> Tensor:
    """Return a test picture, float32 (1, 3, height, width), normalised: smooth patches with some grain."""
    rng = np.random.default_rng([SEED, height, width])
    coarse = torch.from_numpy(rng.standard_normal((1, 3, height // COARSE + 1, width // COARSE + 1), np.float32))
    grain = torch.from_numpy(rng.standard_normal((1, 3, height, width), np.float32))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True) + 0.1 * grain


def reference(network: DepthNetwork, x: Tensor) -> Outputs:
    """Run the network in torch, float32 on the CPU.

    Never in inference mode: the position embedding that the network caches for this size is then an
    ordinary tensor, which an export can take as a constant.
    """
    with torch.inference_mode(False), torch.no_grad():
        return network.named(network(x))


def cached_reference(source: NetworkSource, x: Tensor, cache: BlobCache, *depends_on: object) -> Outputs:
    """Return `reference`, from the cache if it was computed before for this picture and `depends_on`.

    Torch would take most of the time of a start with a warm cache, and much memory. The converted network is
    run and compared every time all the same.
    """
    kept = cache.load(*_reference_key(x), *depends_on)
    if kept is not None:
        return load(kept)
    return fresh_reference(source, x, cache, *depends_on)


def fresh_reference(source: NetworkSource, x: Tensor, cache: BlobCache, *depends_on: object) -> Outputs:
    """Return `reference`, computed now and kept for `cached_reference`."""
    found = reference(source.get(), x)
    kept = save({name: values.contiguous() for name, values in found.items()})
    cache.store(kept, *_reference_key(x), *depends_on)
    return found


def _reference_key(x: Tensor) -> tuple[object, ...]:
    return "reference", tuple(x.shape), hashlib.sha256(x.numpy().data).hexdigest()


def difference(found: Outputs, expected: Outputs) -> Difference:
    """Compare all outputs; the numbers are those of the one that is furthest off."""
    each = [_difference(found[name], values, LEAST_RANGES[name]) for name, values in expected.items()]
    worst = np.max([(off.max, off.mean) for off in each], axis=0)  # NaN wins, as it must
    return Difference(*worst.tolist())


def _difference(found: Tensor, expected: Tensor, least_range: float) -> Difference:
    off = (found - expected).abs()
    value_range = max(float(expected.max() - expected.min()), least_range)
    return Difference(float(off.max()) / value_range, float(off.mean()) / value_range)


def require_within(found: Outputs, expected: Outputs, limit: Difference, what: str) -> Difference:
    """Return the difference. Raises BackendError, with the numbers, if it is above the limit."""
    off = difference(found, expected)
    if not off.within(limit):
        raise BackendError(f"{what} differs from torch by {off}; allowed: {limit}")
    return off
