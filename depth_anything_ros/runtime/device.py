"""Compute devices: choosing one, sharing it between models, and its memory when it runs out."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from depth_anything_ros.errors import DeviceError, OutOfMemory
from depth_anything_ros.runtime.allocator import trim_freed_memory

# Out-of-memory messages of the CPU's allocator, the CUDA runtime and cuBLAS, which raise a plain RuntimeError.
PLAIN_MEMORY_ERRORS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def select_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device of this machine.

    Raises:
        DeviceError: unknown name, or no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; allowed: auto, cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device {name!r} is not supported; allowed: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f"device {name!r} does not exist: this machine has {count} CUDA devices")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else torch.device("cpu")


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Turn running out of memory into OutOfMemory, with the device's cache emptied."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        if device.type == "cuda":
            empty_cache()
        raise OutOfMemory(f"{device} has no memory left for this model and image size") from error


def free_unused_memory() -> None:
    """Return unused memory of deleted models to the system: the device's cache and the C library's heap."""
    gc.collect()
    if torch.cuda.is_available():
        empty_cache()
    trim_freed_memory()


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in PLAIN_MEMORY_ERRORS)


# Held while a CUDA graph is captured or cached memory is released, on any device: torch releases the memory of all
# devices together, and fails if one of them is capturing.
_capturing = threading.Lock()


_guard = threading.Lock()


_turns: dict[torch.device, threading.RLock] = {}


def device_lock(device: torch.device) -> threading.RLock:
    """Return the device's one lock, for all models on it: held while a network is launched, captured or replayed."""
    with _guard:
        return _turns.setdefault(device, threading.RLock())


def empty_cache() -> None:
    """Release the memory that torch keeps for reuse, on all devices."""
    with _capturing:
        torch.cuda.empty_cache()


def available_devices() -> list[str]:
    """Return every CUDA device, or the CPU if there is none."""
    if not torch.cuda.is_available():
        return ["cpu"]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
