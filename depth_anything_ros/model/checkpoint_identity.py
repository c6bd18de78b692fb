"""Which encoder and which dataset a checkpoint belongs to: told by its tensors, its name and its config.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from depth_anything_ros.errors import CheckpointMismatch
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.registry import DATASETS, ENCODERS, dataset_spec

# An official file name, with the dataset in it where it is metric. Other names say nothing.
_OFFICIAL_NAME = re.compile(rf"depth_anything_v2_(?:metric_(\w+)_)?(?:{'|'.join(ENCODERS)})\.(?:pth|safetensors)")


def check_dataset(path: Path, dataset: str) -> None:
    """Refuse a file that says it is another dataset's: the tensors look the same, the depth would be off."""
    said = _dataset_by_config(path) or _dataset_by_name(path)
    if said is not None and said not in (dataset, dataset_spec(dataset).kind):
        raise CheckpointMismatch(f"{path} holds {said} weights, but dataset {dataset!r} was asked for")


def _dataset_by_config(path: Path) -> str | None:
    """What the config.json of a `-hf` folder says: a dataset, or just "metric" where its max_depth is nobody's."""
    config = path.with_name("config.json")
    if path.suffix != ".safetensors" or not config.is_file():
        return None
    try:
        said = json.loads(config.read_text())
    except (ValueError, OSError):
        return None
    if not isinstance(said, dict) or said.get("model_type") != "depth_anything":
        return None
    if said.get("depth_estimation_type") != "metric":
        return "relative"  # those repositories were written before there was a choice, and do not say
    metric = {spec.max_depth_m: name for name, spec in DATASETS.items() if spec.kind == "metric" and spec.hf_prefix}
    return metric.get(said.get("max_depth", 0.0), "metric")


def _dataset_by_name(path: Path) -> str | None:
    match = _OFFICIAL_NAME.fullmatch(path.name)
    return None if match is None else match[1] or "relative"


def check_encoder(state_dict: Mapping[str, Tensor], encoder: str, path: Path) -> None:
    """Compare keys and shapes with the encoder's, and name the encoder that would fit."""
    expected = _layout(encoder)
    found = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    if found == expected:
        return
    fitting = [name for name in ENCODERS if _layout(name) == found]
    if fitting:
        raise CheckpointMismatch(f"{path} holds {fitting[0]} weights, but encoder {encoder!r} was asked for")
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    reshaped = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    raise CheckpointMismatch(
        f"{path} does not fit encoder {encoder!r}: {len(missing)} tensors missing {missing[:3]}, "
        f"{len(unexpected)} unexpected {unexpected[:3]}, {len(reshaped)} of another shape {reshaped[:3]}"
    )


def _layout(encoder: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build_model(encoder, "relative")
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
