"""Stand-ins for what a repository cannot carry: official weights, and photographs.

Every value follows from a name or a seed, so that the files in `data/golden/` - what the official
implementation returned for these weights and images - can be compared with anywhere.
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

from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.registry import ENCODERS, NATIVE_SIZE, PATCH_SIZE

GOLDEN = Path(__file__).with_name("data") / "golden"
Weights = dict[str, torch.Tensor]


@cache
def official_layout(encoder: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the official checkpoint; the toy encoder's are the network's own."""
    listed = json.loads((GOLDEN / "layout.json").read_text())
    if encoder in listed:
        return {name: tuple(shape) for name, shape in listed[encoder].items()}
    with torch.device("meta"):
        network = build_model(encoder, "relative")
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _scale_and_offset(name: str) -> tuple[float, float]:
    """Standard deviation and mean of a parameter that is no matrix."""
    leaf = name.rpartition(".")[2]
    if leaf == "gamma":
        return 0.1, 0.2
    if "norm" in name and leaf == "weight":
        return 0.1, 1.0
    if leaf == "bias":
        return 0.05, 0.0
    if leaf in ("cls_token", "pos_embed", "mask_token"):
        return 0.2, 0.0
    raise KeyError(name)


def stand_in_tensor(name: str, shape: tuple[int, ...], salt: int = 0) -> NDArray[np.float32]:
    """Draw a parameter's values from a generator seeded with its name.

    Scaled so that activations stay in the range of a trained network's.
    """
    normal = np.random.default_rng([zlib.crc32(name.encode()), salt]).standard_normal(shape)
    if len(shape) == 1 or not name.endswith(".weight"):
        scale, offset = _scale_and_offset(name)
        values = offset + scale * normal
    elif "output_conv2" in name:
        values = normal * (2.0 / math.sqrt(math.prod(shape[1:])))
    else:
        is_transposed = "resize_layers.0" in name or "resize_layers.1" in name
        values = normal / math.sqrt(shape[0] if is_transposed else math.prod(shape[1:]))
    return np.asarray(values, np.float32)


def stand_in_weights(encoder: str, salt: int = 0) -> Weights:
    """Return a whole checkpoint in the official layout."""
    layout = official_layout(encoder)
    with ThreadPoolExecutor() as pool:  # NumPy draws without holding the interpreter
        drawn = pool.map(stand_in_tensor, layout.keys(), layout.values(), repeat(salt))
        return {name: torch.from_numpy(values) for name, values in zip(layout, drawn, strict=True)}


def stand_in_image(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Draw a uint8 BGR picture (H, W, 3): waves, overlapping translucent boxes, noise."""
    rng = np.random.default_rng([seed, height, width])
    rows, columns = np.indices((height, width), np.float64)
    picture = np.empty((height, width, 3))
    for channel in range(3):
        across, down, phase = rng.uniform(0.5, 6), rng.uniform(0.5, 6), rng.uniform(0, 6.28)
        level = rng.uniform(60, 190)
        picture[..., channel] = level + 50 * np.sin(
            across * columns / width * 6.28 + down * rows / height * 6.28 + phase
        )
    for _ in range(12):
        left, top = rng.integers(0, width), rng.integers(0, height)
        box_width, box_height = rng.integers(1, max(2, width // 3)), rng.integers(1, max(2, height // 3))
        box = picture[top : top + box_height, left : left + box_width]
        box[:] = 0.4 * box + 0.6 * rng.uniform(0, 255, 3)
    picture += rng.normal(0, 6, picture.shape)
    return np.asarray(picture.round().clip(0, 255), np.uint8)


def save_official(weights: Mapping[str, torch.Tensor], path: Path) -> Path:
    """Write a `.pth` as the official repositories have them."""
    torch.save(dict(weights), path)
    return path


def hf_config(encoder: str, kind: str, max_depth: int = 1) -> Any:
    """Return transformers' configuration of the same network."""
    from transformers import DepthAnythingConfig, Dinov2Config

    spec = ENCODERS[encoder]
    backbone = Dinov2Config(
        hidden_size=spec.embed_dim,
        num_attention_heads=spec.num_heads,
        num_hidden_layers=spec.depth,
        image_size=NATIVE_SIZE,
        patch_size=PATCH_SIZE,
        out_indices=[layer + 1 for layer in spec.layers],  # type: ignore[call-arg]
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=spec.embed_dim,
        neck_hidden_sizes=list(spec.out_channels),
        fusion_hidden_size=spec.features,
        depth_estimation_type=kind,
        max_depth=max_depth,
    )


# Places in the `-hf` files -> places in the official ones, both as their authors name them.
_HF_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "attention.output.dense": "attn.proj",
}


def to_hf_names(weights: Mapping[str, torch.Tensor], encoder: str) -> Weights:
    """Rename official weights to the names in the Hub's `-hf` files, splitting q, k and v."""
    spec = ENCODERS[encoder]
    hf: Weights = {}

    def copy(hf_name: str, official_name: str, *leaves: str) -> None:
        for leaf in leaves:
            hf[hf_name + leaf] = weights[official_name + leaf]

    copy("backbone.embeddings.", "pretrained.", "cls_token", "mask_token")
    hf["backbone.embeddings.position_embeddings"] = weights["pretrained.pos_embed"]
    both = (".weight", ".bias")
    copy("backbone.embeddings.patch_embeddings.projection", "pretrained.patch_embed.proj", *both)
    copy("backbone.layernorm", "pretrained.norm", *both)
    for index in range(spec.depth):
        there, here = f"backbone.encoder.layer.{index}.", f"pretrained.blocks.{index}."
        for hf_part, part in _HF_BLOCK.items():
            copy(there + hf_part, here + part, *both)
        for number in (1, 2):
            hf[f"{there}layer_scale{number}.lambda1"] = weights[f"{here}ls{number}.gamma"]
        for leaf in both:
            thirds = weights[f"{here}attn.qkv{leaf}"].chunk(3)
            for name, third in zip(("query", "key", "value"), thirds, strict=True):
                hf[f"{there}attention.attention.{name}{leaf}"] = third.contiguous()
    for level in range(4):
        copy(f"neck.reassemble_stage.layers.{level}.projection", f"depth_head.projects.{level}", *both)
        if level != 2:  # that level keeps its size
            copy(f"neck.reassemble_stage.layers.{level}.resize", f"depth_head.resize_layers.{level}", *both)
        copy(f"neck.convs.{level}", f"depth_head.scratch.layer{level + 1}_rn", ".weight")
        there, here = f"neck.fusion_stage.layers.{level}.", f"depth_head.scratch.refinenet{4 - level}."
        copy(there + "projection", here + "out_conv", *both)
        for unit in (1, 2):
            for number in (1, 2):
                copy(f"{there}residual_layer{unit}.convolution{number}", f"{here}resConfUnit{unit}.conv{number}", *both)
    for hf_part, part in (("conv1", "output_conv1"), ("conv2", "output_conv2.0"), ("conv3", "output_conv2.2")):
        copy(f"head.{hf_part}", f"depth_head.scratch.{part}", *both)
    return hf


def save_hf(weights: Mapping[str, torch.Tensor], encoder: str, kind: str, folder: Path) -> Path:
    """Write a folder as the Hub's `-hf` repositories have them: model.safetensors and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_hf_names(weights, encoder), folder / "model.safetensors", metadata={"format": "pt"})
    hf_config(encoder, kind).save_pretrained(folder)
    return folder
