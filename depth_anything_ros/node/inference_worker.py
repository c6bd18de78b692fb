"""The one thread that works on the frames of all cameras: decodes, estimates, publishes, and survives what fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from depth_anything_ros.errors import DeviceError, InputError, describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.registry import encoder_spec
from depth_anything_ros.node.camera_stream import CameraStream
from depth_anything_ros.node.diagnostics import Level, Problem
from depth_anything_ros.node.frame import Frame
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.model_holder import ModelHolder
from depth_anything_ros.node.recovery import Recovery

Batch: TypeAlias = list[tuple[CameraStream, Frame]]


class InferenceWorker:
    """Takes frames in their turn, one at a time; on a GPU those of one size together.

    Args:
        streams: the cameras.
        models: whose model is used, the one of the moment for each frame.
        on_hopeless: called in the worker's thread, each time that a device failed too often in a row.
    """

    def __init__(
        self,
        streams: Sequence[CameraStream],
        models: ModelHolder,
        on_hopeless: Callable[[DepthEstimator], None],
    ) -> None:
        self._streams = list(streams)
        self._models = models
        self._on_hopeless = on_hopeless
        self._frames = self._new_queue()
        self._thread: threading.Thread | None = None
        self._inferring_since_s: float | None = None
        self.recovery = Recovery()

    def _new_queue(self) -> FrameQueue[Frame]:
        return FrameQueue([stream.queue_size for stream in self._streams])

    def start(self) -> None:
        """Begin, with nothing waiting."""
        self._frames = self._new_queue()
        self._thread = threading.Thread(target=self._work, args=(self._frames,), name="inference", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float | None) -> bool:
        """End after the frame at hand. Returns False if it is still under way after the time."""
        self._frames.close()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def put(self, stream: CameraStream, frame: Frame) -> bool:
        """Let a frame wait for its turn; True if an older one was dropped for it."""
        return self._frames.put(self._streams.index(stream), frame)

    def drop_waiting(self, stream: CameraStream) -> int:
        """Drop a camera's waiting frames and return how many there were."""
        return self._frames.clear(self._streams.index(stream))

    def max_batch(self, estimator: DepthEstimator) -> int:
        """How many cameras' frames are estimated together."""
        if estimator.device.type != "cuda":
            return 1
        return min(len(self._streams), encoder_spec(estimator.key.partition("_")[0]).gpu_batch)

    def problems(self, stuck_after_s: float) -> list[Problem]:
        """Return what is wrong with the device, or with the worker itself."""
        found: list[Problem] = []
        since_s = self._inferring_since_s
        if since_s is not None and (taken_s := time.monotonic() - since_s) > stuck_after_s:
            found.append((Level.ERROR, f"the device is stuck: an inference has taken {taken_s:.0f} s so far"))
        if failures := self.recovery.failures:
            text = f"inference failed {failures} times in a row: {self.recovery.reason}"
            found.append((Level.ERROR, f"{text}; next try in {self.recovery.wait_s:.1f} s"))
        is_active = any(stream.is_active for stream in self._streams)
        if is_active and self._thread is not None and not self._thread.is_alive():
            found.append((Level.ERROR, "the thread that handles frames has ended: configure the node anew"))
        return found

    # The thread

    def _work(self, frames: FrameQueue[Frame]) -> None:
        while (turns := frames.take(self._batch_limit(), kind=lambda frame: frame.size)) is not None:
            self._take([(self._streams[index], frame) for index, frame in turns])

    def _batch_limit(self) -> int:
        held = self._models.held
        return 1 if held is None else self.max_batch(held.estimator)

    def _take(self, batch: Batch) -> None:
        """Work on frames whose turn has come, with the model of this moment, which nothing here holds afterwards."""
        held = self._models.held
        if held is None or self.recovery.wait_s > 0:
            for stream, _ in batch:
                stream.counts.dropped += 1
        else:
            self._process(batch, held.estimator)

    def _process(self, batch: Batch, estimator: DepthEstimator) -> None:
        batch = [(stream, frame) for stream, frame in batch if stream.decode(frame)]
        if not batch:
            return
        try:
            depths = self._infer(batch, estimator)
        except Exception as error:  # a device can fail in any way
            if not isinstance(error, InputError):
                self._note_failure(error, estimator)
            for stream, _ in batch:
                stream.fail(error)
            return
        for (stream, frame), depth in zip(batch, depths, strict=True):
            stream.publish(frame, depth, estimator)

    def _infer(self, batch: Batch, estimator: DepthEstimator) -> Tensor:
        """Return depth of decoded frames of one size, float32 (B, H, W) on the device."""
        self._inferring_since_s = start_s = time.monotonic()
        try:
            images = [frame.image for _, frame in batch if frame.image is not None]
            depths = estimator.estimate_tensors(images, [stream.settings.max_depth for stream, _ in batch])
            if not torch.isfinite(depths).all():
                raise DeviceError(f"{estimator.device} answered with numbers that are not finite")
        finally:
            self._inferring_since_s = None
        for _, frame in batch:
            frame.watch.add("network", time.monotonic() - start_s)
        self.recovery.succeeded()
        return depths

    def _note_failure(self, error: Exception, estimator: DepthEstimator) -> None:
        self.recovery.failed(describe(error))
        if self.recovery.is_hopeless:
            self._on_hopeless(estimator)
