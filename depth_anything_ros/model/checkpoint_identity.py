"""Which encoder and which dataset a checkpoint belongs to: told by its tensors, its name and its config.json."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depth_anything_ros.errors import CheckpointMismatch, InputError
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.model.dpt import build_model
from depth_anything_ros.model.registry import DATASETS, ENCODERS, dataset_spec

logger = logging.getLogger(__name__)

MAX_CONFIG_BYTES = MIB
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
    if path.suffix != ".safetensors" or not config.exists():
        return None
    said = _read_config(config)
    if said.get("model_type") != "depth_anything":
        return None
    if said.get("depth_estimation_type") != "metric":
        return "relative"  # those repositories were written before there was a choice, and do not say
    metric = {spec.max_depth_m: name for name, spec in DATASETS.items() if spec.kind == "metric" and spec.hf_prefix}
    max_depth = said.get("max_depth")
    return metric.get(max_depth, "metric") if isinstance(max_depth, (int, float)) else "metric"


def _read_config(config: Path) -> dict[str, Any]:
    """Read a JSON object. An unreadable one counts as empty, and the log says so: the user's word decides then."""
    try:
        content = json.loads(read_bounded(config, MAX_CONFIG_BYTES).decode("utf-8-sig"))
        if isinstance(content, dict):
            return content
        reason = "it holds no JSON object"
    except (InputError, ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8, numbers of 5,000 digits
        reason = str(error)
    logger.warning("%s is ignored, so the file's name or the user's word tells its dataset: %.200s", config, reason)
    return {}


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
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(name[:80] for name in found.keys() - expected.keys())
    reshaped = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    raise CheckpointMismatch(
        f"{path} does not fit encoder {encoder!r}: {len(missing)} tensors missing {missing[:3]}, "
        f"{len(unexpected)} unexpected {unexpected[:3]}, {len(reshaped)} of another shape {reshaped[:3]}"
    )


def _layout(encoder: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build_model(encoder, "relative")
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
