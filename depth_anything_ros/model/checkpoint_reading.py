"""A checkpoint file becomes named tensors. Nothing here unpickles code.

Which encoder and dataset the tensors belong to is checked in `checkpoint_identity`.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from depth_anything_ros.errors import CheckpointInvalid
from depth_anything_ros.model.da3_names import from_da3_names, is_da3
from depth_anything_ros.model.hf_names import from_hf_names


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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a `.pth` or `.safetensors` file, memory-mapped, with the official key names.

    Weights of a training run (`{"model": ...}`, keys with `module.`), of the Hub's `-hf` repositories and of
    Depth Anything 3 are understood.

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
    if is_da3(state_dict):
        return from_da3_names(state_dict)
    if any(key.startswith("backbone.") for key in state_dict):
        return from_hf_names(state_dict)
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
