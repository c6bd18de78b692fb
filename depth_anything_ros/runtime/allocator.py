"""How this process allocates memory: a choice for programs to make, never made by importing."""

from __future__ import annotations

import ctypes

# Parameters of mallopt(3) and what they are set to.
_POLICY = {
    -3: 1 << 30,  # M_MMAP_THRESHOLD: blocks up to this size come from the heap, not fresh from the kernel
    -1: (1 << 31) - 1,  # M_TRIM_THRESHOLD: how much may lie free at the heap's end
    -2: 64 << 20,  # M_TOP_PAD: how much the heap grows at a time
    -8: 1,  # M_ARENA_MAX: the worker thread shares that heap; arenas of threads are limited in size
}


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process instead of going back to the kernel.

    Every frame allocates and frees the same tens of megabytes. If they went back to the kernel, each page would fault
    again, which costs more than the work itself: a 640x480 cloud took 8 ms instead of 2 ms. The price is a resident
    set that stays at its peak.

    Returns False where the C library does not accept every setting (mallopt is glibc's).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    accepted = [int(mallopt(parameter, value)) for parameter, value in _POLICY.items()]
    return 0 not in accepted


def trim_freed_memory() -> bool:
    """Give freed memory back to the kernel, once. Returns whether there was any."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):
        return False
