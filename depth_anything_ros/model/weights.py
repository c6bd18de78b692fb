"""Checkpoints: where they are looked for, how they are fetched, and how they are loaded safely.

Search order: an explicit path, the folders in `DEPTH_ANYTHING_CHECKPOINTS`, the cache folder, then
a download from the Hugging Face Hub. Nothing here ever unpickles code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from depth_anything_ros.errors import (
    CheckpointInvalid,
    CheckpointMismatch,
    CheckpointNotFound,
    DownloadError,
    LicenseNotAccepted,
)
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.dinov2 import reset_parameters
from depth_anything_ros.model.hf_names import from_hf_names
from depth_anything_ros.model.registry import DATASETS, ENCODERS, dataset_spec, encoder_for, encoder_spec

logger = logging.getLogger(__name__)

CHECKPOINTS_VARIABLE = "DEPTH_ANYTHING_CHECKPOINTS"
HUB_OWNER = "depth-anything"
HF_WEIGHTS_NAME = "model.safetensors"
# In place of a checkpoint's path: seeded random weights. The depth is noise; the rest is real.
UNTRAINED = "untrained"
UNTRAINED_SEED = 0
BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
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


def checkpoint_name(encoder: str, dataset: str) -> str:
    """Official file name, such as `depth_anything_v2_metric_hypersim_vits.pth`."""
    encoder_spec(encoder)
    return f"{dataset_spec(dataset).file_prefix}_{encoder}.pth"


def hub_repository(encoder: str, dataset: str) -> str | None:
    """Official Hub repository, or None for an encoder or a dataset without official weights."""
    size, prefix = encoder_spec(encoder).hub_size, dataset_spec(dataset).hub_prefix
    return None if size is None or prefix is None else f"{HUB_OWNER}/{prefix}-{size}"


def bundled_checkpoint(encoder: str, dataset: str) -> Path | None:
    """Return the file that comes with this package, if there is one for these two."""
    path = BUNDLED_FOLDER / Path(checkpoint_name(encoder, dataset)).with_suffix(".safetensors")
    return path if path.is_file() else None


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/depth_anything_ros`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depth_anything_ros"


def search_folders() -> list[Path]:
    """Folders of `DEPTH_ANYTHING_CHECKPOINTS` (separated like PATH), then the cache folder."""
    listed = os.environ.get(CHECKPOINTS_VARIABLE, "").split(os.pathsep)
    return [*(Path(folder).expanduser() for folder in listed if folder), cache_folder()]


def find_checkpoint(encoder: str, dataset: str) -> Path | None:
    """Return the first official file, or `-hf` folder with a model.safetensors, in the search folders."""
    return next((path for path in _candidates(encoder, dataset) if path.is_file()), None)


def _candidates(encoder: str, dataset: str) -> list[Path]:
    name = checkpoint_name(encoder, dataset)
    size, prefix = encoder_spec(encoder).hub_size, dataset_spec(dataset).hf_prefix
    names = [name, f"{Path(name).stem}.safetensors"]
    if size is not None and prefix is not None:
        names.append(f"{prefix}-{size}-hf/{HF_WEIGHTS_NAME}")
    return [folder / name for folder in search_folders() for name in names]


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
        path = Path(checkpoint).expanduser()
        path = path / HF_WEIGHTS_NAME if path.is_dir() else path
        if not path.is_file():
            raise CheckpointNotFound(f"checkpoint {str(checkpoint)!r} does not exist")
        return path
    found = find_checkpoint(encoder, dataset) or bundled_checkpoint(encoder, dataset)
    if found is not None:
        return found
    if download and hub_repository(encoder, dataset) is not None:
        try:
            return download_checkpoint(encoder, dataset, accept_license=accept_license)
        except DownloadError as error:
            raise DownloadError(f"{error}\n{_how_to_get(encoder, dataset)}") from error
    raise CheckpointNotFound(_how_to_get(encoder, dataset))


def _how_to_get(encoder: str, dataset: str) -> str:
    name, repository = checkpoint_name(encoder, dataset), hub_repository(encoder, dataset)
    tried = "\n".join(f"  {path}" for path in _candidates(encoder, dataset))
    text = f"no checkpoint {name} on this machine. Looked for:\n{tried}\n"
    if repository is None:
        return text + (
            f"There are no official weights for encoder {encoder!r} with dataset {dataset!r}: give a checkpoint's path."
        )
    return text + (
        f"Either run `depth_anything download {encoder} {dataset}` where there is internet, or put {name} "
        f"from {repository} on the Hugging Face Hub into a folder named in {CHECKPOINTS_VARIABLE}."
    )


def download_checkpoint(
    encoder: str,
    dataset: str,
    *,
    accept_license: bool = False,
    folder: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetch an official checkpoint from the Hub into the cache folder, with a progress bar.

    The file appears under its name only when it is complete and its SHA-256 is the hub's.

    Args:
        accept_license: agree to a non-commercial licence (Base and Large: CC-BY-NC-4.0).
        folder: where to put it instead of the cache folder.
        endpoint: another hub's base URL; None leaves it to huggingface_hub (`HF_ENDPOINT`).

    Raises:
        CheckpointNotFound: the encoder has no official weights.
        LicenseNotAccepted: the licence needs `accept_license`.
        DownloadError: no connection, no such file, or the wrong content.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    name, repository = checkpoint_name(encoder, dataset), hub_repository(encoder, dataset)
    if repository is None:
        raise CheckpointNotFound(_how_to_get(encoder, dataset))
    license_id = encoder_spec(encoder).license
    if license_id != "Apache-2.0" and not accept_license:
        raise LicenseNotAccepted(
            f"{name} is licensed {license_id}: non-commercial use only. If you agree, run "
            f"`depth_anything download {encoder} {dataset} --accept-license` or set accept_license."
        )
    logger.info("downloading %s from %s (licence %s)", name, repository, license_id)
    target = folder or cache_folder()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=target) as partial:
            expected = get_hf_file_metadata(hf_hub_url(repository, name, endpoint=endpoint)).etag
            path = Path(hf_hub_download(repository, name, local_dir=partial, endpoint=endpoint))
            _check_arrival(path, expected)
            return path.replace(target / name)
    except Exception as error:  # the hub client raises many kinds: its own, its HTTP library's, OSError
        raise DownloadError(f"cannot download {name} from {repository}: {type(error).__name__}: {error}") from error


def _check_arrival(path: Path, expected: str | None) -> None:
    """Compare with the SHA-256 the hub announced; for small files it announces a hash of another kind."""
    digest = file_sha256(path)
    if expected and re.fullmatch(r"[0-9a-f]{64}", expected) and digest != expected:
        raise OSError(f"it arrived damaged: SHA-256 {digest}, the hub announced {expected}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal. Raises CheckpointInvalid where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointInvalid(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


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
        SettingsError: unknown encoder or dataset.
        CheckpointNotFound, LicenseNotAccepted, DownloadError: as `resolve_checkpoint`.
        CheckpointInvalid: the file is not a checkpoint, or is truncated.
        CheckpointMismatch: it is another encoder's, or says that it is another dataset's.
    """
    encoder_for(encoder, dataset)
    if checkpoint == UNTRAINED:
        return _untrained(encoder, dataset)
    path = resolve_checkpoint(encoder, dataset, checkpoint, download=download, accept_license=accept_license)
    _check_dataset(path, dataset)
    before, digest = path.stat(), file_sha256(path)
    state_dict = read_state_dict(path)
    _check_encoder(state_dict, encoder, path)
    logger.info("loading %s as %s_%s, SHA-256 %s", path, encoder, dataset, digest)
    if dataset == DEMONSTRATION[1]:
        logger.warning(DEMONSTRATION_NOTE)
    with torch.device("meta"):
        network = build_model(encoder, dataset)
    # Copied, not assigned: weights that stay mapped would change or fault with the file under them.
    network.to_empty(device="cpu").load_state_dict(state_dict, strict=True)
    after = path.stat()
    if (before.st_ino, before.st_size, before.st_mtime_ns) != (after.st_ino, after.st_size, after.st_mtime_ns):
        raise CheckpointInvalid(f"{path} changed while it was read; try again")
    return LoadedModel(network.eval().requires_grad_(False), str(path), digest)


def _untrained(encoder: str, dataset: str) -> LoadedModel:
    logger.warning("untrained network: %s has random weights, its depth means nothing", encoder)
    network = build_model(encoder, dataset)
    reset_parameters(network, torch.Generator().manual_seed(UNTRAINED_SEED))
    return LoadedModel(network.eval().requires_grad_(False), UNTRAINED, "")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a `.pth` or `.safetensors` file, memory-mapped, with the official key names.

    Weights of a training run (`{"model": ...}`, keys with `module.`) and of the Hub's `-hf`
    repositories are understood.

    Raises:
        CheckpointInvalid: not a checkpoint, truncated, or holding anything but tensors.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointInvalid(f"{path} is not a checkpoint: it does not hold named tensors")
    state_dict = {str(key).removeprefix("module."): value for key, value in content.items()}
    if any(key.startswith("backbone.") for key in state_dict):
        state_dict = from_hf_names(state_dict)
    return state_dict


def _is_safetensors(path: Path) -> bool:
    """Tell by the content: eight bytes of header length, then JSON."""
    return _first_bytes(path, 9)[8:] == b"{"


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise CheckpointInvalid(f"{path} cannot be read: {error.strerror}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointInvalid(f"{path} is truncated or damaged: {error}") from error


def _read_torch(path: Path) -> Any:
    is_zip = _first_bytes(path, 2) == b"PK"
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointInvalid(f"{path} is not a checkpoint of tensors alone; it is not loaded") from error
    except Exception as error:  # the restricted unpickler trips over foreign bytes in a dozen ways
        was_one = is_zip or isinstance(error, (RuntimeError, EOFError))
        what = "is truncated or damaged" if was_one else "is not a checkpoint"
        raise CheckpointInvalid(f"{path} {what}") from error


# An official file name, with the dataset in it where it is metric. Other names say nothing.
_OFFICIAL_NAME = re.compile(rf"depth_anything_v2_(?:metric_(\w+)_)?(?:{'|'.join(ENCODERS)})\.(?:pth|safetensors)")


def _check_dataset(path: Path, dataset: str) -> None:
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


def _check_encoder(state_dict: Mapping[str, Tensor], encoder: str, path: Path) -> None:
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
