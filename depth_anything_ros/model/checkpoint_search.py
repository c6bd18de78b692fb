"""Official file names, and the folders where checkpoints are searched.

Search order: the folders in `DEPTH_ANYTHING_CHECKPOINTS`, then the cache folder. The file that comes with
the package is the last choice (see `weights.resolve_checkpoint`). Nothing here opens a checkpoint.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from depth_anything_ros.errors import CheckpointNotFound, os_reason
from depth_anything_ros.files.bounded_files import read_bounded
from depth_anything_ros.model.registry import DATASETS, dataset_spec, encoder_spec, encoders_of

CHECKPOINTS_VARIABLE = "DEPTH_ANYTHING_CHECKPOINTS"
# In place of a checkpoint's path: seeded random weights. The depth is noise; the rest is real.
UNTRAINED = "untrained"
HUB_OWNER = "depth-anything"
HF_WEIGHTS_NAME = "model.safetensors"
# A Hub cache keeps repository OWNER/NAME in models--OWNER--NAME: snapshots/COMMIT/FILE, and refs/main, the current one.
HUB_SEPARATOR = "--"
MAX_REF_BYTES = 1024
BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"


def checkpoint_name(encoder: str, dataset: str) -> str:
    """Official file name, such as `depth_anything_v2_metric_hypersim_vits.pth` or `DA3-SMALL/model.safetensors`."""
    spec, prefix = encoder_spec(encoder), dataset_spec(dataset).file_prefix
    if prefix is not None:
        return f"{prefix}_{encoder}.pth"
    return f"{dataset_spec(dataset).hub_prefix}-{(spec.hub_size or encoder).upper()}/{HF_WEIGHTS_NAME}"


def hub_repository(encoder: str, dataset: str) -> str | None:
    """Official Hub repository, or None for an encoder or a dataset without official weights."""
    size, spec = encoder_spec(encoder).hub_size, dataset_spec(dataset)
    if size is None or spec.hub_prefix is None or encoder not in encoders_of(dataset):
        return None
    return f"{HUB_OWNER}/{spec.hub_prefix}-{size if spec.file_prefix is not None else size.upper()}"


def repository_names(dataset: str) -> list[str]:
    """Names of a dataset's repositories on the Hub, without owner, the `-hf` ones, too."""
    spec, sizes = dataset_spec(dataset), [encoder_spec(name).hub_size or name for name in encoders_of(dataset)]
    official = [] if spec.hub_prefix is None else [f"{spec.hub_prefix}-{size}" for size in sizes]
    return official + ([] if spec.hf_prefix is None else [f"{spec.hf_prefix}-{size}-hf" for size in sizes])


def hub_snapshot(folder: Path) -> Path:
    """Return the current snapshot of a repository's folder in a Hub cache, and any other folder as it is.

    The snapshots of older commits stay beside it.
    """
    try:
        commit = read_bounded(folder / "refs" / "main", MAX_REF_BYTES).decode().strip()
    except ValueError:  # an InputError is one: there is none, or it is no plain file
        return folder
    return folder / "snapshots" / commit if re.fullmatch(r"[0-9a-f]{40}", commit) else folder


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
    return [*(Path(os.path.expanduser(folder)) for folder in listed if folder), cache_folder()]  # noqa: PTH111 - as below


def given_checkpoint(checkpoint: str | os.PathLike[str]) -> Path:
    """Return the file of a checkpoint that was asked for by its path: a file, or a repository's folder.

    The folder may be a copy, or one of a Hub cache: that of the repository, of which the current snapshot counts, or
    of one snapshot.

    Raises:
        CheckpointNotFound: nothing is there, or it cannot be looked at.
    """
    name = os.fspath(checkpoint)
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's raises for an unknown user
    is_folder = os.path.isdir(path)  # noqa: PTH112 - Path's raises for odd names
    path = hub_snapshot(path) / HF_WEIGHTS_NAME if is_folder else path
    try:
        path.stat()
    except FileNotFoundError as error:
        missing = f"is a folder without {HF_WEIGHTS_NAME}: name the file" if is_folder else "does not exist"
        raise CheckpointNotFound(f"checkpoint {name!r} {missing}") from error
    except (OSError, ValueError) as error:
        raise CheckpointNotFound(f"checkpoint {name!r} cannot be read: {os_reason(error)}") from error
    return path


def find_checkpoint(encoder: str, dataset: str) -> Path | None:
    """Return the first official file, or folder of a repository with a model.safetensors, in the search folders."""
    is_file = os.path.isfile  # Path.is_file raises for folders that cannot be read
    return next((path for path in _candidates(encoder, dataset) if is_file(path)), None)


def _candidates(encoder: str, dataset: str) -> list[Path]:
    name = checkpoint_name(encoder, dataset)
    size, prefix = encoder_spec(encoder).hub_size, dataset_spec(dataset).hf_prefix
    names = [name, str(Path(name).with_suffix(".safetensors"))]
    if size is not None and prefix is not None:
        names.append(f"{prefix}-{size}-hf/{HF_WEIGHTS_NAME}")
    return [path for folder in search_folders() for path in _candidates_in(folder, names, encoder, dataset)]


def _candidates_in(folder: Path, names: list[str], encoder: str, dataset: str) -> list[Path]:
    """The paths in a folder, which may be a Hub cache."""
    paths = [folder / name for name in dict.fromkeys(names)]
    repository = hub_repository(encoder, dataset)
    if repository is None:
        return paths
    cached = folder / f"models/{repository}".replace("/", HUB_SEPARATOR)
    if os.path.isdir(cached):  # noqa: PTH112 - Path's may raise for folders that cannot be read
        paths.append(hub_snapshot(cached) / Path(names[0]).name)
    return paths


def how_to_get(encoder: str, dataset: str) -> str:
    """Text of an error when no checkpoint is found: the searched paths, and how to get the file."""
    name, repository = checkpoint_name(encoder, dataset), hub_repository(encoder, dataset)
    tried = "\n".join(f"  {path}" for path in _candidates(encoder, dataset))
    text = f"no checkpoint {name} on this machine. Looked for:\n{tried}\n"
    if repository is None:
        return (
            text
            + f"There are no official weights for encoder {encoder!r} with dataset {dataset!r}. "
            + (
                f"Choose dataset {' or '.join(others)}, or give a checkpoint's path."
                if (others := _datasets_with_weights(encoder))
                else "Give a checkpoint's path."
            )
        )
    return text + (
        f"Either run `depth_anything download {encoder} {dataset}` where there is internet, or put {name} "
        f"from {repository} on the Hugging Face Hub into a folder named in {CHECKPOINTS_VARIABLE}."
    )


def _datasets_with_weights(encoder: str) -> list[str]:
    return [name for name in DATASETS if hub_repository(encoder, name) or bundled_checkpoint(encoder, name)]
