"""The result of one inference: values, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["metric", "relative", "scale_invariant"]


@dataclass(frozen=True)
class DepthMap:
    """Depth of every pixel of one image.

    Attributes:
        values: float32 (H, W), of the input image's size. For `kind == "metric"`: depth in metres,
            Z along the optical axis (REP 118), in [0, max_depth]. For `kind == "relative"`:
            affine-invariant inverse depth, 0 or more, larger = nearer, without a unit.
        kind: which of the two.
        model_key: the model that made it, `{encoder}_{dataset}_{input_size}`.
    """

    values: NDArray[np.float32]
    kind: Kind
    model_key: str

    @property
    def unit(self) -> str:
        """`"m"` for metric depth, `""` for relative."""
        return "m" if self.kind == "metric" else ""
