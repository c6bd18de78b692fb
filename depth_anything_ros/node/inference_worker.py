"""The one thread that takes the frames of all cameras through their stages, and survives what fails.

What each stage does is in `frame_input`, `camera_stage` and `outputs`; loading a model is in `model_holder`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from depth_anything_ros.errors import InputError, describe
from depth_anything_ros.estimator import DepthEstimator, DepthTensors
from depth_anything_ros.model.registry import encoder_spec
from depth_anything_ros.node.camera_pipeline import CameraPipeline, Made
from depth_anything_ros.node.frame import Frame, WaitingFrame
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.health import Level, Problem
from depth_anything_ros.node.model_holder import ModelHolder
from depth_anything_ros.node.recovery import Recovery

Batch: TypeAlias = list[tuple[CameraPipeline, Frame]]


class InferenceWorker:
    """Works on frames in their turn, one at a time; on a GPU on those of one size together.

    Args:
        cameras: in the order of their places in the queue.
        queue: where their frames wait.
        models: each frame is run on the model that this holds at the moment.
        recovery: says when to try again after the device failed.
        on_device_lost: called in the worker's thread, each time that a device failed too often in a row.
    """

    def __init__(
        self,
        cameras: Sequence[CameraPipeline],
        queue: FrameQueue[WaitingFrame],
        models: ModelHolder,
        recovery: Recovery,
        on_device_lost: Callable[[DepthEstimator], None],
    ) -> None:
        self._cameras = list(cameras)
        self._queue = queue
        self._models = models
        self._on_device_lost = on_device_lost
        self._lock = threading.Lock()  # starting and stopping
        self._thread: threading.Thread | None = None
        self._has_ended = False
        self._inferring_since_s: float | None = None
        self._recovery = recovery

    def start(self) -> None:
        """Begin, with nothing waiting. Does nothing after `end`."""
        with self._lock:
            if self._has_ended:
                return
            self._queue.open()
            self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float | None) -> bool:
        """Stop after the current frame. Returns False if that is still under way after the time."""
        with self._lock:
            self._queue.close()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def end(self, timeout_s: float) -> bool:
        """`stop` for good: the process ends, though another thread may be about to start the worker."""
        with self._lock:
            self._has_ended = True
        return self.stop(timeout_s)

    # The thread

    def _work(self) -> None:
        while (turns := self._queue.next_batch(self._batch_limit(), key=lambda frame: frame.size)) is not None:
            self._process([(self._cameras[place], frame) for place, frame in turns])

    def _batch_limit(self) -> int:
        held = self._models.held
        return 1 if held is None else max_batch(held.estimator, len(self._cameras))

    def _process(self, waiting: list[tuple[CameraPipeline, WaitingFrame]]) -> None:
        """Take frames of one size through all stages, with the current model. No reference to it is kept."""
        held = self._models.held
        if held is None or self._recovery.wait_s > 0:
            for camera, _ in waiting:
                camera.health.counts.dropped += 1
            return
        batch = self._decode(waiting)
        found = self._estimate(batch, held.estimator) if batch else None
        if found is not None:
            for index, (camera, frame) in enumerate(batch):
                self._publish(camera, frame, found.of_image(index), held.estimator)

    def _decode(self, waiting: list[tuple[CameraPipeline, WaitingFrame]]) -> Batch:
        """Return the frames whose image can be read."""
        batch: Batch = []
        for camera, frame in waiting:
            camera.health.frame_begun()
            try:
                batch.append((camera, camera.decode(frame)))
            except Exception as error:  # one frame is lost, whatever happened; the node is not
                camera.health.frame_failed(error)
        return batch

    def _estimate(self, batch: Batch, estimator: DepthEstimator) -> DepthTensors | None:
        """Return the model's outputs for frames of one size, on the device; None where that failed."""
        start_s = time.monotonic()
        try:
            found = self._infer(batch, estimator)
        except Exception as error:  # a device can fail in any way
            if not isinstance(error, InputError):
                self._note_failure(error, estimator)
            for camera, _ in batch:
                camera.health.frame_failed(error)
            return None
        for camera, frame in batch:
            camera.image_size = frame.image_bgr.shape[0], frame.image_bgr.shape[1]
            frame.watch.add("network", time.monotonic() - start_s)
        self._recovery.succeeded()
        return found

    def _infer(self, batch: Batch, estimator: DepthEstimator) -> DepthTensors:
        self._inferring_since_s = time.monotonic()
        try:
            return estimator.predict([frame.image_bgr for _, frame in batch])
        finally:
            self._inferring_since_s = None

    def _publish(self, camera: CameraPipeline, frame: Frame, found: DepthTensors, estimator: DepthEstimator) -> None:
        """Turn the model's outputs into what the camera publishes, unless the node was deactivated meanwhile."""
        settings = camera.settings
        outputs = camera.outputs if camera.is_active else None
        try:
            if outputs is not None:
                depth = camera.stage.process(frame, found, estimator, settings)
                camera.note(Made.of(depth, estimator.kind))
                outputs.publish(frame, depth, settings)
            camera.health.frame_done(frame.header, frame.watch, is_published=outputs is not None)
        except Exception as error:
            camera.health.frame_failed(error)

    # A device that fails

    def _note_failure(self, error: Exception, estimator: DepthEstimator) -> None:
        self._recovery.failed(describe(error))
        if self._recovery.is_lost:
            self._on_device_lost(estimator)

    def problems(self, stuck_after_s: float) -> list[Problem]:
        """Return what is wrong with the device, or with the worker itself."""
        found: list[Problem] = []
        since_s = self._inferring_since_s
        if since_s is not None and (taken_s := time.monotonic() - since_s) > stuck_after_s:
            found.append((Level.ERROR, f"the device is stuck: an inference has taken {taken_s:.0f} s so far"))
        if failures := self._recovery.failures:
            text = f"inference failed {failures} times in a row: {self._recovery.reason}"
            found.append((Level.ERROR, f"{text}; next try in {self._recovery.wait_s:.1f} s"))
        is_active = any(camera.is_active for camera in self._cameras)
        if is_active and self._thread is not None and not self._thread.is_alive():
            found.append((Level.ERROR, "the thread that handles frames has ended: configure the node again"))
        return found


def max_batch(estimator: DepthEstimator, cameras: int) -> int:
    """Return how many cameras' frames are estimated together."""
    if estimator.device.type != "cuda":
        return 1
    return min(cameras, encoder_spec(estimator.key.partition("_")[0]).gpu_batch)
