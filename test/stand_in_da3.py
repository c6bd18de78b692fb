"""Stand-ins for the official weights of Depth Anything 3, as `stand_in` has them for V2.

Every value follows from a tensor's name and a salt, so that the files in `data/golden_da3/` - what the official
implementation returned for these weights and the pictures of `stand_in` - can be compared with anywhere.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from stand_in import Weights, stand_in_image

from depth_anything_ros.model.build import build_model

GOLDEN_DA3 = Path(__file__).with_name("data") / "golden_da3"
CASES: list[dict[str, Any]] = json.loads((GOLDEN_DA3 / "manifest.json").read_text())["cases"]
NAMES = {
    "da3metric-large": ("vitl", "da3metric"),
    "da3mono-large": ("vitl", "da3mono"),
    "da3-small": ("vits", "da3"),
    "da3-base": ("vitb", "da3"),
}
# Layers before an exponential or a threshold: the gain of their weights, which sum to zero, and the mean of their bias.
_LAST: dict[str, tuple[float, float]] = {
    "head.scratch.output_conv2.2": (0.4, 0.5),
    "head.scratch.sky_output_conv2.2": (0.25, -0.1),
    "cam_dec.fc_fov.0": (0.1, 1.0),
}


@cache
def da3_layout(model: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes in an official `model.safetensors`; `model` is a name in `NAMES`."""
    listed = json.loads((GOLDEN_DA3 / "layout.json").read_text())[model]
    return {name: tuple(shape) for name, shape in listed.items()}


def da3_tensor(name: str, shape: tuple[int, ...], salt: int = 0) -> NDArray[np.float32]:
    """Draw a parameter's values from a generator seeded with its name, at the scale of a trained network's."""
    normal = np.random.default_rng([zlib.crc32(name.encode()), salt]).standard_normal(shape)
    layer, _, leaf = name.rpartition(".")
    last = next((numbers for end, numbers in _LAST.items() if layer.endswith(end)), None)
    fan_in = math.prod(shape[1:])
    if last is not None and leaf == "weight":
        values = last[0] * (normal - normal.mean(1, keepdims=True)) / np.sqrt(fan_in)
    elif last is not None:
        values = last[1] + 0.05 * normal
    elif leaf == "gamma":
        values = 0.2 + 0.1 * normal
    elif leaf in ("cls_token", "pos_embed", "camera_token"):
        values = 0.2 * normal
    elif leaf == "bias":
        values = 0.05 * normal
    elif len(shape) == 1:
        values = 1.0 + 0.1 * normal
    elif "output_conv2.0" in name or "output_conv1" in name:
        values = normal * np.sqrt(2.0 / fan_in)
    else:
        is_transposed = "resize_layers.0" in name or "resize_layers.1" in name
        values = normal / np.sqrt(shape[0] if is_transposed else fan_in)
    return np.asarray(values, np.float32)


def da3_weights(layout: Mapping[str, tuple[int, ...]], salt: int = 0) -> Weights:
    """Return a whole checkpoint, its names as in the file."""
    with ThreadPoolExecutor() as pool:  # NumPy draws without holding the interpreter
        drawn = pool.map(da3_tensor, layout.keys(), layout.values(), repeat(salt))
        return {name: torch.from_numpy(values) for name, values in zip(layout, drawn, strict=True)}


def save_da3(weights: Weights, path: Path) -> Path:
    """Write a `model.safetensors` as the official repositories have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    return path


def case_picture(case: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The picture of a row of the manifest, uint8 BGR (H, W, 3)."""
    return stand_in_image(case["height"], case["width"], case["image_seed"])


@cache
def toy_da3_weights(dataset: str) -> Weights:
    """Weights of the toy encoder for a dataset of Depth Anything 3, named as in an official file."""
    with torch.device("meta"):
        network = build_model("toy", dataset)
    return da3_weights({official_name(name): tuple(t.shape) for name, t in network.state_dict().items()})


def official_name(name: str) -> str:
    """The name in an official file of a tensor of the network here."""
    for ours, theirs in (("pretrained.", "backbone.pretrained."), ("depth_head.", "head.")):
        if name.startswith(ours):
            return f"model.{theirs}{name.removeprefix(ours)}"
    return f"model.{name}"
