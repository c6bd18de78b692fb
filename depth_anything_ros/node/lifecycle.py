"""The ROS 2 node: camera images in; metric depth, camera info, clouds and pictures out.

The executor's thread only takes messages in and answers; `inference_worker` does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # where Humble has it
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import SettingsError, describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node import parameters
from depth_anything_ros.node.calibrator import Calibrator
from depth_anything_ros.node.camera_stream import CameraStream
from depth_anything_ros.node.diagnostics import Health, Level, status_of
from depth_anything_ros.node.frame import Frame, FrameCounts
from depth_anything_ros.node.inference_worker import InferenceWorker
from depth_anything_ros.node.model_holder import HeldModel, ModelHolder
from depth_anything_ros.node.process import run_node
from depth_anything_ros.node.scaling import RELATIVE_REFUSAL
from depth_anything_ros.node.snapshot_writer import SnapshotWriter
from depth_anything_ros.runtime.hardware import device_bytes, hardware_name, resident_bytes
from depth_anything_ros.settings import ModelSettings

NODE_NAME = "depth_anything"
DIAGNOSTICS_PERIOD_S = 1.0
COMPLAINT_S = 10.0  # between two about diagnostics themselves


def _said_if_it_fails(transition: Callable[..., TransitionCallbackReturn]) -> Callable[..., TransitionCallbackReturn]:
    """Log what a transition raises: rclpy turns it into an error state without a word."""

    @wraps(transition)
    def run(node: DepthAnythingNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.get_logger().error(f"{transition.__name__} failed: {describe(error)}")
            return TransitionCallbackReturn.ERROR

    return run


class DepthAnythingNode(LifecycleNode):
    """Lifecycle node around one estimator, for one camera or several.

    Args:
        load: makes the estimator from settings; tests put their own here.
        node_arguments: for `rclpy.node.Node`, such as `context` or `parameter_overrides`.

    Raises:
        rclpy.exceptions.ParameterException, SettingsError: a parameter given at the start is of the
            wrong type or not allowed.
    """

    def __init__(
        self, load: Callable[[ModelSettings], DepthEstimator] = DepthEstimator.from_settings, **node_arguments: Any
    ) -> None:
        super().__init__(NODE_NAME, **node_arguments)
        parameters.declare(self)
        self._configuration = parameters.read(self)
        self._load = load
        self._models = ModelHolder(self._load_warm, self._on_model_swapped, self._on_model_failed)
        self._model_problem = ""
        self._has_given_up = False  # the device, since a model was loaded
        self._enabled = True
        node = self._configuration.node
        self._streams = [CameraStream(self, self, name, self._configuration.of_camera(name)) for name in node.cameras]
        self._worker = InferenceWorker(self._streams, self._models, self._on_hopeless)
        self._calibrator = Calibrator(self, self._streams, node.calibration_file)
        self._snapshots = SnapshotWriter(self, self._streams, node.snapshot_folder)
        # What other threads find that concerns parameters is done by the executor's.
        self._model_is_new = self.create_guard_condition(self._follow_model)
        self._parameters_stale = self.create_guard_condition(self._show_running_model)
        self._device_given_up = self.create_guard_condition(self._go_on_with_the_cpu)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reload", self._on_reload)
        # A callback that awaits holds up its whole group: in the node's own, no image would come meanwhile.
        patient = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/snapshot", self._on_snapshot, callback_group=patient)
        self.create_service(Trigger, "~/calibrate", self._on_calibrate, callback_group=patient)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # By a clock of its own: a recording that is paused, or played fast, does not change how the node is.
        self.create_timer(
            DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames of all cameras."""
        names = [field.name for field in fields(FrameCounts)]
        return FrameCounts(**{name: sum(getattr(stream.counts, name) for stream in self._streams) for name in names})

    # Lifecycle

    @_said_if_it_fails
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, offer the topics, start the worker."""
        try:
            held = self._models.load(self._configuration.model)
        except Exception as error:  # a device can fail in any way
            self._model_problem = f"cannot load {self._configuration.model.key}: {describe(error)}"
            self.get_logger().error(self._model_problem)
            return TransitionCallbackReturn.FAILURE
        self._on_model_loaded(held)
        self._follow_model()
        for stream in self._streams:
            stream.open()
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    @_said_if_it_fails
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start taking images."""
        result = super().on_activate(state)
        for stream in self._streams:
            stream.start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop taking images; one that is being worked on is not published any more."""
        for stream in self._streams:
            stream.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model's memory and take the topics away."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same, from whatever state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to the start after a transition that failed half-way."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        for stream in self._streams:
            stream.stop()
        self._worker.stop(timeout_s=None)
        for stream in self._streams:
            stream.close()
        self._models.release()
        self._model_problem = ""

    def start(self) -> None:
        """Configure and activate, unless somebody else is to do that."""
        if self._configuration.node.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self, timeout_s: float) -> bool:
        """Stop for good. Returns False if an inference, a load or a snapshot is still under way after the time."""
        for stream in self._streams:
            stream.silence()
        self._models.release()
        return self._worker.stop(timeout_s) and self._models.join(timeout_s) and self._snapshots.join(timeout_s)

    # Parameters and the model

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        values = {change.name: change.value for change in changes}
        deleted = [change.name for change in changes if change.type_ == Parameter.Type.NOT_SET]
        if deleted:  # rclpy would let those go that may be without a value
            return SetParametersResult(successful=False, reason=f"parameter {deleted[0]} cannot be deleted")
        try:
            self._configuration = parameters.changed(self._configuration, values)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for stream in self._streams:
            stream.settings = self._configuration.of_camera(stream.name)
        if values.keys() & parameters.MODEL_PARAMETERS.keys():
            self._models.request(self._configuration.model)
        return SetParametersResult(successful=True)

    def _load_warm(self, settings: ModelSettings) -> DepthEstimator:
        """Load a model that has seen images of the cameras' sizes: what is compiled for a size takes seconds."""
        estimator = self._load(settings)
        expected = dict.fromkeys(stream.expected_size for stream in self._streams)
        for height, width in (size for size in expected if size is not None):
            for batch in range(1, self._worker.max_batch(estimator) + 1):
                estimator.warm_up(height, width, batch)
        return estimator

    def _on_model_loaded(self, held: HeldModel) -> None:
        self._model_problem = ""
        self._has_given_up = False
        self._worker.recovery.succeeded()
        for stream in self._streams:
            stream.scaling.give_up("the model was changed")
        estimator = held.estimator
        backend = estimator.backend
        self.get_logger().info(
            f"running {estimator.key} on {estimator.device} with {backend.name} in {backend.precision}"
        )

    def _on_model_swapped(self, held: HeldModel) -> None:
        self._on_model_loaded(held)
        self._model_is_new.trigger()

    def _on_model_failed(self, error: Exception, held: HeldModel) -> None:
        self._model_problem = f"cannot load the model asked for, {held.estimator.key} stays: {describe(error)}"
        self.get_logger().error(self._model_problem)
        self._parameters_stale.trigger()

    def _show_running_model(self) -> None:
        """Set the parameters back to the model that runs, so that they tell the truth."""
        held = self._models.held
        if held is not None and not self._models.is_changing:
            values = parameters.to_ros(held.settings).items()
            what_runs = [(name, value) for name, value in values if name not in parameters.HOW_TO_FETCH]
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in what_runs])

    def _follow_model(self) -> None:
        if (held := self._models.held) is not None:
            self._calibrator.follow(held.estimator.key)

    def _on_hopeless(self, estimator: DepthEstimator) -> None:
        is_due = self._configuration.node.cpu_fallback and not self._has_given_up
        if is_due and estimator.device.type != "cpu":
            self._has_given_up = True
            self._device_given_up.trigger()

    def _go_on_with_the_cpu(self) -> None:
        """Ask for the same model on the CPU, by the parameters that say so to everybody."""
        if self._configuration.model.device != "cpu":
            self.get_logger().error(f"the device is given up, the CPU goes on: {self._worker.recovery.reason}")
            # What a GPU was told to run with, a CPU may not have.
            values = {"device": "cpu", "precision": "auto", "backend": "auto"}
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])

    # Frames, as the cameras see the node: `camera_stream.Host`

    def kind(self) -> Kind | None:
        """Kind of depth that the model makes; None while none is to be made."""
        held = self._models.held
        return held.estimator.kind if held is not None and self._enabled else None

    def put(self, stream: CameraStream, frame: Frame) -> bool:
        """Let a frame wait for its turn; True if an older one was dropped for it."""
        return self._worker.put(stream, frame)

    def drop_waiting(self, stream: CameraStream) -> int:
        """Drop the camera's waiting frames and return how many there were."""
        return self._worker.drop_waiting(stream)

    # Services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Work, or leave frames alone with the model at hand."""
        self._enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Load the model anew, from its file, while the present one works on."""
        response.success = self._models.reload()
        response.message = f"loading {self._configuration.model.key}" if response.success else "no model is loaded"
        return response

    async def _on_snapshot(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Write every camera's latest frame to files."""
        response.success, response.message = await self._snapshots.write()
        return response

    async def _on_calibrate(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Fit every camera's scale and shift to the evidence that comes."""
        held = self._models.held
        if held is None or not any(stream.is_active for stream in self._streams):
            response.success, response.message = False, "the node is not active"
        elif held.estimator.kind == "relative":
            response.success, response.message = False, RELATIVE_REFUSAL
        else:
            response.success, response.message = await self._calibrator.run(held.estimator.key)
            self._follow_model()  # another may have taken over meanwhile
            self.get_logger().info(f"calibration: {response.message}")
        return response

    # Telling people

    def _publish_diagnostics(self) -> None:
        """Report, whatever happens: what is raised here would end the executor."""
        try:
            for stream in self._streams:
                stream.scaling.check_time()
            self._diagnostics.publish(self._report())
        except Exception as error:
            self.get_logger().error(f"no diagnostics: {describe(error)}", throttle_duration_sec=COMPLAINT_S)

    def _report(self) -> DiagnosticArray:
        health, values = self._health(), self._values()
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        for stream in self._streams:
            own = health.with_warnings(stream.warnings())
            name = f"{self.get_fully_qualified_name()}: {stream.name or 'depth'}"
            array.status.append(status_of(name, own, {**stream.values(), **values}))
        return array

    def _health(self) -> Health:
        problems = self._worker.problems(self._configuration.node.stuck_after_s)
        if self._model_problem:
            level = Level.ERROR if self._models.held is None else Level.WARN
            problems.insert(0, (level, self._model_problem))
        is_active = any(stream.is_active for stream in self._streams)
        state = ("active" if self._enabled else "disabled") if is_active else "inactive"
        return Health(state, tuple(problems))

    def _values(self) -> dict[str, object]:
        values: dict[str, object] = {}
        if (resident := resident_bytes()) is not None:
            values["memory_mib"] = resident >> 20
        held = self._models.held
        if held is None:
            return values
        estimator, backend = held.estimator, held.estimator.backend
        values |= {"model": estimator.key, "sha256": estimator.sha256, "device": estimator.device}
        values |= {"backend": backend.name, "precision": backend.precision}
        return values | hardware_values(estimator.device)


def hardware_values(device: torch.device) -> dict[str, object]:
    """Return what a device says of itself; one that is lost may say nothing, and that is no reason to be silent."""
    try:
        used = device_bytes(device)
        values: dict[str, object] = {"hardware": hardware_name(device)}
        return values if used is None else values | {"device_memory_mib": used >> 20}
    except Exception as error:
        return {"hardware": f"unknown: {describe(error)}"}


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM. Exit status 2 for a parameter that is not allowed."""
    run_node(NODE_NAME, DepthAnythingNode, DepthAnythingNode.start, DepthAnythingNode.stop, args)


if __name__ == "__main__":
    main()
