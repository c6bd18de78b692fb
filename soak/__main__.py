"""The node with the toy encoder on a 30 Hz camera, with all outputs subscribed, disturbed every 20 seconds.

Fails, with exit status 1 and the reasons, if memory or latency drifts upwards (`verdict.py`), if diagnostics
report an error while nothing is disturbed, if no frame is answered then, or if the node dies.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor

from benchmarks import hardware, versions
from soak.observer import OTHER_PARAMETERS, USUAL_PARAMETERS, Observer
from soak.verdict import Sample, drifts, medians

START_S = 60.0
# A disturbance, then calm. Samples are taken at the end, when all of the reports' 10 s window is calm, and 10 s before.
DISTURBED_S, SETTLING_S, ROUND_S = 5.0, 5.0, 20.0
Disturbance: TypeAlias = tuple[str, Callable[[], None], Callable[[], None]]  # name, beginning, end
PARAMETERS = {"encoder": "toy", "checkpoint": "untrained", "input_size": 56, "backend": "torch"}


class Soak:
    """One run. Its processes end with it."""

    def __init__(self, seed: int, log: Path) -> None:
        self._random = random.Random(seed)
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self.disturbances: dict[str, int] = {}
        self._coming: list[Disturbance] = []
        self._observer = Observer()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._observer)
        self._log = log.open("wb")
        given = [part for name, value in PARAMETERS.items() for part in ("-p", f"{name}:={value}")]
        self._node = self._start("depth_anything_ros.node", given)
        self._camera = self._start("soak.camera")
        self._observer.listen()

    def _start(self, module: str, arguments: list[str] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, "--ros-args", "-r", "__ns:=/soak", *(arguments or [])]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def run(self, minutes: float) -> None:
        """Wait for the first depth, then repeat rounds until time is up or the node has died."""
        self._spin(START_S, lambda: "latency_p50_ms" in self._observer.values)
        end_s = time.monotonic() + 60 * minutes
        while time.monotonic() < end_s and self._node.poll() is None:
            self._round()
        if self._node.poll() is not None:
            self.problems.append(f"the node ended with status {self._node.returncode}")
        self.problems += drifts(self.samples)

    def stop(self) -> None:
        """End everything."""
        for process in (self._camera, self._node):
            process.terminate()
            process.wait(20)
        self._executor.shutdown()
        self._observer.destroy_node()
        self._log.close()

    def result(self) -> dict[str, Any]:
        """Return what was measured."""
        values = self._observer.values
        return {
            "frames": {name[7:]: int(value) for name, value in values.items() if name.startswith("frames_")},
            "memory_mib_medians_of_thirds": medians([sample.memory_mib for sample in self.samples]),
            "latency_ms_medians_of_thirds": medians([sample.latency_ms for sample in self.samples]),
            "samples": len(self.samples),
            "disturbances": self.disturbances,
            "problems": self.problems,
        }

    # One round

    def _round(self) -> None:
        if not self._coming:  # every one once, in an order of its own
            self._coming = self._possible()
            self._random.shuffle(self._coming)
        name, begin, end = self._coming.pop()
        self.disturbances[name] = self.disturbances.get(name, 0) + 1
        begin()
        self._spin(DISTURBED_S)
        end()
        self._spin(SETTLING_S)
        self._take_sample()
        self._spin(ROUND_S - DISTURBED_S - SETTLING_S, self._sees_error)
        if self._sees_error():
            self.problems.append(f"an error after {name!r}: {self._observer.message}")
        if self._take_sample().latency_ms is None:
            self.problems.append(f"no frame was answered after {name!r}: {self._observer.message}")

    def _possible(self) -> list[Disturbance]:
        it = self._observer
        return [
            ("nobody listens", it.leave, it.listen),
            ("the camera restarts", self._kill_camera, self._restart_camera),
            ("parameters", lambda: it.configure(OTHER_PARAMETERS), lambda: it.configure(USUAL_PARAMETERS)),
            ("disabled", lambda: it.enable(False), lambda: it.enable(True)),
            ("malformed frames", it.send_malformed, it.send_malformed),
        ]

    def _kill_camera(self) -> None:
        self._camera.kill()
        self._camera.wait()

    def _restart_camera(self) -> None:
        self._camera = self._start("soak.camera")

    def _sees_error(self) -> bool:
        return self._observer.level >= 2

    def _take_sample(self) -> Sample:
        latency = self._observer.values.get("latency_p50_ms")
        resident = psutil.Process(self._node.pid).memory_info().rss if self._node.poll() is None else 0
        self.samples.append(Sample(resident / 2**20, None if latency is None else float(latency.split()[0])))
        return self.samples[-1]

    def _spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not until() and self._node.poll() is None:
            self._executor.spin_once(timeout_sec=min(left_s, 0.2))


def main() -> int:
    """Run, print one JSON line, and return the exit status."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances' order")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # inherited by the processes
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        soak = Soak(arguments.seed, log)
        try:
            soak.run(arguments.minutes)
        finally:
            soak.stop()
        line = {"soak": "node", "minutes": arguments.minutes, "seed": arguments.seed, "hardware": hardware()}
        print(json.dumps({**line, **soak.result(), "versions": versions("torch", "numpy", "ros-rclpy")}), flush=True)
        for problem in soak.problems:
            print(f"soak: {problem}", file=sys.stderr)
        if soak.problems:
            print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
    rclpy.try_shutdown()
    return 1 if soak.problems else 0


sys.exit(main())
