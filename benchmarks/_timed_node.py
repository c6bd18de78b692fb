"""The node as its users run it, noting how long everything took.

`python -m benchmarks._timed_node FILE [ROS ARGUMENTS]`: FILE gets one JSON object a line, `mark` and `at_s`
for steps of the start, `latency_s`, `estimate_s` and `stage_s` for every frame that was published.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from depth_anything_ros.estimator import DepthEstimator, DepthTensors
from depth_anything_ros.node.frame_statistics import FrameStatistics
from depth_anything_ros.node.lifecycle import PROGRAM, DepthAnythingNode
from depth_anything_ros.node.process import run_node
from depth_anything_ros.settings import ModelSettings


class Notes:
    """The file, and how long the last `predict` took."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1)
        self.estimate_s = 0.0

    def mark(self, name: str) -> None:
        """Note when a step was reached, on the wall clock that all processes share."""
        self.write({"mark": name, "at_s": time.time()})

    def write(self, values: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(values) + "\n")


class TimedEstimator(DepthEstimator):
    """Notes how long each estimate took."""

    notes: Notes

    def predict(self, images_bgr: Sequence[NDArray[np.uint8]]) -> DepthTensors:
        """The same, timed."""
        start_s = time.perf_counter()
        try:
            return super().predict(images_bgr)
        finally:
            self.notes.estimate_s = time.perf_counter() - start_s


class NotedStatistics(FrameStatistics):
    """Notes every frame, not only statistics of the last seconds."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def published(self, latency_s: float, stage_s: Mapping[str, float]) -> None:
        """The same, noted."""
        super().published(latency_s, stage_s)
        self._notes.write({"latency_s": latency_s, "estimate_s": self._notes.estimate_s, "stage_s": dict(stage_s)})


class TimedNode(DepthAnythingNode):
    """The node with both of these."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        super().__init__(load=self._load_timed)
        for camera in self._cameras:
            camera.health.statistics = NotedStatistics(notes)
        notes.mark("made")

    def _load_timed(self, settings: ModelSettings) -> DepthEstimator:
        estimator = TimedEstimator.from_settings(settings)
        assert isinstance(estimator, TimedEstimator)
        estimator.notes = self._notes
        self._notes.mark("loaded")
        return estimator

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same, marked."""
        result = super().on_activate(state)
        self._notes.mark("active")
        return result


def main() -> None:
    """Run the node until it is told to end."""
    path, *ros_arguments = sys.argv[1:]
    notes = Notes(Path(path))
    notes.mark("imported")
    run_node(PROGRAM, partial(TimedNode, notes), DepthAnythingNode.start, DepthAnythingNode.stop, ros_arguments)


if __name__ == "__main__":
    main()
