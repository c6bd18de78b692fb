"""Checks a `.pth` file before torch reads it: it is whole, of bounded size, and holds tensors only.

`torch.load(weights_only=True)` runs no code, but it inflates what is compressed, does not compare checksums and
builds whatever plain objects the pickle asks for. `check_pth` looks at the container and at the pickle's
instructions first, without executing them.
"""

from __future__ import annotations

import io
import itertools
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch

from depth_anything_ros.errors import CheckpointInvalid
from depth_anything_ros.files.bounded_files import MIB

MAX_PICKLE_BYTES = 4 * MIB  # names and shapes; the largest encoder's take 0.1 MiB, with an optimizer's state 0.3
MAX_DIRECTORY_BYTES = 4 * MIB
LOCAL_HEADER_BYTES = 30  # of a zip member, before its name
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of a file written before torch 1.6
LEGACY_PICKLES = 5  # magic, version, machine, content, names of the storages; the storages follow
PLAIN_GLOBALS = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("torch", "Size"),
    ("torch", "device"),
    # Tensors that are not dense: torch reads them, and they are refused by name afterwards.
    ("torch", "per_tensor_affine"),
    ("torch", "per_channel_affine"),
    ("torch.serialization", "_get_layout"),
}


def check_pth(path: Path) -> bool:
    """Check a file's container and pickle. Return whether it is a zip file.

    Raises:
        CheckpointInvalid: no checkpoint of torch, truncated, damaged, compressed, too large in its
            directory or pickle, or with anything in its pickle that is not a tensor or plain data.
    """
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
        if is_zip:
            _check_zip(path)
        else:
            file.seek(0)
            _check_legacy(file, path)
    return is_zip


def _check_zip(path: Path) -> None:
    try:
        with _BoundedReader(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, path)
            pickled = next((member for member in members if member.filename.endswith("/data.pkl")), None)
            if pickled is None or any(member.filename.endswith("/constants.pkl") for member in members):
                raise CheckpointInvalid(f"{path} is not a checkpoint: a zip file that torch.save did not write")
            if pickled.file_size > MAX_PICKLE_BYTES:
                raise CheckpointInvalid(_too_large(path, pickled.file_size))
            for member in members:
                _check_crc(archive, member)
            _check_globals(pickletools.genops(archive.read(pickled)), path)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError, OverflowError) as error:
        if isinstance(error, CheckpointInvalid):
            raise
        raise CheckpointInvalid(f"{path} is truncated or damaged: {error!s:.200}") from error


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> None:
    names = [member.filename.lower() for member in members]  # torch looks them up without regard to case
    if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
        raise CheckpointInvalid(f"{path} is not a checkpoint: names of its members repeat or lie in several folders")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointInvalid(
                f"{path} has a compressed member {member.filename!r:.80}: torch would read wrong weights. "
                "Load and save it with torch, or download it again"
            )
    ordered = sorted(members, key=lambda member: member.header_offset)
    for member, following in itertools.pairwise(ordered):
        end = member.header_offset + LOCAL_HEADER_BYTES + len(member.filename) + member.file_size
        if end > following.header_offset:
            raise CheckpointInvalid(f"{path} is damaged: members {member.filename!r:.80} and its successor overlap")


def _check_crc(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as content:
        while content.read(MIB):  # raises BadZipFile at the end
            pass


def _described(start: bytes) -> str:
    """What a file is that begins like this, where downloads often leave it in place of weights."""
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; `git lfs pull` fetches the weights"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; download the file itself"
    return "neither safetensors nor a file of torch.save" if start else "it is empty"


def _check_legacy(file: BinaryIO, path: Path) -> None:
    """Check the five pickles at the start of a file in the format from before torch 1.6."""
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    try:
        is_legacy = [arg for _, arg, _ in pickletools.genops(head)][1:-1] == [LEGACY_MAGIC]
    except (ValueError, IndexError, OverflowError, MemoryError):
        is_legacy = False
    if not is_legacy:
        raise CheckpointInvalid(f"{path} is not a checkpoint: {_described(head.getvalue()[:100])}")
    try:
        for _ in range(1, LEGACY_PICKLES):
            _check_globals(pickletools.genops(head), path)
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        if isinstance(error, CheckpointInvalid):
            raise
        if head.tell() >= MAX_PICKLE_BYTES:
            raise CheckpointInvalid(_too_large(path, head.tell())) from error
        raise CheckpointInvalid(f"{path} is truncated or damaged: {error!s:.200}") from error


def _check_globals(operations: Iterator[tuple[pickletools.OpcodeInfo, object, int | None]], path: Path) -> None:
    """Walk one pickle without executing it. Refuse any callable but those of tensors and plain data."""
    for opcode, argument, _ in operations:
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            if not _is_plain(module, name):
                called = f"{module}.{name}"
                raise CheckpointInvalid(
                    f"{path} is not a checkpoint of tensors alone: it calls {called!r:.80}; it is not loaded"
                )
        elif opcode.name == "STACK_GLOBAL":
            raise CheckpointInvalid(f"{path} is not a checkpoint of tensors alone; it is not loaded")


def _is_plain(module: str, name: str) -> bool:
    if module in ("torch", "torch.storage") and name.endswith("Storage"):
        return True
    if module == "torch._utils" and name.startswith("_rebuild_"):
        return True
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return True
    return (module, name) in PLAIN_GLOBALS


def _too_large(path: Path, found: int) -> str:
    return (
        f"{path} has a pickle of {found} bytes or more; at most {MAX_PICKLE_BYTES} are read: "
        "it is not a checkpoint of these models"
    )


class _BoundedReader(io.BufferedReader):
    """Refuses to read a zip directory of more than `MAX_DIRECTORY_BYTES`, which zipfile reads in one piece."""

    def read(self, size: int | None = -1) -> bytes:
        is_all = size is None or size < 0
        data = super().read(MAX_DIRECTORY_BYTES + 1 if is_all else min(size or 0, MAX_DIRECTORY_BYTES + 1))
        if len(data) > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {MAX_DIRECTORY_BYTES} bytes")
        return data
