"""Which encoder and dataset a checkpoint belongs to, by its tensors, its name and its config.json."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depth_anything_ros.errors import CheckpointMismatch, InputError
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_search import HUB_SEPARATOR, repository_names
from depth_anything_ros.model.registry import DATASETS, ENCODERS, NETWORKS, dataset_spec, encoders_of

logger = logging.getLogger(__name__)

MAX_CONFIG_BYTES = MIB
# An official file name, with the dataset in it where it is metric. Other names say nothing.
_OFFICIAL_NAME = re.compile(rf"depth_anything_v2_(?:metric_(\w+)_)?(?:{'|'.join(ENCODERS)})\.(?:pth|safetensors)")


def check_dataset(path: Path, dataset: str) -> None:
    """Refuse a file of another dataset. Its tensors have the same shapes, but its depth would be wrong."""
    said = _dataset_by_config(path) or _dataset_by_name(path)
    if said is not None and said not in (dataset, dataset_spec(dataset).kind):
        raise CheckpointMismatch(f"{path} holds {said} weights, but dataset {dataset!r} was asked for")


def _dataset_by_config(path: Path) -> str | None:
    """Return what the config.json of a `-hf` folder says: a dataset, or "metric" if no dataset has its max_depth."""
    config = path.with_name("config.json")
    if path.suffix != ".safetensors" or not config.exists():
        return None
    said = _read_config(config)
    if said.get("model_type") != "depth_anything":
        return None
    if said.get("depth_estimation_type") != "metric":
        return "relative"  # the relative repositories are older than this field
    metric = {spec.max_depth_m: name for name, spec in DATASETS.items() if spec.kind == "metric" and spec.hf_prefix}
    max_depth = said.get("max_depth")
    return metric.get(max_depth, "metric") if isinstance(max_depth, (int, float)) else "metric"


def _read_config(config: Path) -> dict[str, Any]:
    """Read a JSON object. An unreadable file counts as empty, with a warning."""
    try:
        content = json.loads(read_bounded(config, MAX_CONFIG_BYTES).decode("utf-8-sig"))
        if isinstance(content, dict):
            return content
        reason = "it holds no JSON object"
    except (InputError, ValueError, RecursionError) as error:  # ValueError: JSON, UTF-8, numbers of 5,000 digits
        reason = str(error)
    logger.warning("%s is ignored, so the dataset is not checked against it: %.200s", config, reason)
    return {}


def _dataset_by_name(path: Path) -> str | None:
    match = _OFFICIAL_NAME.fullmatch(path.name)
    return _dataset_by_repository(path) if match is None else match[1] or "relative"


def _dataset_by_repository(path: Path) -> str | None:
    """What the folder says, of a copy of an official repository or in a Hub cache; the file's name says nothing there.

    A link tells by where it is and by what it leads to.
    """
    known = {name.lower(): dataset for dataset in DATASETS for name in repository_names(dataset)}
    for file in (path.absolute(), Path(os.path.realpath(path))):
        in_cache = [folder for folder in file.parents if folder.name.startswith(f"models{HUB_SEPARATOR}")]
        for folder in (file.parent, *in_cache):
            name = folder.name.rpartition(HUB_SEPARATOR)[2].lower()
            if name in known:
                return known[name]
    return None


def check_sha256(sha256: str, encoder: str, dataset: str, path: Path) -> None:
    """Refuse another dataset's official file, and warn of a file that is not the official one where that is known."""
    for other, spec in DATASETS.items():
        if other != dataset and sha256 in spec.sha256.values():
            raise CheckpointMismatch(f"{path} is the official file of dataset {other!r}, but {dataset!r} was asked for")
    if dataset_spec(dataset).sha256.get(encoder, sha256) != sha256:
        logger.warning("%s is not the official file of %s_%s, by its SHA-256", path, encoder, dataset)


def check_encoder(state_dict: Mapping[str, Tensor], encoder: str, dataset: str, path: Path) -> None:
    """Compare keys and shapes with the network's, and name what would fit."""
    expected = _layout(encoder, dataset)
    found = {key: tuple(tensor.shape) for key, tensor in state_dict.items()}
    if found == expected:
        return
    if (fitting := _fitting(found)) is not None:
        other, datasets = fitting
        if dataset in datasets:
            raise CheckpointMismatch(f"{path} holds {other} weights, but encoder {encoder!r} was asked for")
        said = f"{other} weights of {', '.join(datasets)}"
        raise CheckpointMismatch(f"{path} holds {said}, but dataset {dataset!r} was asked for")
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(name[:80] for name in found.keys() - expected.keys())
    reshaped = sorted(key for key in expected.keys() & found.keys() if expected[key] != found[key])
    raise CheckpointMismatch(
        f"{path} does not fit encoder {encoder!r}: {len(missing)} tensors missing {missing[:3]}, "
        f"{len(unexpected)} unexpected {unexpected[:3]}, {len(reshaped)} of another shape {reshaped[:3]}"
    )


def _fitting(found: dict[str, tuple[int, ...]]) -> tuple[str, list[str]] | None:
    """Return the encoder that names and shapes belong to, and the datasets that they may be of; None: nothing known."""
    for network in NETWORKS:
        datasets = [name for name, spec in DATASETS.items() if spec.network == network]
        for encoder in encoders_of(datasets[0]):
            if _layout(encoder, datasets[0]) == found:
                return encoder, datasets
    return None


def _layout(encoder: str, dataset: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build_model(encoder, dataset)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
