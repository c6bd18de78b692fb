"""The node with the toy encoder on a 30 Hz camera, with all outputs subscribed, disturbed every 20 seconds.

Fails, with exit status 1 and the reasons, if memory or latency drifts upwards (`verdict`), if diagnostics report an
error while nothing is disturbed, if no frame is answered then, if a frame is not accounted for, or if the node dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import rclpy
from rclpy.executors import SingleThreadedExecutor

from soak.command import run_soak
from soak.observer import OTHER_PARAMETERS, USUAL_PARAMETERS, Observer
from soak.peer import eventually
from soak.rounds import Disturbance, Record, soak
from soak.verdict import Sample

START_S = 60.0
PARAMETERS = {"encoder": "toy", "checkpoint": "untrained", "input_size": 56, "backend": "torch"}
ENDS = ("processed", "dropped", "ignored", "failed")  # of a frame


class NodeSoak:
    """A node, its camera, and who listens to it. The processes end with `stop`."""

    def __init__(self, log: Path) -> None:
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

    def wait_for_depth(self) -> None:
        """Wait until the first frames are answered."""
        end_s = time.monotonic() + START_S
        while self._latency_ms() is None and time.monotonic() < end_s:
            self.wait(0.2)

    def stop(self) -> None:
        """End everything."""
        for process in (self._camera, self._node):
            process.terminate()
            eventually(lambda process=process: process.poll() is not None, "end of a process")  # type: ignore[misc]
        self._executor.shutdown()
        self._observer.destroy_node()
        self._log.close()

    def counts(self) -> dict[str, int]:
        """Return the frames that the node has counted, and what came of them here."""
        values = self._observer.values
        frames = {name: int(values[f"frames_{name}"]) for name in ("received", *ENDS) if f"frames_{name}" in values}
        return frames | {f"messages on {topic}": count for topic, count in self._observer.answers.items()}

    # As `rounds.Subject`

    def disturbances(self) -> list[Disturbance]:
        """Return all that can happen to it."""
        it = self._observer
        return [
            Disturbance("nobody listens", it.leave, it.listen),
            Disturbance("the camera restarts", self._kill_camera, self._restart_camera),
            Disturbance("parameters", lambda: it.configure(OTHER_PARAMETERS), lambda: it.configure(USUAL_PARAMETERS)),
            Disturbance("disabled", lambda: it.enable(False), lambda: it.enable(True)),
            Disturbance("malformed frames", it.send_malformed, it.send_malformed),
            Disturbance("the model is loaded again", it.reload, it.reload),
        ]

    def _kill_camera(self) -> None:
        self._camera.kill()
        self._camera.wait()

    def _restart_camera(self) -> None:
        self._camera = self._start("soak.camera")

    def wait(self, seconds: float) -> None:
        """Answer what comes, until the time is up or the node has died."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and self._node.poll() is None:
            self._executor.spin_once(timeout_sec=min(left_s, 0.2))

    def death(self) -> str | None:
        """Return how the node ended, if it did."""
        status = self._node.poll()
        return None if status is None else f"the node ended with status {status}"

    def sample(self) -> Sample:
        """Return its state now."""
        resident = psutil.Process(self._node.pid).memory_info().rss if self._node.poll() is None else 0
        return Sample(resident / 2**20, self._latency_ms())

    def _latency_ms(self) -> float | None:
        value = self._observer.values.get("latency_p50_ms")
        return None if value is None else float(value.split()[0])  # after it is its unit

    def complaints(self) -> list[str]:
        """Return the error that it reports, whether frames stay out, and whether all are accounted for."""
        said = self._observer.message
        found = [f"an error: {said}"] if self._observer.level >= 2 else []
        if self._latency_ms() is None:
            found.append(f"no frame was answered: {said}")
        counts = self.counts()
        open_frames = counts.get("received", 0) - sum(counts.get(end, 0) for end in ENDS)
        if not 0 <= open_frames <= 2:  # one in work, one that waits
            found.append(f"{open_frames} frames were received and have no end: {counts}")
        return found


def measure(minutes: float, seed: int, log: Path) -> tuple[Record, dict[str, Any]]:
    """Run the soak of the node; return what came of it, and what was counted."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))  # inherited by the processes
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init()
    try:
        subject = NodeSoak(log)
        try:
            subject.wait_for_depth()
            record = soak(subject, minutes, seed)
            return record, {"frames": subject.counts()}
        finally:
            subject.stop()
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(run_soak("node", measure, "ros-rclpy"))
