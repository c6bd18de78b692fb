"""The ROS 2 node: camera images in; metric depth, camera info, clouds and pictures out.

The executor's thread only takes messages in; one worker thread decodes, estimates and publishes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, TypeAlias

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_anything_ros import parameters
from depth_anything_ros.camera_infos import CameraInfos
from depth_anything_ros.conversions import compressed_to_bgr, image_to_bgr
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.frame_queue import FrameQueue
from depth_anything_ros.model_holder import HeldModel, ModelHolder
from depth_anything_ros.node_main import describe, run_node
from depth_anything_ros.outputs import Outputs
from depth_anything_ros.settings import ModelSettings, NodeSettings

NODE_NAME = "depth_anything"
CAMERA_INFO_QUEUE = 10
COMMON_SIZE = (480, 640)
DIAGNOSTICS_PERIOD_S = 1.0
MAX_DISTINCT_COMPLAINTS = 1000

ImageMessage: TypeAlias = Any  # Image or CompressedImage; message classes carry no types


@dataclass
class FrameCounts:
    """What became of every image received: `received` is the sum of the others and of those in hand."""

    received: int = 0
    processed: int = 0  # published, unless the node was deactivated meanwhile
    dropped: int = 0  # gave way to a newer one before its turn
    ignored: int = 0  # nobody listened
    failed: int = 0  # unreadable, or inference failed


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
    """Lifecycle node around one estimator.

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
        self._wanted_model, self._settings = parameters.read(self)
        self._load = load
        self._image_size: tuple[int, int] | None = None
        self._models = ModelHolder(self._load_warm, self._on_model_loaded, self._on_model_failed)
        self._parameters_stale = self.create_guard_condition(self._show_running_model)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._camera_infos = CameraInfos(self.resolve_topic_name("camera_info"))
        self._frames: FrameQueue[ImageMessage] = FrameQueue(1)
        self._outputs: Outputs | None = None
        self._worker: threading.Thread | None = None
        self._inputs: list[Any] = []
        self._active = False
        self.counts = FrameCounts()
        self._said: set[str] = set()
        self._model_problem = self._frame_problem = ""
        self._problems: list[str] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)

    # Lifecycle

    @_said_if_it_fails
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, offer the topics, start the worker."""
        try:
            held = self._models.load(self._wanted_model)
        except Exception as error:  # a device can fail in any way
            self._model_problem = f"cannot load {self._wanted_model.key}: {describe(error)}"
            self.get_logger().error(self._model_problem)
            return TransitionCallbackReturn.FAILURE
        self._on_model_loaded(held)
        self._outputs = Outputs(self, self._camera_infos, self._complain)
        self._frames = FrameQueue(self._queue_size())
        self._worker = threading.Thread(
            target=self._work, args=(self._frames, self._outputs), name="inference", daemon=True
        )
        self._worker.start()
        return TransitionCallbackReturn.SUCCESS

    @_said_if_it_fails
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start taking images."""
        result = super().on_activate(state)
        self._active = True
        compressed = self._settings.image_transport == "compressed"
        topic = self.resolve_topic_name("image") + ("/compressed" if compressed else "")
        self._subscribe(CompressedImage if compressed else Image, topic, self._on_image, self._queue_size())
        self._subscribe(CameraInfo, "camera_info", self._camera_infos.add, CAMERA_INFO_QUEUE)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop taking images; one that is being worked on is not published any more."""
        self._stop_taking_images()
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

    def _queue_size(self) -> int:
        return self._settings.queue_size if self._settings.process_every_frame else 1

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        qos = QoSProfile(reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST, depth=depth)
        options = QoSOverridingOptions.with_default_policies()
        self._inputs.append(self.create_subscription(kind, topic, callback, qos, qos_overriding_options=options))

    def _stop_taking_images(self) -> None:
        self._active = False
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        self.counts.dropped += self._frames.clear()

    def _release(self) -> None:
        self._stop_taking_images()
        self._stop_working(timeout_s=None)
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        self._models.release()

    def _stop_working(self, timeout_s: float | None) -> bool:
        self._frames.close()
        if self._worker is not None:
            self._worker.join(timeout_s)
        return self._worker is None or not self._worker.is_alive()

    def start(self) -> None:
        """Configure and activate, unless somebody else is to do that."""
        if self.get_parameter("autostart").value and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self, timeout_s: float) -> bool:
        """Stop for good. Returns False if an inference or a load is still under way after the time."""
        self._active = False
        self._models.release()
        return self._stop_working(timeout_s) and self._models.join(timeout_s)

    # Parameters and the model

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        values = {change.name: change.value for change in changes}
        try:
            model, settings = parameters.changed(self._wanted_model, self._settings, values)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings = settings
        is_another = model != self._wanted_model
        self._wanted_model = model
        if is_another:
            self._models.request(model)
        return SetParametersResult(successful=True)

    def _load_warm(self, settings: ModelSettings) -> DepthEstimator:
        """Load a model that has seen an image of the camera's size: a backend may compile for it, for seconds.

        Before the first image a GPU is shown one of a common size, for its libraries take seconds to start.
        """
        estimator = self._load(settings)
        if self._image_size is not None:
            estimator.warm_up(*self._image_size)
        elif estimator.device.type == "cuda":
            estimator.warm_up(*COMMON_SIZE)
        return estimator

    def _on_model_loaded(self, held: HeldModel) -> None:
        self._model_problem = self._frame_problem = ""
        estimator = held.estimator
        backend = estimator.backend
        self.get_logger().info(
            f"running {estimator.key} on {estimator.device} with {backend.name} in {backend.precision}"
        )

    def _on_model_failed(self, error: Exception, held: HeldModel) -> None:
        self._model_problem = f"cannot load the model asked for, {held.estimator.key} stays: {describe(error)}"
        self.get_logger().error(self._model_problem)
        self._parameters_stale.trigger()

    def _show_running_model(self) -> None:
        """Set the parameters back to the model that runs, so that they tell the truth."""
        held = self._models.held
        if held is not None and not self._models.is_changing:
            values = parameters.to_ros(held.settings)
            self.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])

    # Frames

    def _on_image(self, msg: ImageMessage) -> None:
        self.counts.received += 1
        held = self._models.held
        if self._outputs is None or held is None or not self._outputs.someone_listens(held.estimator.kind):
            self.counts.ignored += 1
        elif self._frames.put(msg):
            self.counts.dropped += 1

    def _work(self, frames: FrameQueue[ImageMessage], outputs: Outputs) -> None:
        while (msg := frames.take()) is not None:
            held = self._models.held
            if held is None:
                self.counts.dropped += 1
                return
            self._problems = []
            try:
                self._process(msg, held.estimator, outputs, self._settings)
                self.counts.processed += 1
            except Exception as error:  # one frame is lost, whatever happened; the node is not
                self.counts.failed += 1
                if self._active:
                    self._complain(f"frame dropped: {describe(error)}")
            self._frame_problem = "; ".join(self._problems)

    def _process(self, msg: ImageMessage, estimator: DepthEstimator, outputs: Outputs, settings: NodeSettings) -> None:
        image = compressed_to_bgr(msg) if isinstance(msg, CompressedImage) else image_to_bgr(msg)
        depth = estimator.estimate_tensor(image, settings.max_depth)
        self._image_size = image.shape[0], image.shape[1]
        if not self._active:
            return
        if estimator.kind == "relative":
            outputs.publish_relative(depth.cpu().numpy(), msg.header)
        else:
            outputs.publish_metric(depth, image, msg.header, settings, settings.max_depth or estimator.max_depth)

    # Telling people

    def _complain(self, text: str) -> None:
        """Warn once about each thing, however often it happens."""
        self._problems.append(text)
        if text not in self._said and len(self._said) < MAX_DISTINCT_COMPLAINTS:
            self._said.add(text)
            self.get_logger().warning(text)

    def _publish_diagnostics(self) -> None:
        held = self._models.held
        values: dict[str, object] = {f"frames_{name}": count for name, count in asdict(self.counts).items()}
        if held is not None:
            backend = held.estimator.backend
            values |= {"model": held.estimator.key, "sha256": held.estimator.sha256, "device": held.estimator.device}
            values |= {"backend": backend.name, "precision": backend.precision}
        status = DiagnosticStatus(name=f"{self.get_fully_qualified_name()}: depth")
        status.level, status.message = self._health(held)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _health(self, held: HeldModel | None) -> tuple[bytes, str]:
        if problem := self._model_problem or self._frame_problem:
            return DiagnosticStatus.ERROR if held is None else DiagnosticStatus.WARN, problem
        return DiagnosticStatus.OK, "active" if self._active else "inactive"


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM. Exit status 2 for a parameter that is not allowed."""
    run_node(NODE_NAME, DepthAnythingNode, DepthAnythingNode.start, DepthAnythingNode.stop, args)


if __name__ == "__main__":
    main()
