"""Names of the tensors in the official files of Depth Anything 3, and those of the networks here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_PREFIXES = {
    "model.backbone.pretrained.": "pretrained.",
    "model.head.": "depth_head.",
    "model.cam_dec.": "cam_dec.",
}
# Not needed for one view: the encoder of known cameras, a camera's place, and rays.
_UNUSED = re.compile(r"model\.(cam_enc\.|cam_dec\.fc_(t|qvec)\.|head\.scratch\.\w+_aux\.)")


def is_da3(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of an official file."""
    return any(name.startswith("model.backbone.pretrained.") for name in state_dict)


def from_da3_names(state_dict: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """Rename the tensors of an official file; those not needed for one view are left out.

    Names that are not known are kept, so that the layout check reports them.
    """
    return [(_renamed(name), tensor) for name, tensor in state_dict.items() if not _UNUSED.match(name)]


def _renamed(name: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
