"""The timed node, a camera and a listener as processes, and what they noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

PROFILES = {"default": None, "shipped": Path(__file__).parent.parent / "config" / "fastdds.xml"}
PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
NODE_NOTES, LISTENER_NOTES = "node.jsonl", "listener.jsonl"
POLL_S = 0.05
END_TIMEOUT_S = 20.0

Note = dict[str, Any]


class RosProcesses:
    """Processes that share a ROS domain of their own, ended together.

    Args:
        folder: where they write their notes.
        profile: of Fast DDS, a key of `PROFILES`.
        environment: variables to add.
    """

    def __init__(self, folder: Path, profile: str = "shipped", environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = ros_environment(profile) | dict(environment or {})
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RosProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_node(self, **parameters: object) -> None:
        """Start the node with ROS parameters."""
        given = [text for name, value in parameters.items() for text in ("-p", f"{name}:={ros_text(value)}")]
        notes = str(self._folder / NODE_NOTES)
        self._start("benchmarks._timed_node", notes, "--ros-args", "--log-level", "warn", *given)

    def start_camera(self, width: int, height: int, rate_hz: float) -> None:
        """Start a camera that publishes pictures of one size."""
        options = ["--width", str(width), "--height", str(height), "--rate-hz", str(rate_hz)]
        self._start("benchmarks._ros_peers", "camera", *options)

    def start_listener(self, *topics: str) -> None:
        """Start what listens to `depth`, `cloud`, or both."""
        notes = str(self._folder / LISTENER_NOTES)
        self._start("benchmarks._ros_peers", "listener", "--file", notes, "--topics", *topics)

    def _start(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._processes.append(subprocess.Popen(command, env=self._environment))

    def wait_for_frames(self, count: int, timeout_s: float) -> None:
        """Wait until the node has published so many, the time is up, or one of the processes has ended."""
        self._wait(lambda: len(self.frames()) >= count, timeout_s)

    def wait_for_arrivals(self, count: int, timeout_s: float) -> None:
        """Wait until so many messages have arrived at the listener, or as above."""
        self._wait(lambda: len(self.arrivals()) >= count, timeout_s)

    def _wait(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_done() and time.monotonic() < deadline_s:
            if any(process.poll() is not None for process in self._processes):
                raise RuntimeError("the node, the camera or the listener ended too early")
            time.sleep(POLL_S)

    def marks(self) -> dict[str, float]:
        """Return when the node reached each step, seconds on the wall clock."""
        return {note["mark"]: note["at_s"] for note in self._notes(NODE_NOTES) if "mark" in note}

    def frames(self) -> list[Note]:
        """Return what the node noted of each frame."""
        return [note for note in self._notes(NODE_NOTES) if "stage_s" in note]

    def arrivals(self, topic: str | None = None) -> list[Note]:
        """Return what the listener noted of each message, of one topic or of all."""
        return [note for note in self._notes(LISTENER_NOTES) if topic in (None, note["topic"])]

    def _notes(self, name: str) -> list[Note]:
        path = self._folder / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def ros_environment(profile: str) -> dict[str, str]:
    """Return this process's environment for a ROS domain that no other process uses, on this machine only."""
    environment = {name: value for name, value in os.environ.items() if name != PROFILE_VARIABLE}
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    file = PROFILES[profile]
    return environment if file is None else {**environment, PROFILE_VARIABLE: str(file)}


def ros_text(value: object) -> str:
    """Write a parameter's value as YAML has it."""
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)
