"""From an image's stamp to its depth at a listener: where the time goes, and what the node adds to `estimate`.

Node, camera and listener are processes of their own, as on a robot, and share the machine's cores. The
network is of toy size, so that the node can follow the camera. `slow` is the other case: a 30 Hz camera on
a network that takes many of its periods.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report, spread_ms, versions
from benchmarks._ros_processes import PROFILES, Note, RosProcesses
from depth_anything_ros.model.weights import UNTRAINED

SIZES = ("640x480", "1280x720", "1920x1080")
WARM_UP_FRAMES = 5
START_S = 60.0  # for the processes to start, and for a network to be compiled
PATIENCE = 2.0  # times as long as the frames should take: a profile may lose most of them
SLOW_RATE_HZ = 30.0
SLOW_MARGIN_S = 0.02


class Cell(NamedTuple):
    """One row of the table."""

    size: str
    clouds: bool
    profile: str

    def __str__(self) -> str:
        return f"{self.size}, {'with' if self.clouds else 'without'} cloud, {self.profile} profile"


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks node", description=__doc__)
    parser.add_argument("--encoder", default="toy")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="WIDTHxHEIGHT")
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=list(PROFILES))
    parser.add_argument("--clouds", nargs="+", choices=("yes", "no"), default=["yes", "no"])
    parser.add_argument("--rate-hz", type=float, default=3.0, help="of the camera")
    parser.add_argument("--frames", type=int, default=25, help="measured, after some that are not")
    parser.add_argument("--repeats", type=int, default=1, help="runs of the whole table")
    parser.add_argument("--slow", action="store_true", help="the slow network only")
    parser.add_argument("--slow-encoder", default="vits")
    args = parser.parse_args(argv)
    cells = [] if args.slow else [Cell(*cell) for cell in product(args.sizes, with_cloud(args.clouds), args.profiles)]
    runs: dict[Cell, list[dict[str, Any]]] = {cell: [] for cell in cells}
    for _ in range(args.repeats):
        for cell in cells:
            runs[cell].append(measure(cell, args.encoder, args.rate_hz, args.frames))
    report(
        "node",
        versions=versions("torch", "numpy", "ros-rclpy"),
        encoder=args.encoder,
        rate_hz=args.rate_hz,
        frames=args.frames,
        cells={str(cell): results for cell, results in runs.items()},
        slow=measure_slow(args.slow_encoder, args.frames),
    )


def with_cloud(answers: Iterable[str]) -> list[bool]:
    """Turn answers of the command line into truth."""
    return [answer == "yes" for answer in answers]


def measure(cell: Cell, encoder: str, rate_hz: float, frames: int) -> dict[str, Any]:
    """Run the three processes for a number of frames. Milliseconds, after a warm-up."""
    noted, arrivals = run(cell, encoder, rate_hz, frames)
    stages = dict.fromkeys(stage for frame in noted for stage in frame["stage_s"])
    return {
        "frames": len(noted),
        "stamp_to_arrival": {topic: spread_ms(latencies_s(notes)) for topic, notes in arrivals.items()},
        "overhead": spread_ms([overhead_s(frame) for frame in noted]),
        "estimate": spread_ms([frame["estimate_s"] for frame in noted]),
        "stages": {stage: spread_ms([frame["stage_s"].get(stage, 0.0) for frame in noted]) for stage in stages},
    }


def overhead_s(frame: Note) -> float:
    """Seconds from an image's turn to its last message, less `estimate`: all that the node itself costs."""
    waited_s = frame["stage_s"]["transport"] + frame["stage_s"]["queue"]
    return float(frame["latency_s"] - waited_s - frame["estimate_s"])


def measure_slow(encoder: str, frames: int) -> dict[str, Any]:
    """Hold each published frame against two inference times and a margin."""
    noted, arrivals = run(Cell("640x480", True, "shipped"), encoder, SLOW_RATE_HZ, frames, expected_s=0.5 * frames)
    estimate_s = float(np.median([frame["estimate_s"] for frame in noted]))
    limit_s = 2 * estimate_s + SLOW_MARGIN_S
    latencies = {"published": latencies_s(noted), "depth_arrived": latencies_s(arrivals["depth"])}
    return {
        "encoder": encoder,
        "rate_hz": SLOW_RATE_HZ,
        "frames": len(noted),
        "estimate": spread_ms([frame["estimate_s"] for frame in noted]),
        "limit_ms": round(1e3 * limit_s, 1),
        **{name: held_against(limit_s, found_s) for name, found_s in latencies.items()},
    }


def held_against(limit_s: float, found_s: list[float]) -> dict[str, Any]:
    """Share of latencies within a limit, and by how many milliseconds the worst is above it (below: negative)."""
    worst_s = max(found_s, default=float("nan"))
    return {
        "latency": spread_ms(found_s),
        "share_within": round(sum(latency_s <= limit_s for latency_s in found_s) / max(len(found_s), 1), 3),
        "worst_excess_ms": round(1e3 * (worst_s - limit_s), 1),
    }


def latencies_s(notes: Iterable[Note]) -> list[float]:
    """Seconds since the stamp."""
    return [note["latency_s"] for note in notes]


def run(
    cell: Cell, encoder: str, rate_hz: float, frames: int, expected_s: float | None = None
) -> tuple[list[Note], dict[str, list[Note]]]:
    """Return what the node and the listener noted, without the first ones."""
    width, height = map(int, cell.size.split("x"))
    topics = ("depth", "cloud") if cell.clouds else ("depth",)
    total = WARM_UP_FRAMES + frames
    timeout_s = PATIENCE * (expected_s or total / rate_hz)
    with TemporaryDirectory() as folder, RosProcesses(Path(folder), cell.profile) as processes:
        processes.start_node(encoder=encoder, checkpoint=UNTRAINED, warm_up_width=width, warm_up_height=height)
        processes.start_listener(*topics)
        processes.start_camera(width, height, rate_hz)
        processes.wait_for_frames(1, START_S)
        processes.wait_for_frames(total, timeout_s)
        noted, arrivals = processes.frames(), {topic: processes.arrivals(topic) for topic in topics}
    return noted[WARM_UP_FRAMES:], {topic: notes[WARM_UP_FRAMES:] for topic, notes in arrivals.items()}
