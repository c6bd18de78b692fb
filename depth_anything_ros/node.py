"""The ROS 2 node: camera images in; metric depth, camera info, clouds and pictures out.

The executor's thread only takes messages in; one worker thread decodes, estimates and publishes.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as Work
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # where Humble has it
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger
from torch import Tensor

from depth_anything_ros import parameters
from depth_anything_ros.camera_stream import CameraStream, Frame, FrameCounts
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.diagnostics import Health, Level, status_of
from depth_anything_ros.errors import DeviceError, FitRefused, InputError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.frame_queue import FrameQueue
from depth_anything_ros.hardware import device_bytes, hardware_name, resident_bytes
from depth_anything_ros.model.registry import encoder_spec
from depth_anything_ros.model_holder import HeldModel, ModelHolder
from depth_anything_ros.node_main import describe, run_node
from depth_anything_ros.recovery import Recovery
from depth_anything_ros.scale.alignment import AS_PREDICTED
from depth_anything_ros.scale.calibrations import Calibration, load_calibration, save_calibration
from depth_anything_ros.scale.fit import DepthScale, ScaleFit
from depth_anything_ros.scaling import RELATIVE_REFUSAL
from depth_anything_ros.settings import ModelSettings
from depth_anything_ros.snapshots import write_snapshot

NODE_NAME = "depth_anything"
DIAGNOSTICS_PERIOD_S = 1.0
COMPLAINT_S = 10.0  # between two about diagnostics themselves
SNAPSHOT_FOLDER = "depth_anything_snapshots"


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
        self._models = ModelHolder(self._load_warm, self._on_model_loaded, self._on_model_failed)
        self._recovery = Recovery()
        self._model_problem = ""
        self._inferring_since_s: float | None = None
        self._parameters_stale = self.create_guard_condition(self._show_running_model)
        self._device_given_up = self.create_guard_condition(self._go_on_with_the_cpu)
        self._model_is_new = self.create_guard_condition(self._load_calibrations)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._streams = [
            CameraStream(self, self, name, self._configuration.of_camera(name))
            for name in self._configuration.node.cameras
        ]
        self._frames = self._new_queue()
        self._calibrated_for: dict[str, str] = {}  # camera -> key of the model that its scale was fitted to
        self._worker: threading.Thread | None = None
        self._enabled = True
        self._files = ThreadPoolExecutor(1, "files")
        self._writing: set[Work[None]] = set()
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
        for stream in self._streams:
            stream.open()
        self._frames = self._new_queue()
        self._worker = threading.Thread(target=self._work, args=(self._frames,), name="inference", daemon=True)
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

    def _new_queue(self) -> FrameQueue[Frame]:
        return FrameQueue([stream.queue_size for stream in self._streams])

    def _release(self) -> None:
        for stream in self._streams:
            stream.stop()
        self._stop_working(timeout_s=None)
        for stream in self._streams:
            stream.close()
        self._models.release()

    def _stop_working(self, timeout_s: float | None) -> bool:
        self._frames.close()
        if self._worker is not None:
            self._worker.join(timeout_s)
        return self._worker is None or not self._worker.is_alive()

    def start(self) -> None:
        """Configure and activate, unless somebody else is to do that."""
        if self._configuration.node.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self, timeout_s: float) -> bool:
        """Stop for good. Returns False if an inference, a load or a snapshot is still under way after the time."""
        for stream in self._streams:
            stream.silence()
        self._models.release()
        has_stopped = self._stop_working(timeout_s) and self._models.join(timeout_s)
        return has_stopped and not wait(self._writing, timeout_s).not_done

    # Parameters and the model

    def _on_set_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        before = self._configuration
        try:
            self._configuration = parameters.changed(before, {change.name: change.value for change in changes})
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for stream in self._streams:
            stream.settings = self._configuration.of_camera(stream.name)
        if self._configuration.model != before.model:
            self._models.request(self._configuration.model)
        return SetParametersResult(successful=True)

    def _load_warm(self, settings: ModelSettings) -> DepthEstimator:
        """Load a model that has seen images of the cameras' sizes: what is compiled for a size takes seconds."""
        estimator = self._load(settings)
        expected = dict.fromkeys(stream.expected_size for stream in self._streams)
        for height, width in (size for size in expected if size is not None):
            for batch in range(1, self._max_batch(estimator) + 1):
                estimator.warm_up(height, width, batch)
        return estimator

    def _max_batch(self, estimator: DepthEstimator) -> int:
        """How many cameras' frames are estimated together: on a GPU only."""
        if estimator.device.type != "cuda":
            return 1
        return min(len(self._streams), encoder_spec(estimator.key.partition("_")[0]).gpu_batch)

    def _on_model_loaded(self, held: HeldModel) -> None:
        self._model_problem = ""
        self._model_is_new.trigger()
        self._recovery.succeeded()
        for stream in self._streams:
            stream.scaling.give_up("the model was changed")
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

    # Frames, as the cameras see the node: `camera_stream.Host`

    def kind(self) -> Kind | None:
        """Kind of depth that the model makes; None while none is to be made."""
        held = self._models.held
        return held.estimator.kind if held is not None and self._enabled else None

    def put(self, stream: CameraStream, frame: Frame) -> bool:
        """Let a frame wait for its turn; True if an older one was dropped for it."""
        return self._frames.put(self._streams.index(stream), frame)

    def drop_waiting(self, stream: CameraStream) -> int:
        """Drop the camera's waiting frames and return how many there were."""
        return self._frames.clear(self._streams.index(stream))

    # The worker

    def _work(self, frames: FrameQueue[Frame]) -> None:
        while (turns := frames.take(self._batch_limit(), kind=lambda frame: frame.size)) is not None:
            self._take([(self._streams[index], frame) for index, frame in turns])

    def _take(self, batch: list[tuple[CameraStream, Frame]]) -> None:
        """Work on frames whose turn has come, with the model of this moment, which nothing here holds afterwards."""
        held = self._models.held
        if held is None or self._recovery.wait_s > 0:
            for stream, _ in batch:
                stream.counts.dropped += 1
        else:
            self._process(batch, held.estimator)

    def _batch_limit(self) -> int:
        held = self._models.held
        return 1 if held is None else self._max_batch(held.estimator)

    def _process(self, batch: list[tuple[CameraStream, Frame]], estimator: DepthEstimator) -> None:
        batch = [(stream, frame) for stream, frame in batch if stream.decode(frame)]
        if not batch:
            return
        try:
            depths = self._infer(batch, estimator)
        except Exception as error:  # a device can fail in any way
            if not isinstance(error, InputError):
                self._on_inference_failed(error, estimator)
            for stream, _ in batch:
                stream.fail(error)
            return
        for (stream, frame), depth in zip(batch, depths, strict=True):
            stream.publish(frame, depth, estimator)

    def _infer(self, batch: list[tuple[CameraStream, Frame]], estimator: DepthEstimator) -> Tensor:
        """Return depth of decoded frames of one size, float32 (B, H, W) on the device."""
        self._inferring_since_s = time.monotonic()
        try:
            images = [frame.image for _, frame in batch if frame.image is not None]
            depths = estimator.estimate_tensors(images, [stream.settings.max_depth for stream, _ in batch])
            if not torch.isfinite(depths).all():
                raise DeviceError(f"{estimator.device} answered with numbers that are not finite")
        finally:
            took_s = time.monotonic() - self._inferring_since_s
            self._inferring_since_s = None
        for _, frame in batch:
            frame.watch.add("network", took_s)
        self._recovery.succeeded()
        return depths

    def _on_inference_failed(self, error: Exception, estimator: DepthEstimator) -> None:
        self._recovery.failed(describe(error))
        may_fall_back = self._configuration.node.cpu_fallback and estimator.device.type != "cpu"
        if may_fall_back and self._recovery.is_hopeless:
            self._device_given_up.trigger()

    def _go_on_with_the_cpu(self) -> None:
        """Ask for the same model on the CPU, by the parameter that says so to everybody."""
        if self._configuration.model.device != "cpu":
            self.get_logger().error(f"the device is given up, the CPU goes on: {self._recovery.reason}")
            self.set_parameters_atomically([Parameter("device", value="cpu")])

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
        """Write every camera's latest frame to files, beside the executor: a large cloud takes a second."""
        latest = [stream.latest for stream in self._streams if stream.latest is not None]
        if not latest:
            response.success, response.message = False, "no frame with metric depth was published yet"
            return response
        folder = snapshot_folder(self._configuration.node.snapshot_folder)
        written: Future[str] = Future(executor=self.executor)

        def write() -> None:
            try:
                written.set_result(", ".join(str(write_snapshot(snapshot, folder)) for snapshot in latest))
            except Exception as error:
                written.set_exception(error)

        self._writing = {self._files.submit(write)}  # one after the other: when the last is done, all are
        try:
            response.message = await written
            response.success = True
        except Exception as error:
            response.success, response.message = False, describe(error)
        return response

    async def _on_calibrate(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Fit every camera's scale and shift to what its range sensor or the ground says about the next frames."""
        held = self._models.held
        if held is None or not any(stream.is_active for stream in self._streams):
            response.success, response.message = False, "the node is not active"
            return response
        if held.estimator.kind == "relative":
            response.success, response.message = False, RELATIVE_REFUSAL
            return response
        under_way = [(stream, self._calibration_of(stream)) for stream in self._streams]
        found = [(stream, await calibration or FitRefused("no result")) for stream, calibration in under_way]
        try:
            for stream, fit in found:
                if isinstance(fit, ScaleFit):
                    self._take_over(stream, fit, held.estimator.key)
            response.success = all(isinstance(fit, ScaleFit) for _, fit in found)
            response.message = "; ".join(f"{stream.title}: {describe_fit(fit)}" for stream, fit in found)
        except InputError as error:  # the file cannot be written
            response.success, response.message = False, str(error)
        self.get_logger().info(f"calibration: {response.message}")
        return response

    def _calibration_of(self, stream: CameraStream) -> Future[ScaleFit | FitRefused]:
        ended: Future[ScaleFit | FitRefused] = Future(executor=self.executor)
        stream.scaling.calibrate(ended.set_result)
        return ended

    def _take_over(self, stream: CameraStream, fit: ScaleFit, model_key: str) -> None:
        """Set the camera's parameters, so that everybody sees what holds, and write it down."""
        self._set_scale(stream, fit, model_key)
        if (file := self._configuration.node.calibration_file) is not None:
            today = datetime.date.today().isoformat()
            save_calibration(Path(file).expanduser(), stream.title, Calibration.of(fit, model_key, today))

    def _load_calibrations(self) -> None:
        """Take the cameras' scale and shift for the model that runs from the file, unless they were set by hand."""
        held, file = self._models.held, self._configuration.node.calibration_file
        if held is None:
            return
        for stream in self._streams:
            fitted_to = self._calibrated_for.get(stream.name)
            is_by_hand = fitted_to is None and (stream.settings.scale, stream.settings.shift_m) != AS_PREDICTED.numbers
            if is_by_hand or fitted_to == held.estimator.key:
                continue
            if fitted_to is not None:
                self.get_logger().warning(f"{stream.title}: its scale was fitted to {fitted_to} and is given up")
                self._set_scale(stream, AS_PREDICTED, None)
            if file is not None:
                self._load_calibration(stream, Path(file).expanduser(), held.estimator.key)

    def _load_calibration(self, stream: CameraStream, file: Path, model_key: str) -> None:
        try:
            calibration = load_calibration(file, stream.title, model_key)
        except SettingsError as error:
            self.get_logger().warning(f"{stream.title} is not calibrated: {error}")
        else:
            self._set_scale(stream, calibration.depth_scale, model_key)

    def _set_scale(self, stream: CameraStream, found: DepthScale, model_key: str | None) -> None:
        prefix = f"{stream.name}." if stream.name else ""
        values = {"scale": found.scale, "shift_m": found.shift_m}
        self.set_parameters_atomically([Parameter(prefix + name, value=value) for name, value in values.items()])
        if model_key is None:
            self._calibrated_for.pop(stream.name, None)
        else:
            self._calibrated_for[stream.name] = model_key

    # Telling people

    def _publish_diagnostics(self) -> None:
        """Report, whatever happens: what is raised here would end the executor."""
        for stream in self._streams:
            stream.scaling.check_time()
        try:
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
        held, now_s, since_s = self._models.held, time.monotonic(), self._inferring_since_s
        problems: list[tuple[Level, str]] = []
        if self._model_problem:
            problems.append((Level.ERROR if held is None else Level.WARN, self._model_problem))
        if since_s is not None and now_s - since_s > self._configuration.node.stuck_after_s:
            problems.append(
                (Level.ERROR, f"the device is stuck: an inference has taken {now_s - since_s:.0f} s so far")
            )
        if failures := self._recovery.failures:
            text = f"inference failed {failures} times in a row: {self._recovery.reason}"
            problems.append((Level.ERROR, f"{text}; next try in {self._recovery.wait_s:.1f} s"))
        is_active = any(stream.is_active for stream in self._streams)
        if is_active and self._worker is not None and not self._worker.is_alive():
            problems.append((Level.ERROR, "the thread that handles frames has ended: configure the node anew"))
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


def describe_fit(fit: ScaleFit | FitRefused) -> str:
    """Say what a calibration found."""
    if not isinstance(fit, ScaleFit):
        return f"refused, {fit}"
    text = f"scale {fit.scale:.4f}, shift {fit.shift_m:+.3f} m, residual {fit.residual_m:.3f} m"
    return f"{text}, {fit.inlier_share:.0%} of {fit.samples} samples agree{f' ({fit.remark})' if fit.remark else ''}"


def snapshot_folder(name: str | None) -> Path:
    """Return the folder for snapshots; None is one of its own in the ROS home."""
    return (
        Path(name).expanduser() if name else Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser() / SNAPSHOT_FOLDER
    )


def main(args: list[str] | None = None) -> None:
    """Run the node until SIGINT or SIGTERM. Exit status 2 for a parameter that is not allowed."""
    run_node(NODE_NAME, DepthAnythingNode, DepthAnythingNode.start, DepthAnythingNode.stop, args)


if __name__ == "__main__":
    main()
