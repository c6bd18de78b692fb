"""What the node publishes on /diagnostics: one status for each camera, once a second.

The contents come from elsewhere: a camera's from `health`, the device's from the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # where Humble has it
from rclpy.node import Node

from depth_anything_ros.errors import describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.camera_pipeline import CameraPipeline
from depth_anything_ros.node.health import Level, Problem
from depth_anything_ros.node.model_holder import ModelHolder
from depth_anything_ros.runtime.hardware import device_bytes, hardware_name, resident_bytes

PERIOD_S = 1.0
# How the name of a value ends -> its unit, as people write it.
UNITS = {"_hz": "Hz", "_ms": "ms", "_s": "s", "_per_m": "1/m", "_m": "m", "_mib": "MiB"}
REPEAT_S = 10.0  # between two log lines about diagnostics that cannot be published


@dataclass(frozen=True)
class Status:
    """A state, and what is wrong with it.

    Attributes:
        state: the message where nothing is wrong.
        problems: what is wrong.
    """

    state: str
    problems: tuple[Problem, ...] = ()

    @property
    def level(self) -> Level:
        """That of the worst problem."""
        return max((level for level, _ in self.problems), default=Level.OK)

    @property
    def message(self) -> str:
        """All problems, the worst first."""
        worst_first = sorted(self.problems, key=lambda problem: -problem[0])
        return "; ".join(text for _, text in worst_first) or self.state

    def with_warnings(self, texts: Sequence[str]) -> Status:
        """Return a status with more problems."""
        return replace(self, problems=(*self.problems, *((Level.WARN, text) for text in texts)))


class Diagnostics:
    """Publishes the statuses of all cameras.

    Args:
        node: where the publisher lives; its name begins the statuses' names.
        cameras: the cameras.
        models: whose model is described.
        node_status: state and problems of the node as a whole.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[CameraPipeline],
        models: ModelHolder,
        node_status: Callable[[], Status],
    ) -> None:
        self._node = node
        self._cameras = cameras
        self._models = models
        self._node_status = node_status
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # By a clock of its own: a recording that is paused, or played fast, does not change the node's state.
        node.create_timer(PERIOD_S, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _publish(self) -> None:
        """Publish, whatever happens: what is raised here would end the executor."""
        try:
            for camera in self._cameras:
                camera.scaling.check_time()
                camera.health.check_publishers(camera.settings)
            self._publisher.publish(self._report())
        except Exception as error:
            self._node.get_logger().error(f"no diagnostics: {describe(error)}", throttle_duration_sec=REPEAT_S)

    def _report(self) -> DiagnosticArray:
        status, values = self._node_status(), self._model_values()
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        for camera in self._cameras:
            name = f"{self._node.get_fully_qualified_name()}: {camera.name or 'depth'}"
            own = status.with_warnings(camera.health.problems(camera.settings))
            about = {"state": own.state, **camera.facts(), **camera.health.values(camera.settings)}
            array.status.append(status_message(name, own, {**about, **values}))
        return array

    def _model_values(self) -> dict[str, object]:
        values: dict[str, object] = {}
        if (resident := resident_bytes()) is not None:
            values["memory_mib"] = resident >> 20
        held = self._models.held
        return values if held is None else values | estimator_values(held.estimator)


def estimator_values(estimator: DepthEstimator) -> dict[str, object]:
    """Return what runs, and on what."""
    backend = estimator.backend
    values: dict[str, object] = {"model": estimator.key, "sha256": estimator.sha256, "device": estimator.device}
    values |= {"backend": backend.name, "precision": backend.precision}
    return values | hardware_values(estimator.device)


def hardware_values(device: torch.device) -> dict[str, object]:
    """Return a device's name and memory in use. A lost device may raise: the other values are published anyway."""
    try:
        used = device_bytes(device)
        values: dict[str, object] = {"hardware": hardware_name(device)}
        return values if used is None else values | {"device_memory_mib": used >> 20}
    except Exception as error:
        return {"hardware": f"unknown: {describe(error)}"}


def status_message(name: str, status: Status, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return the message of a status; the value `hardware` is its hardware id."""
    message = DiagnosticStatus(name=name, message=status.message, hardware_id=str(values.get("hardware", "")))
    message.level = bytes([status.level])
    message.values = [KeyValue(key=key, value=with_unit(key, value)) for key, value in values.items()]
    return message


def with_unit(name: str, value: object) -> str:
    """Return a value as people write it, with the unit that its name ends with: `14.9 Hz`, `23 ms`."""
    unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
    return f"{value} {unit}".rstrip()
