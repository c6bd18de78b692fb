"""Reads a checkpoint file into named tensors. Nothing here unpickles code.

Which encoder and dataset the tensors belong to is checked in `checkpoint_identity`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from depth_anything_ros.errors import CheckpointInvalid, InputError, os_reason
from depth_anything_ros.files.bounded_files import MIB, open_regular
from depth_anything_ros.model.da3_names import from_da3_names, is_da3
from depth_anything_ros.model.hf_names import from_hf_names
from depth_anything_ros.model.pth_files import check_pth

MAX_CHECKPOINT_BYTES = 12 << 30  # eight times the largest encoder's weights in float32
MAX_HEADER_BYTES = 4 * MIB  # of a safetensors file; the largest encoder's takes 0.1 MiB
LENGTH_BYTES = 8  # of a safetensors header's length, before the header
WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Raises CheckpointInvalid if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(MIB):
                digest.update(chunk)
    except OSError as error:
        raise CheckpointInvalid(f"{path} cannot be read: {os_reason(error)}") from error
    return digest.hexdigest()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a `.pth` or `.safetensors` file, memory-mapped, with the official key names.

    Weights of a training run (`{"model": ...}`, keys with `module.`), of the Hub's `-hf` repositories and of
    Depth Anything 3 are understood.

    Raises:
        CheckpointInvalid: not a regular file, not a checkpoint, truncated, too large, or holding anything
            but dense tensors with a name each.
    """
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not _is_named_tensors(content):
        raise CheckpointInvalid(f"{path} is not a checkpoint: it does not hold named tensors")
    for name, tensor in content.items():
        _check_storage(name, tensor, path)
    state_dict = _by_name(((name.removeprefix("module."), tensor) for name, tensor in content.items()), path)
    if is_da3(state_dict):
        return _by_name(from_da3_names(state_dict), path)
    if any(name.startswith("backbone.") for name in state_dict):
        return _by_name(from_hf_names(state_dict), path)
    return state_dict


def check_values(state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are not finite floating-point numbers. Raises CheckpointInvalid, which names the tensor."""
    for name, tensor in state_dict.items():
        if tensor.dtype not in WEIGHT_DTYPES:
            allowed = ", ".join(map(_dtype_name, WEIGHT_DTYPES))
            raise CheckpointInvalid(
                f"{path} is not usable: tensor {name!r:.80} is {_dtype_name(tensor.dtype)}; allowed: {allowed}"
            )
        if not tensor.isfinite().all():
            raise CheckpointInvalid(f"{path} is damaged: tensor {name!r:.80} holds NaN or infinity")


def _is_named_tensors(content: object) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())


def _check_storage(name: str, tensor: Tensor, path: Path) -> None:
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    if not is_plain or tensor.device.type != "cpu":
        raise CheckpointInvalid(
            f"{path} is not usable: tensor {name!r:.80} is sparse, quantised, nested or without values; "
            "weights must be dense"
        )


def _by_name(tensors: Iterable[tuple[str, Tensor]], path: Path) -> dict[str, Tensor]:
    """Return tensors by name. Raises CheckpointInvalid if two have the same name."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if name in found:
            raise CheckpointInvalid(f"{path} is not usable: it holds tensor {name!r:.80} twice, under two names")
        found[name] = tensor
    return found


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_safetensors(path: Path) -> bool:
    """Return whether the content is safetensors: eight bytes of header length, then JSON. Also checks the sizes."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(LENGTH_BYTES + 1)
    except OSError as error:
        raise CheckpointInvalid(f"{path} cannot be read: {os_reason(error)}") from error
    except InputError as error:
        raise CheckpointInvalid(str(error)) from error
    if size > MAX_CHECKPOINT_BYTES:
        raise CheckpointInvalid(f"{path} has {size} bytes, and at most {MAX_CHECKPOINT_BYTES} are read")
    if start[LENGTH_BYTES:] != b"{":
        return False
    header_bytes = int.from_bytes(start[:LENGTH_BYTES], "little")
    if MAX_HEADER_BYTES < header_bytes < size:
        raise CheckpointInvalid(
            f"{path} has a header of {header_bytes} bytes; at most {MAX_HEADER_BYTES} are read: "
            "it is not a checkpoint of these models"
        )
    return True


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # the library's own errors, and those of its Python part
        raise CheckpointInvalid(f"{path} is truncated or damaged: {error!s:.200}") from error


def _read_torch(path: Path) -> Any:
    is_zip = check_pth(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # the restricted unpickler fails on foreign bytes in a dozen ways
        raise CheckpointInvalid(f"{path} is truncated or damaged") from error
