"""One camera of the node: its topics, what becomes of its frames, and what there is to say about them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import CameraError, describe
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.filters.temporal import TemporalFilter
from depth_anything_ros.io.snapshots import Snapshot
from depth_anything_ros.messages.camera_infos import CameraInfos
from depth_anything_ros.messages.images import compressed_to_bgr
from depth_anything_ros.messages.remarks import SayOnce
from depth_anything_ros.messages.stamps import stamp_ns, stamp_s
from depth_anything_ros.node.conversions import image_to_bgr
from depth_anything_ros.node.frame import Frame, FrameCounts, ImageMessage
from depth_anything_ros.node.frame_statistics import FrameStatistics
from depth_anything_ros.node.outputs import Outputs, clip_range
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.node.range_input import RangeInput
from depth_anything_ros.node.scaling import Estimate, Scaling
from depth_anything_ros.settings import CameraSettings

CAMERA_INFO_QUEUE = 10
MAX_DISTINCT_COMPLAINTS = 1000
# A stamp further from now than this is of another clock: recorded data, or the clock of the camera itself.
MAX_LATENCY_S = 60.0


class Host(Protocol):
    """What a camera needs of the node it belongs to."""

    def kind(self) -> Kind | None:
        """Kind of depth that the model makes, None while there is no model."""

    def put(self, stream: CameraStream, frame: Frame) -> bool:
        """Let a frame wait for its turn; True if an older one was dropped for it."""

    def drop_waiting(self, stream: CameraStream) -> int:
        """Drop the camera's waiting frames and return how many there were."""


class CameraStream:
    """One camera.

    The executor's thread takes its messages in; the worker calls `decode` and `publish`.

    Args:
        node: where subscriptions and publishers live.
        host: the node as the camera sees it.
        name: of the camera; empty for the only one of a node.
        settings: replaced by the node when parameters change.

    Attributes:
        scaling: what makes metres of the model's depth.
        latest: the last frame that was published with metric depth.
        problem: what was wrong with the last frame.
    """

    def __init__(self, node: LifecycleNode, host: Host, name: str, settings: CameraSettings) -> None:
        self.name = name
        self.settings = settings
        self.counts = FrameCounts()
        self.statistics = FrameStatistics()
        self.latest: Snapshot | None = None
        self.problem = ""
        self._node = node
        self._host = host
        self._prefix = f"{name}/" if name else ""
        self._remark = SayOnce(self._warn)
        info_topic = node.resolve_topic_name(f"{self._prefix}camera_info")
        self._camera_infos = CameraInfos(info_topic, remark=self._remark)
        self._qos = QosWatch(node, self._warn)
        self.scaling = Scaling()
        self._filter: TemporalFilter | None = None
        self._filter_made_of: tuple[object, ...] = ()
        self._outputs: Outputs | None = None
        self._range_input: RangeInput | None = None
        self._inputs: list[Any] = []
        self._active_since_s = math.inf
        self._image_size: tuple[int, int] | None = None
        self._complaints: list[str] = []
        self._said: set[str] = set()

    @property
    def title(self) -> str:
        """Its name, for people and files."""
        return self.name or "camera"

    # Lifecycle

    @property
    def is_active(self) -> bool:
        """Whether images are taken."""
        return math.isfinite(self._active_since_s)

    @property
    def queue_size(self) -> int:
        """How many frames wait at most."""
        return self.settings.queue_size if self.settings.process_every_frame else 1

    @property
    def expected_size(self) -> tuple[int, int] | None:
        """(H, W) of the images that came, or are to come; None if nobody knows."""
        expected = self.settings.warm_up_height, self.settings.warm_up_width
        return self._image_size or (expected if all(expected) else None)

    def open(self) -> None:
        """Offer the topics."""
        self._outputs = Outputs(self._node, self._prefix, self._qos)
        has_range = self.settings.range_type is not None
        self._range_input = RangeInput(self._node, self._prefix, self.settings, self._qos) if has_range else None
        self.scaling = Scaling(self._range_input)

    def start(self) -> None:
        """Start taking images."""
        self._active_since_s = time.monotonic()
        compressed = self.settings.image_transport == "compressed"
        # An image transport's topic is the resolved name and its suffix, so that remapping `image` is enough.
        topic = self._node.resolve_topic_name(f"{self._prefix}image") + ("/compressed" if compressed else "")
        self._subscribe(CompressedImage if compressed else Image, topic, self._on_image, self.queue_size)
        self._subscribe(CameraInfo, f"{self._prefix}camera_info", self._camera_infos.add, CAMERA_INFO_QUEUE)

    def silence(self) -> None:
        """Publish nothing any more."""
        self._active_since_s = math.inf

    def stop(self) -> None:
        """Stop taking images; one that is being worked on is not published any more."""
        self.silence()
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)
        self._inputs.clear()
        self.scaling.give_up("the node was deactivated")
        dropped = self._host.drop_waiting(self)  # before the count is read, which the worker adds to, too
        self.counts.dropped += dropped

    def close(self) -> None:
        """Take the topics away, and let go of the model."""
        self.latest = self._filter = None
        self._filter_made_of = ()
        self.scaling = Scaling()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        if self._range_input is not None:
            self._range_input.destroy()
            self._range_input = None

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None], depth: int) -> None:
        qos = QoSProfile(reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST, depth=depth)
        subscription = self._node.create_subscription(
            kind,
            topic,
            callback,
            qos,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=self._qos.of_subscription(topic),
        )
        self._inputs.append(subscription)

    # Frames

    def _on_image(self, msg: ImageMessage) -> None:
        received_s = time.perf_counter()
        self.counts.received += 1
        self.statistics.received()
        if not self._is_wanted():
            self.counts.ignored += 1
            return
        frame = Frame(msg, received_s)
        frame.watch.add("transport", self._seconds_since(msg.header))
        if self._host.put(self, frame):
            self.counts.dropped += 1

    def _is_wanted(self) -> bool:
        kind = self._host.kind()
        if kind is None or self._outputs is None:
            return False
        listened_to = self._outputs.someone_listens(kind, is_aligned=self.settings.alignment != "none")
        return listened_to or self.scaling.is_calibrating

    def decode(self, frame: Frame) -> bool:
        """Read the image of a frame whose turn has come. Returns False if it cannot be read; that was said then."""
        frame.watch.add("queue", time.perf_counter() - frame.received_s)
        self._complaints = []
        try:
            with frame.watch.time("conversion"):
                is_compressed = isinstance(frame.msg, CompressedImage)
                frame.image = compressed_to_bgr(frame.msg) if is_compressed else image_to_bgr(frame.msg)
        except Exception as error:  # one frame is lost, whatever happened; the node is not
            self.fail(error)
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Give a frame up, and say why."""
        self.counts.failed += 1
        if self.is_active:
            self.complain(f"frame dropped: {describe(error)}")
        self.problem = "; ".join(self._complaints)

    def publish(self, frame: Frame, depth: Tensor, estimator: DepthEstimator) -> None:
        """Publish what the network said about a frame, float32 (H, W) on any device."""
        assert frame.image is not None
        self._image_size = frame.image.shape[0], frame.image.shape[1]
        try:
            if self.is_active and self._outputs is not None:
                self._publish(frame, depth, estimator, self._outputs)
                self.statistics.published(self._seconds_since(frame.msg.header), frame.watch.seconds)
            self.counts.processed += 1
            self.problem = "; ".join(self._complaints)
        except Exception as error:
            self.fail(error)

    def _publish(self, frame: Frame, depth: Tensor, estimator: DepthEstimator, outputs: Outputs) -> None:
        header, watch, settings = frame.msg.header, frame.watch, self.settings
        if estimator.kind == "relative":
            with watch.time("publish"):
                outputs.publish_relative(depth, header)
            if settings.alignment == "none":
                return
        matched = self._match_camera(header, depth)
        camera = None if matched is None else matched[1]
        with watch.time("scale"):
            estimate = Estimate(depth, (estimator.key, estimator.sha256), estimator.kind, header, camera)
            metres = self.scaling.apply(estimate, settings)
        if metres is None:
            return
        with watch.time("filter"):
            metres = clip_range(self._smoothed(metres, estimate), settings)
        with watch.time("network"):  # a GPU is done when its result is here
            values: NDArray[np.float32] = metres.cpu().numpy()
        self._publish_metric(frame, metres, values, matched, estimator.max_depth, outputs)

    def _smoothed(self, metres: Tensor, estimate: Estimate) -> Tensor:
        time_constant_s = self.settings.temporal_filter_s
        if time_constant_s is None:
            self._filter = None
            return metres
        settings = self.settings
        made_of = (time_constant_s, estimate.model, settings.max_depth, settings.scale, settings.shift_m)
        if self._filter is None or self._filter_made_of != made_of:
            self._filter, self._filter_made_of = TemporalFilter(time_constant_s), made_of
        return self._filter(metres, stamp_s(estimate.header))

    def _publish_metric(
        self,
        frame: Frame,
        metres: Tensor,
        values: NDArray[np.float32],
        matched: tuple[CameraInfo, CameraModel] | None,
        max_depth: float,
        outputs: Outputs,
    ) -> None:
        """Publish metres, the same on the device and in host memory; the quickest to make go first."""
        assert frame.image is not None
        settings, header, watch = self.settings, frame.msg.header, frame.watch
        with watch.time("publish"):
            outputs.publish_depth(values, header, settings)
            if self.scaling.state is not None:
                outputs.publish_residual(self.scaling.state.residual_m)
        if matched is not None:
            info, camera = matched
            outputs.publish_camera_info(info, camera, header)
            outputs.publish_cloud(metres, frame.image, header, camera, settings, watch)
        with watch.time("publish"):
            outputs.publish_compressed_depth(values, header, settings)
            outputs.publish_color(values, header, settings, max_depth)
        self.latest = Snapshot(self.name, stamp_ns(header), frame.image, values, *(matched or (None, None)))

    def _match_camera(self, header: Header, depth: Tensor) -> tuple[CameraInfo, CameraModel] | None:
        height, width = depth.shape
        try:
            return self._camera_infos.match(
                header,
                width,
                height,
                rectified=self.settings.rectified,
                any_frame=self.settings.camera_info_any_frame,
            )
        except CameraError as error:
            self.complain(str(error))
            return None

    def _seconds_since(self, header: Header) -> float:
        """Seconds since the image's stamp; NaN where it is of another clock."""
        seconds = (self._node.get_clock().now().nanoseconds - stamp_ns(header)) / 1e9
        return seconds if 0 <= seconds <= MAX_LATENCY_S else math.nan

    # Telling people

    def complain(self, text: str) -> None:
        """Warn once about each thing, however often it happens."""
        self._complaints.append(text)
        if text not in self._said and len(self._said) < MAX_DISTINCT_COMPLAINTS:
            self._said.add(text)
            self._warn(text)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text)

    def warnings(self) -> list[str]:
        """Return everything that is not as it should be."""
        stale = self._stale_input() if self.is_active else None
        return [text for text in (self.problem, stale, self._unaligned(), *self._qos.problems()) if text]

    def _unaligned(self) -> str | None:
        state = self.scaling.state
        return None if state is None or state.name == "aligned" else f"alignment is {state.name}: {state.reason}"

    def _stale_input(self) -> str | None:
        limit_s, active_s = self.settings.stale_after_s, time.monotonic() - self._active_since_s
        image_s, info_s = self.statistics.age_s(), self._camera_infos.age_s()
        silent_s = active_s if image_s is None else min(image_s, active_s)
        if silent_s > limit_s:
            topic = self._node.resolve_topic_name(f"{self._prefix}image")
            return f"no image on {topic} for {silent_s:.0f} s"
        if info_s is not None and min(info_s, active_s) > limit_s:
            return f"no CameraInfo on {self._camera_infos.topic} for {min(info_s, active_s):.0f} s"
        return None

    def values(self) -> dict[str, object]:
        """Return what there is to know, for diagnostics."""
        ages_s = {"image_age_s": self.statistics.age_s(), "camera_info_age_s": self._camera_infos.age_s()}
        measured = {**self.statistics.summary(), **{name: age for name, age in ages_s.items() if age is not None}}
        counts: dict[str, object] = {f"frames_{name}": count for name, count in vars(self.counts).items()}
        values = counts | {name: f"{value:.3g}" for name, value in measured.items()}
        state = self.scaling.state
        if state is None:
            return values | {"scale": self.settings.scale, "shift_m": self.settings.shift_m}
        return values | {f"alignment_{name}": text for name, text in state.describe().items()}
