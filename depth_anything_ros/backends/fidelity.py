"""Whether a precision is true enough: judged by what trained weights say of several rendered rooms.

Only trained weights can tell. Random ones cancel where trained ones agree, so that rounding moves them far
more. Weights are taken for trained if depth in the rooms goes with the rooms' true depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from depth_anything_ros.backends.parity import HALF_LIMIT, LEAST_RANGES, difference
from depth_anything_ros.backends.per_shape import Size
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.preprocess import normalise
from depth_anything_ros.synthetic.camera import SyntheticCamera

FIRST_SEED = 5_100_000  # training, the tests and the benchmarks use other rooms
ROOMS = 4
LONGEST_PX = 320  # rooms are rendered up to this and enlarged: rendering takes longer than the network
MEDIAN_LIMIT = 0.002
P99_LIMIT = 0.01
ABS_REL_LIMIT = 0.0005
KNOWS_ROOMS = 0.15  # AbsRel, up to a factor, of a model whose truth in rendered rooms means something
LEAST_CORRELATION = 0.5
LEAST_DEPTH = 0.01  # of the largest: nearer to zero, a relative difference is no measure
MAX_VALUES = 1 << 20  # for a percentile


@dataclass(frozen=True)
class Room:
    """A picture, float32 (1, 3, h, w), normalised, and its true depth in metres, float32 (h, w)."""

    x: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Verdict:
    """How far a candidate is from torch fp32. Differences are relative; `abs_rel` is the change, None without truth."""

    trained: bool
    median: float
    p99: float
    abs_rel: float | None
    sane: bool
    lenient: bool = False  # for a precision that was asked for

    @property
    def accepted(self) -> bool:
        """Whether this is true enough. Untrained weights are accepted where only rounding can be the cause."""
        if self.lenient or not self.trained:
            return self.sane
        is_close = self.median <= MEDIAN_LIMIT and self.p99 <= P99_LIMIT  # NaN is not
        return is_close and (self.abs_rel is None or abs(self.abs_rel) <= ABS_REL_LIMIT)

    def __str__(self) -> str:
        off = f"median {self.median:.2%}, 99th percentile {self.p99:.2%}"
        off += "" if self.abs_rel is None else f", AbsRel {self.abs_rel:+.4f}"
        if not self.trained:
            return f"{off}: these weights look random, which cannot judge rounding"
        return off if self.accepted else f"{off}: too far from torch"


def rooms(size: Size, count: int = ROOMS) -> list[Room]:
    """Render rooms for a network's input of one size (h, w)."""
    shrink = min(1.0, LONGEST_PX / max(size))
    height, width = (max(1, round(side * shrink)) for side in size)
    return [_room(SyntheticCamera(seed, width, height), size) for seed in range(FIRST_SEED, FIRST_SEED + count)]


def _room(camera: SyntheticCamera, size: Size) -> Room:
    frame = camera.frame()
    image = torch.from_numpy(frame.image_bgr).permute(2, 0, 1)[None].float()
    truth = torch.from_numpy(frame.depth)[None, None]
    if tuple(truth.shape[-2:]) != size:
        image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        truth = F.interpolate(truth, size, mode="nearest")
    return Room(normalise(image), truth[0, 0])


def judge(found: Sequence[Outputs], expected: Sequence[Outputs], scenes: Sequence[Room]) -> Verdict:
    """Compare what a candidate says of the rooms with what torch says in fp32."""
    off = torch.cat(
        [_relative(own[name], says[name], name) for own, says in zip(found, expected, strict=True) for name in says]
    )
    off = off[:: 1 + off.numel() // MAX_VALUES]
    return Verdict(
        trained=looks_trained(expected, scenes),
        median=float(off.median()),
        p99=float(torch.quantile(off, 0.99)),
        abs_rel=_abs_rel_change(found, expected, scenes),
        sane=all(difference(own, says).within(HALF_LIMIT) for own, says in zip(found, expected, strict=True)),
    )


def judge_leniently(found: Sequence[Outputs], expected: Sequence[Outputs], scenes: Sequence[Room]) -> Verdict:
    """`judge` for a precision that was asked for: only what no rounding can be the cause of is refused."""
    return replace(judge(found, expected, scenes), lenient=True)


def looks_trained(expected: Sequence[Outputs], scenes: Sequence[Room]) -> bool:
    """Whether depth goes with true depth, or inverse depth against it, in all rooms alike."""
    found = torch.tensor(
        [_correlation(says["depth"][0], room.truth) for says, room in zip(expected, scenes, strict=True)]
    )
    return bool((found >= LEAST_CORRELATION).all() or (found <= -LEAST_CORRELATION).all())


def _correlation(depth: Tensor, truth: Tensor) -> float:
    ranks = [values.flatten().argsort().argsort().float() for values in (depth, truth)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def _relative(found: Tensor, expected: Tensor, name: str) -> Tensor:
    least = max(LEAST_DEPTH * float(expected.abs().max()), 0.0 if name == "depth" else LEAST_RANGES[name])
    return ((found - expected).abs() / expected.abs().clamp(min=max(least, 1e-12))).flatten()


def _abs_rel_change(found: Sequence[Outputs], expected: Sequence[Outputs], scenes: Sequence[Room]) -> float | None:
    """Change of AbsRel against the truth, each room scaled to its median by torch's depth; None: it does not apply."""
    changes, levels = [], []
    for own, says, room in zip(found, expected, scenes, strict=True):
        scale = room.truth.median() / says["depth"].median()
        own_off, off = (
            float(((scale * depth[0] - room.truth).abs() / room.truth).mean())
            for depth in (own["depth"], says["depth"])
        )
        changes.append(own_off - off)
        levels.append(off)
    if not sum(levels) / len(levels) <= KNOWS_ROOMS:
        return None
    return sum(changes) / len(changes)
