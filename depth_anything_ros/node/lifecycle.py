"""The ROS 2 node: what it is made of, its lifecycle, its parameters and its services.

Frames do not pass through here: what a camera consists of is in `camera_pipeline`, what happens to a frame in
`inference_worker`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from depth_anything_ros.errors import SettingsError, describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node import configuration
from depth_anything_ros.node.calibrator import Calibrator
from depth_anything_ros.node.camera_pipeline import CameraPipeline
from depth_anything_ros.node.command_line import Program
from depth_anything_ros.node.diagnostics import Diagnostics, Status
from depth_anything_ros.node.frame import WaitingFrame
from depth_anything_ros.node.frame_input import queue_size
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.health import FrameCounts, Level
from depth_anything_ros.node.inference_worker import InferenceWorker
from depth_anything_ros.node.model_control import ModelControl
from depth_anything_ros.node.outputs import Makes
from depth_anything_ros.node.parameter_table import warn_of_unknown
from depth_anything_ros.node.parameters import MODEL_PARAMETERS, PARAMETERS
from depth_anything_ros.node.process import run_node
from depth_anything_ros.node.recovery import Recovery
from depth_anything_ros.node.scaling import RELATIVE_REFUSAL
from depth_anything_ros.node.snapshot_writer import SnapshotWriter
from depth_anything_ros.settings import ModelSettings

NODE_NAME = "depth_anything"
PROGRAM = Program(
    "depth_anything_node",
    NODE_NAME,
    "Turns the images of one camera or several into metric depth and point clouds. Topics in: image, camera_info, "
    "range. Topics out: ~/depth/image, ~/depth/camera_info, ~/points and others; docs/node.md lists them. A parameter "
    "can be given to one camera alone: -p front.max_range_m:=8.0.",
    PARAMETERS,
    configuration.DEFAULTS,
)


def _logs_errors(transition: Callable[..., TransitionCallbackReturn]) -> Callable[..., TransitionCallbackReturn]:
    """Log what a transition raises: rclpy turns it into an error state without logging it."""

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
        configuration.declare(self)
        self._configuration = configuration.read(self)
        warn_of_unknown(self, configuration.names_of_all(self._configuration.node.cameras))
        self._waits_for_activate = False  # since configuring failed
        self._enabled = True
        settings, recovery = self._configuration.node, Recovery()
        self._cameras = self._make_cameras(queue := self._make_queue())
        self._calibrator = Calibrator(self, self._cameras, settings.calibration_file)
        self._control = ModelControl(self, self._cameras, self._calibrator, recovery, load)
        self._control.cpu_fallback = settings.cpu_fallback
        self._models = self._control.models
        self._worker = InferenceWorker(self._cameras, queue, self._models, recovery, self._control.on_device_lost)
        self._snapshots = SnapshotWriter(self, self._cameras, settings.snapshot_folder)
        self._diagnostics = Diagnostics(self, self._cameras, self._models, self._status)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._offer_services()

    def _make_queue(self) -> FrameQueue[WaitingFrame]:
        settings = [self._configuration.of_camera(name) for name in self._configuration.node.cameras]
        return FrameQueue([queue_size(camera) for camera in settings])

    def _make_cameras(self, queue: FrameQueue[WaitingFrame]) -> list[CameraPipeline]:
        return [
            CameraPipeline(self, name, self._configuration.of_camera(name), queue, place, self._makes)
            for place, name in enumerate(self._configuration.node.cameras)
        ]

    def _offer_services(self) -> None:
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reload", self._on_reload)
        # A callback that awaits holds up its whole group: in the node's own, no image would come meanwhile.
        waiting = ReentrantCallbackGroup()
        self.create_service(Trigger, "~/snapshot", self._on_snapshot, callback_group=waiting)
        self.create_service(Trigger, "~/calibrate", self._on_calibrate, callback_group=waiting)

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames of all cameras."""
        counts = [camera.health.counts for camera in self._cameras]
        return FrameCounts(*(sum(getattr(each, field.name) for each in counts) for field in fields(FrameCounts)))

    def _makes(self) -> Makes | None:
        """What the model makes of an image; None while it is to make nothing."""
        held = self._models.held
        return Makes.of(held.estimator) if held is not None and self._enabled else None

    def _status(self) -> Status:
        """State and problems of the node as a whole, for diagnostics."""
        problems = [*self._control.problems(), *self._worker.problems(self._configuration.node.stuck_after_s)]
        is_active = any(camera.is_active for camera in self._cameras)
        if self._waits_for_activate and self._models.held is not None and not is_active:
            problems.append((Level.WARN, f"configured, but not active: {self._command('activate')}"))
        state = ("active" if self._enabled else "disabled") if is_active else "inactive"
        return Status(state, tuple(problems))

    def _command(self, transition: str) -> str:
        return f"ros2 lifecycle set {self.get_fully_qualified_name()} {transition}"

    # Lifecycle

    @_logs_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, offer the topics, start the worker."""
        if problem := self._control.load(self._configuration.model):
            self._waits_for_activate = True
            self.get_logger().error(f"{problem}\nThen: {self._command('configure')} && {self._command('activate')}")
            return TransitionCallbackReturn.FAILURE
        for camera in self._cameras:
            camera.open()
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    @_logs_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start taking images."""
        result = super().on_activate(state)
        for camera in self._cameras:
            camera.start()
        self._waits_for_activate = False
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop taking images; one that is being worked on is not published any more."""
        for camera in self._cameras:
            camera.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model's memory and take the topics away."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same, from any state."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to the start after a transition that failed half-way."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _release(self) -> None:
        for camera in self._cameras:
            camera.stop()
        self._worker.stop(timeout_s=None)
        for camera in self._cameras:
            camera.close()
        self._control.release()

    def start(self) -> None:
        """Configure and activate, unless somebody else is to do that."""
        if self._configuration.node.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self, timeout_s: float) -> bool:
        """Stop for good. Returns False if an inference, a load or a snapshot is still under way after the time."""
        for camera in self._cameras:
            camera.stop_publishing()
        self._models.release()
        return self._worker.end(timeout_s) and self._models.join(timeout_s) and self._snapshots.join(timeout_s)

    # Parameters

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        values = {change.name: change.value for change in changes}
        deleted = [change.name for change in changes if change.type_ == Parameter.Type.NOT_SET]
        if deleted:  # rclpy would delete those that may be without a value
            return SetParametersResult(successful=False, reason=f"parameter {deleted[0]} cannot be deleted")
        try:
            self._configuration = configuration.changed(self._configuration, values)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._control.cpu_fallback = self._configuration.node.cpu_fallback
        for camera in self._cameras:
            camera.settings = self._configuration.of_camera(camera.name)
        if values.keys() & MODEL_PARAMETERS.keys():
            self._models.request(self._configuration.model)
        return SetParametersResult(successful=True)

    # Services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Handle frames, or ignore them and keep the model loaded."""
        self._enabled = request.data
        response.success, response.message = True, "enabled" if request.data else "disabled"
        return response

    def _on_reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Load the model from its file again, while the present one works on."""
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
        if held is None or not any(camera.is_active for camera in self._cameras):
            response.success, response.message = False, "the node is not active"
        elif held.estimator.kind == "relative":
            response.success, response.message = False, RELATIVE_REFUSAL
        else:
            response.success, response.message = await self._calibrator.run(held.estimator.key, held.estimator.kind)
            self._control.follow()  # another may have taken over meanwhile
            self.get_logger().info(f"calibration: {response.message}")
        return response


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM. Exit status 2 for a parameter that is not allowed."""
    run_node(PROGRAM, DepthAnythingNode, DepthAnythingNode.start, DepthAnythingNode.stop, args)


if __name__ == "__main__":
    main()
