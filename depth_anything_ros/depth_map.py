"""The result of one inference: values, and what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["metric", "relative", "scale_invariant"]


@dataclass(frozen=True)
class DepthMap:
    """Depth of every pixel of one image.

    Attributes:
        values: float32 (H, W), of the input image's size.
            `metric`: depth in metres, Z along the optical axis (REP 118), 0 or more.
            `scale_invariant`: depth along the same axis up to a factor, 0 or more, larger = farther, without a unit.
            `relative`: affine-invariant inverse depth, 0 or more, larger = nearer, without a unit.
            Where `sky` is, depth is the 99th percentile of the rest, as the official code has it: no measurement.
        kind: which of the three.
        model_key: the model that made it, `{encoder}_{dataset}_{input_size}`.
        sky: bool (H, W), or None where the model does not tell.
        confidence: float32 (H, W), 1 or more, larger = surer, without a unit; or None where the model does not tell.
        focal_px: focal length in pixels of the image: what was given, for a model that needs it, or what the
            model estimates. None otherwise.
        is_focal_estimated: `focal_px` is the model's estimate.
    """

    values: NDArray[np.float32]
    kind: Kind
    model_key: str
    sky: NDArray[np.bool_] | None = None
    confidence: NDArray[np.float32] | None = None
    focal_px: float | None = None
    is_focal_estimated: bool = False

    @property
    def unit(self) -> str:
        """`"m"` for metric depth, `""` for the others."""
        return "m" if self.kind == "metric" else ""

    def range(self) -> tuple[float, float]:
        """Least and largest depth. The sky has none, however it is filled; where nothing else is, both are NaN."""
        is_depth = np.isfinite(self.values)
        if self.sky is not None:
            is_depth &= ~self.sky
        depth = self.values[is_depth]
        return (float(depth.min()), float(depth.max())) if depth.size else (math.nan, math.nan)

    def sky_at_infinity(self) -> NDArray[np.float32]:
        """Return `values` with +Inf where the sky is (REP 117: beyond every range); without sky, the same array."""
        if self.sky is None:
            return self.values
        return np.where(self.sky, np.float32(np.inf), self.values)
