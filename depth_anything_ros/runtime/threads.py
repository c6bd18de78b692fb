"""How many threads this process computes with, and how they wait: choices for programs, never made by importing.

A network gets every physical core the process may use, and everything else one thread: what converts
images and encodes answers runs beside the network, and would only take its cores away. A renderer gets one
thread too: its loops are short, and waiting for a second thread on a shared core costs more than it gains.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

OPENMP_VARIABLE = "OMP_NUM_THREADS"
# Read by the thread pool of torch when it is loaded: GNU's and LLVM's OpenMP, and Intel's.
SLEEP_WHILE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


def let_waiting_threads_sleep() -> None:
    """Let threads that wait for the others of a parallel loop sleep, not spin. Call it before torch is imported.

    A spinning thread takes a core from other work. On shared cores it even takes the time of the thread that it
    waits for. Child processes inherit the choice; a user's own setting stays.
    """
    for name, value in SLEEP_WHILE_WAITING.items():
        os.environ.setdefault(name, value)


def share_cores(processes: int = 1, opencv_threads: int = 1, torch_threads: int | None = None) -> int:
    """Set torch's and OpenCV's threads for this process, before it computes anything; returns torch's.

    Args:
        processes: how many of this kind share the machine.
        opencv_threads: one where conversions run beside the network; 0 leaves OpenCV its own choice.
        torch_threads: None takes every core, shared among the processes.
    """
    import cv2
    import torch

    if OPENMP_VARIABLE not in os.environ:  # otherwise the user has chosen, and torch follows
        torch.set_num_threads(torch_threads or max(1, available_cores() // processes))
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)  # the network is one chain: nothing in it runs side by side
        except RuntimeError:  # they have been started already
            pass
    if opencv_threads:
        cv2.setNumThreads(opencv_threads)
    return torch.get_num_threads()


def available_cores(topology: Path = TOPOLOGY, cgroup: Path = CGROUP) -> int:
    """Physical cores that this process may use, by its affinity and its container's quota; 1 or more."""
    cores = physical_cores(os.sched_getaffinity(0), topology)
    quota = cpu_quota(cgroup)
    return cores if quota is None else max(1, min(cores, int(quota)))


def physical_cores(cpus: Iterable[int], topology: Path = TOPOLOGY) -> int:
    """Count the cores behind logical CPUs. One whose topology cannot be read counts as a core."""
    return len({_core(cpu, topology) for cpu in cpus})


def _core(cpu: int, topology: Path) -> tuple[str, ...]:
    folder = topology / f"cpu{cpu}" / "topology"
    try:
        return (folder / "physical_package_id").read_text().strip(), (folder / "core_id").read_text().strip()
    except OSError:
        return (f"cpu{cpu}",)


def cpu_quota(cgroup: Path = CGROUP) -> float | None:
    """CPUs' worth of time that the control group of a container is given, version 2 or 1; None has no limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if quota.strip() not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
