"""`load_model` finds, reads and checks a checkpoint, and puts its weights into their network.

The steps live beside this file: `checkpoint_search`, `checkpoint_download`, `checkpoint_reading` and
`checkpoint_identity`.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from depth_anything_ros.errors import CheckpointInvalid, CheckpointNotFound, DownloadError
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_download import download_checkpoint
from depth_anything_ros.model.checkpoint_identity import check_dataset, check_encoder, check_sha256
from depth_anything_ros.model.checkpoint_reading import check_values, file_sha256, read_state_dict
from depth_anything_ros.model.checkpoint_search import UNTRAINED as UNTRAINED
from depth_anything_ros.model.checkpoint_search import (
    bundled_checkpoint,
    find_checkpoint,
    given_checkpoint,
    how_to_get,
    hub_repository,
)
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import reset_parameters
from depth_anything_ros.model.registry import encoder_for

logger = logging.getLogger(__name__)

UNTRAINED_SEED = 0
CHECK_SIZE = (42, 56)  # of the picture that tells whether weights give depth at all
LEAST_SPREAD = 1e-6  # of depth over that picture, as a fraction of the largest value
DEMONSTRATION = ("vitt", "synthetic")
DEMONSTRATION_NOTE = (
    "demonstration model, trained on rendered rooms only: for demonstrations and tests, not for robots; "
    "`depth_anything download vits hypersim` gets real weights"
)


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, on the CPU in float32, and where they came from."""

    network: DepthNetwork
    source: str
    sha256: str


def load_model(
    encoder: str,
    dataset: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    accept_license: bool = False,
) -> LoadedModel:
    """Find, check and load a checkpoint into its network.

    Raises:
        SettingsError: unknown encoder or dataset, or the dataset has no such encoder.
        CheckpointNotFound, LicenseNotAccepted, DownloadError: as `resolve_checkpoint`.
        CheckpointInvalid: the file is not a checkpoint, is truncated or damaged, or its weights give no depth.
        CheckpointMismatch: it is another encoder's, or says that it is another dataset's.
    """
    encoder_for(encoder, dataset)
    if checkpoint == UNTRAINED:
        return _untrained(encoder, dataset)
    path = resolve_checkpoint(encoder, dataset, checkpoint, download=download, accept_license=accept_license)
    before = path.stat()
    state_dict = read_checkpoint(path, encoder, dataset)
    if dataset == DEMONSTRATION[1]:
        logger.warning(DEMONSTRATION_NOTE)
    with torch.device("meta"):
        network = build_model(encoder, dataset)
    # Copied, not assigned: weights that stay mapped would change or fault with the file under them.
    network.to_empty(device="cpu").load_state_dict(state_dict, strict=True)
    # Hashed last: a file of something else may be huge.
    digest, after = file_sha256(path), path.stat()
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
        raise CheckpointInvalid(f"{path} changed while it was read; try again")
    check_sha256(digest, encoder, dataset, path)
    network.eval().requires_grad_(False)
    _check_depth(network, path)
    logger.info("loaded %s as %s_%s, SHA-256 %s", path, encoder, dataset, digest)
    return LoadedModel(network, str(path), digest)


def read_checkpoint(path: Path, encoder: str, dataset: str) -> dict[str, Tensor]:
    """Read a file as `load_model` does: the weights, memory-mapped, checked to be of this encoder and dataset.

    Raises:
        CheckpointInvalid, CheckpointMismatch: as `load_model`.
    """
    check_dataset(path, dataset)
    state_dict = read_state_dict(path)
    check_encoder(state_dict, encoder, dataset, path)
    check_values(state_dict, path)
    return state_dict


def _check_depth(network: DepthNetwork, path: Path) -> None:
    """Refuse weights that give no depth: NaN, or one value for a picture of noise.

    Checked before the activation: after it, a sound relative model may give zero everywhere.
    """
    x = torch.randn((1, 3, *CHECK_SIZE), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False), torch.no_grad():  # so that tensors which the network caches are ordinary ones
        depth = network.before_activation(x)[:, 0]
    if not varies(depth):
        raise CheckpointInvalid(f"{path} is damaged: its weights give the same depth everywhere, or NaN")


def varies(depth: Tensor) -> bool:
    """Whether depth is finite and not the same everywhere."""
    spread, largest = float(depth.max() - depth.min()), float(depth.abs().max())
    return LEAST_SPREAD * largest < spread < math.inf  # NaN is not


def _untrained(encoder: str, dataset: str) -> LoadedModel:
    logger.warning("untrained network: %s has random weights, its depth means nothing", encoder)
    network = build_model(encoder, dataset)
    reset_parameters(network, torch.Generator().manual_seed(UNTRAINED_SEED))
    return LoadedModel(network.eval().requires_grad_(False), UNTRAINED, "")


def resolve_checkpoint(
    encoder: str,
    dataset: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    accept_license: bool = False,
) -> Path:
    """Return the file to load: the one given, found or bundled, else downloaded if that is allowed.

    Raises:
        CheckpointNotFound: the given path, or every searched place, holds no file.
        LicenseNotAccepted, DownloadError: see `download_checkpoint`.
    """
    if checkpoint is not None:
        return given_checkpoint(checkpoint)
    found = find_checkpoint(encoder, dataset) or bundled_checkpoint(encoder, dataset)
    if found is not None:
        return found
    if download and hub_repository(encoder, dataset) is not None:
        try:
            return download_checkpoint(encoder, dataset, accept_license=accept_license)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{how_to_get(encoder, dataset)}") from error
    raise CheckpointNotFound(how_to_get(encoder, dataset))
