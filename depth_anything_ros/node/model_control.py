"""The node's model and the parameters that ask for it, kept in step.

Parameters say which model is wanted. After a model failed to load, or the device failed, they are set to what runs.
How a model is replaced while frames go on is in `model_holder`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node
from rclpy.parameter import Parameter

from depth_anything_ros.errors import describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node import configuration
from depth_anything_ros.node.calibrator import Calibrator
from depth_anything_ros.node.camera_pipeline import CameraPipeline
from depth_anything_ros.node.health import Level, Problem
from depth_anything_ros.node.inference_worker import max_batch
from depth_anything_ros.node.model_holder import HeldModel, ModelHolder
from depth_anything_ros.node.parameters import HOW_TO_FETCH
from depth_anything_ros.node.recovery import Recovery
from depth_anything_ros.settings import ModelSettings


class ModelControl:
    """Loads the model, and sets the node's parameters to what runs. Methods belong to the executor's thread.

    Args:
        node: whose parameters and log they are.
        cameras: the cameras.
        calibrator: follows the model.
        recovery: what is known about the device's failures; a new model forgets them.
        load: makes an estimator of settings.

    Attributes:
        models: holds the model.
        cpu_fallback: switch to the CPU when the device is lost; replaced by the node when parameters change.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[CameraPipeline],
        calibrator: Calibrator,
        recovery: Recovery,
        load: Callable[[ModelSettings], DepthEstimator],
    ) -> None:
        self.models = ModelHolder(self._load_prepared, self._on_replaced, self._on_failed)
        self.cpu_fallback = False
        self._node = node
        self._cameras = cameras
        self._calibrator = calibrator
        self._recovery = recovery
        self._load = load
        self._problem = ""
        self._has_given_up = False  # the device, since a model was loaded
        # Other threads find these; the executor's thread, which alone sets parameters, handles them.
        self._is_new = node.create_guard_condition(self.follow)
        self._parameters_stale = node.create_guard_condition(self._show_running_model)
        self._device_given_up = node.create_guard_condition(self._switch_to_the_cpu)

    def problems(self) -> list[Problem]:
        """Return what is wrong with the model."""
        level = Level.ERROR if self.models.held is None else Level.WARN
        return [(level, self._problem)] if self._problem else []

    def load(self, settings: ModelSettings) -> str:
        """Load a model here and now. Returns why that failed; empty if it did not."""
        try:
            held = self.models.load(settings)
        except Exception as error:  # a device can fail in any way
            self._problem = f"cannot load {settings.key}: {describe(error)}"
            return self._problem
        self._on_loaded(held)
        self.follow()
        return ""

    def release(self) -> None:
        """Drop the model and what was wrong with it."""
        self.models.release()
        self._problem = ""

    def follow(self) -> None:
        """Apply the calibrations of the model that runs."""
        if (held := self.models.held) is not None:
            self._calibrator.follow(held.estimator.key, held.estimator.kind)

    def on_device_lost(self, estimator: DepthEstimator) -> None:
        """Switch to the CPU where that is wanted. May be called by any thread, as often as it likes."""
        if self.cpu_fallback and not self._has_given_up and estimator.device.type != "cpu":
            self._has_given_up = True
            self._device_given_up.trigger()

    # In the thread that loads

    def _load_prepared(self, settings: ModelSettings) -> DepthEstimator:
        """Load a model that has seen images of the cameras' sizes: what is compiled for a size takes seconds."""
        estimator = self._load(settings)
        expected = dict.fromkeys(camera.expected_size for camera in self._cameras)
        for height, width in (size for size in expected if size is not None):
            for batch in range(1, max_batch(estimator, len(self._cameras)) + 1):
                estimator.warm_up(height, width, batch)
        return estimator

    def _on_loaded(self, held: HeldModel) -> None:
        self._problem = ""
        self._has_given_up = False
        self._recovery.succeeded()
        for camera in self._cameras:
            camera.scaling.give_up("the model was changed")
        estimator = held.estimator
        backend = estimator.backend
        self._node.get_logger().info(
            f"running {estimator.key} on {estimator.device} with {backend.name} in {backend.precision}"
        )

    def _on_replaced(self, held: HeldModel) -> None:
        self._on_loaded(held)
        self._is_new.trigger()

    def _on_failed(self, error: Exception, held: HeldModel) -> None:
        self._problem = f"cannot load the model asked for; keeping {held.estimator.key}: {describe(error)}"
        self._node.get_logger().error(self._problem)
        self._parameters_stale.trigger()

    # In the executor's thread

    def _show_running_model(self) -> None:
        """Set the parameters back to the model that runs, so that they stay true."""
        held = self.models.held
        if held is not None and not self.models.is_changing:
            values = configuration.to_ros(held.settings)
            self._set({name: value for name, value in values.items() if name not in HOW_TO_FETCH})

    def _switch_to_the_cpu(self) -> None:
        """Ask for the same model on the CPU by setting the parameters, so everybody can see it."""
        held = self.models.held
        if held is not None and held.settings.device != "cpu":
            self._node.get_logger().error(f"giving up the device and continuing on the CPU: {self._recovery.reason}")
            # A CPU may not have the precision and backend that the GPU was set to.
            self._set({"device": "cpu", "precision": "auto", "backend": "auto"})

    def _set(self, values: dict[str, object]) -> None:
        self._node.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])
