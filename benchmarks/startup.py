"""From starting the node's process to the first depth at a listener, with a cold and a warm cache; and memory.

The camera and the listener wait already when the node is started, in processes of their own. The weights
are a checkpoint file as anyone has it, with random values. Memory is the resident set of a process that
holds one estimator and nothing else, after a few estimates: as it is found, and again with what that left in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from benchmarks import report, versions
from benchmarks._ros_processes import RosProcesses
from depth_anything_ros.model.checkpoint_search import checkpoint_name
from depth_anything_ros.model.weights import UNTRAINED, load_model

DATASET = "hypersim"
RATE_HZ = 10.0
PEERS_READY_S = 3.0
TIMEOUT_S = 180.0
MEMORY_OF = (("torch", "fp32"), ("openvino", "fp32"), ("auto", "auto"))
CACHE_STATES = ("as found", "warm")


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks startup", description=__doc__)
    parser.add_argument("--encoder", default="vits")
    parser.add_argument("--warm-starts", type=int, default=3, help="after the cold one")
    args = parser.parse_args(argv)
    with checkpoint_of(args.encoder) as checkpoint:
        starts = [start(args.encoder, checkpoint) for _ in range(1 + args.warm_starts)]
        memory = [memory_mib(args.encoder, checkpoint, *how) for how in MEMORY_OF for _ in CACHE_STATES]
    report(
        "startup",
        versions=versions("torch", "openvino", "numpy", "ros-rclpy"),
        encoder=args.encoder,
        cold_s=starts[0],
        warm_s=starts[1:],
        resident_mib=memory,
    )


@contextmanager
def checkpoint_of(encoder: str) -> Iterator[Path]:
    """Write random weights to a file under the official name, in a folder that serves as the cache, too."""
    with TemporaryDirectory() as folder:
        path = Path(folder, checkpoint_name(encoder, DATASET)).with_suffix(".safetensors")
        save_file(load_model(encoder, DATASET, UNTRAINED).network.state_dict(), path)
        yield path


def start(encoder: str, checkpoint: Path) -> dict[str, float]:
    """Start the node once; seconds from the start of its process to each step."""
    cache = {"XDG_CACHE_HOME": str(checkpoint.parent)}
    with TemporaryDirectory() as folder, RosProcesses(Path(folder), environment=cache) as processes:
        processes.start_listener("depth")
        processes.start_camera(640, 480, RATE_HZ)
        time.sleep(PEERS_READY_S)  # they are on every robot before the node is
        began_s = time.time()
        processes.start_node(encoder=encoder, dataset=DATASET, checkpoint=checkpoint)
        processes.wait_for_arrivals(1, TIMEOUT_S)
        reached_s = {**processes.marks(), "first depth": processes.arrivals("depth")[0]["at_s"]}
    return {step: round(at_s - began_s, 2) for step, at_s in reached_s.items()}


def memory_mib(encoder: str, checkpoint: Path, backend: str, precision: str) -> dict[str, Any]:
    """Have a fresh process, with the same cache, hold an estimator; see `_holder`."""
    command = [sys.executable, "-m", "benchmarks._holder", encoder, DATASET, str(checkpoint), backend, precision]
    environment = {**os.environ, "XDG_CACHE_HOME": str(checkpoint.parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
