"""The last stage: one camera's topics out, and what a frame's depth becomes on each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2
from std_msgs.msg import Float32, Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.filters.edges import mark_flying
from depth_anything_ros.io.formats import colorize
from depth_anything_ros.io.snapshots import Snapshot
from depth_anything_ros.messages.images import SerialImage, depth_pixels
from depth_anything_ros.messages.stamps import stamp_ns
from depth_anything_ros.model.registry import network_spec
from depth_anything_ros.node.cloud_output import CloudOutput
from depth_anything_ros.node.conversions import bgr_to_compressed, camera_info_for, depth_to_compressed
from depth_anything_ros.node.frame import CameraOfImage, Frame, FrameDepth
from depth_anything_ros.node.qos_overrides import overridable
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.node.scaling import configured_scale
from depth_anything_ros.node.scan_output import ScanOutput
from depth_anything_ros.node.serial_publisher import publish_serialized
from depth_anything_ros.node.transforms import Transforms
from depth_anything_ros.settings import CameraSettings

OUTPUT_QUEUE = 2
WITHOUT_TF = "the camera's height is not known: set camera_height_m in place of cloud_height_frame, or install tf2_ros"


@dataclass(frozen=True)
class Makes:
    """What a model makes of an image.

    Attributes:
        kind: of its depth.
        needs_focal: whether metres need a CameraInfo; depth is up to a factor without one.
        maps: names of its outputs, such as `sky`.
    """

    kind: Kind
    needs_focal: bool
    maps: tuple[str, ...]

    @classmethod
    def of(cls, estimator: DepthEstimator) -> Makes:
        """Read it from a model."""
        _, dataset, _ = estimator.key.split("_")
        return cls(estimator.kind, estimator.needs_focal, network_spec(dataset).outputs)


class Outputs:
    """Publishers of one camera. Every message is made only if someone listens to it.

    Args:
        node: where the publishers live.
        camera: its name, empty for the only one of a node.
        prefix: what the topics begin with after `~/`: empty, or the camera's name and a slash.
        qos_watch: looks after listeners whose quality of service does not fit.
        warn: told why an output is missing.

    Attributes:
        latest: the last frame that was published with metric depth.
        topic_names: full names of the topics, by the names they have in docs/node.md.
    """

    def __init__(
        self, node: LifecycleNode, camera: str, prefix: str, qos_watch: QosWatch, warn: Callable[[str], None]
    ) -> None:
        self.latest: Snapshot | None = None
        self.topic_names: dict[str, str] = {}
        self._node = node
        self._camera = camera
        self._prefix = prefix
        self._qos_watch = qos_watch
        self._image, self._transforms = SerialImage(), Transforms(node, WITHOUT_TF)
        self._depth = self._publisher(Image, "depth/image")
        self._camera_info = self._publisher(CameraInfo, "depth/camera_info")
        self._cloud = CloudOutput(self._publisher(PointCloud2, "points"), self._transforms, warn)
        self._scan = ScanOutput(self._publisher(LaserScan, "scan"), warn)
        self._color = self._publisher(Image, "depth/color")
        self._relative = self._publisher(Image, "relative/image")
        self._scale_invariant = self._publisher(Image, "scale_invariant/image")
        self._sky = self._publisher(Image, "sky/image")
        self._confidence = self._publisher(Image, "confidence/image")
        # Topics of image_transport: the base topic's name and the transport's.
        self._compressed_depth = self._publisher(CompressedImage, "depth/image/compressedDepth")
        self._compressed_color = self._publisher(CompressedImage, "depth/color/compressed")
        self._residual = self._publisher(Float32, "alignment/residual")
        self._metric = (
            self._depth,
            self._camera_info,
            self._cloud.publisher,
            self._scan.publisher,
            self._color,
            self._compressed_depth,
            self._compressed_color,
        )

    def _publisher(self, kind: type, name: str) -> Any:
        topic = f"~/{self._prefix}{name}"
        publisher: Any = self._node.create_lifecycle_publisher(
            kind,
            topic,
            OUTPUT_QUEUE,
            qos_overriding_options=overridable(),
            event_callbacks=self._qos_watch.of_publisher(topic),
        )
        self.topic_names[name] = publisher.topic_name
        return publisher

    def destroy(self) -> None:
        """Take the topics off the graph."""
        self._transforms.destroy()
        unitless = (self._relative, self._scale_invariant, self._sky, self._confidence)
        for publisher in (*self._metric, *unitless, self._residual):
            self._node.destroy_lifecycle_publisher(publisher)

    def someone_listens(self, makes: Makes, settings: CameraSettings) -> bool:
        """Whether anything that such a model's depth is published on has a subscriber."""
        return any(_listened_to(publisher) for publisher in self._fed(makes, settings))

    def topics(self, makes: Makes, settings: CameraSettings) -> list[str]:
        """Return the names of the topics that such a model's depth is published on."""
        return [str(publisher.topic_name) for publisher in self._fed(makes, settings)]

    def _fed(self, makes: Makes, settings: CameraSettings) -> list[Any]:
        """The publishers that a model's depth goes to: the metric ones, too, where something makes metres of it."""
        is_aligned = settings.alignment != "none"
        has_metres = is_aligned or configured_scale(makes.kind, settings) is not None
        rectified = [self._camera_info] if settings.undistort else []
        by_need = {
            self._relative: makes.kind == "relative",
            self._scale_invariant: makes.kind == "scale_invariant" or makes.needs_focal,
            self._sky: "sky" in makes.maps,
            self._confidence: "confidence" in makes.maps,
            self._residual: is_aligned,
        }
        return [*(self._metric if has_metres else rectified), *(each for each, is_fed in by_need.items() if is_fed)]

    def publish(self, frame: Frame, depth: FrameDepth, settings: CameraSettings) -> None:
        """Publish the results of a frame: depth first, then what is derived from it."""
        header, watch = frame.header, frame.watch
        with watch.time("publish"):
            self._publish_map(self._relative, depth.relative, header)
            self._publish_map(self._scale_invariant, depth.scale_invariant, header)
            self._publish_map(self._confidence, depth.confidence, header)
            self._publish_sky(depth.sky, header)
        if depth.metres is None:
            self._publish_camera_info(depth.camera, header)
            return
        with watch.time("network"):  # a GPU is done when its result is here
            metres: NDArray[np.float32] = depth.metres.cpu().numpy()
        with watch.time("publish"):
            self._publish_depth(metres, header, settings)
            self._publish_residual(depth.residual_m)
        self._publish_camera_info(depth.camera, header)
        if depth.camera is not None:
            if depth.camera.info is not None:  # angles of a scan follow from the focal length, no estimate will do
                self._publish_scan(frame, depth, depth.camera.model, settings)
            self._publish_cloud(frame, depth, depth.camera.model, settings)
        with watch.time("publish"):
            self._publish_compressed_depth(metres, header, settings)
            self._publish_color(metres, header, settings, depth.full_scale_m)
        info, model = (None, None) if depth.camera is None else (depth.camera.info, depth.camera.model)
        self.latest = Snapshot(self._camera, stamp_ns(header), frame.image_bgr, metres, info, model)

    def _publish_image(self, publisher: Any, pixels: NDArray[Any], header: Header, encoding: str) -> None:
        publish_serialized(publisher, self._image.fill(pixels, header, encoding))

    def _publish_map(self, publisher: Any, values: Tensor | None, header: Header) -> None:
        """On a topic of its own: it has no metres."""
        if values is not None and _listened_to(publisher):
            self._publish_image(publisher, values.cpu().numpy(), header, "32FC1")

    def _publish_sky(self, sky: Tensor | None, header: Header) -> None:
        """255 where sky is."""
        if sky is not None and _listened_to(self._sky):
            self._publish_image(self._sky, sky.cpu().numpy() * np.uint8(255), header, "mono8")

    def _publish_depth(self, metres: NDArray[np.float32], header: Header, settings: CameraSettings) -> None:
        if _listened_to(self._depth):
            pixels = depth_pixels(metres, settings.depth_encoding)
            self._publish_image(self._depth, pixels, header, settings.depth_encoding)

    def _publish_compressed_depth(self, metres: NDArray[np.float32], header: Header, settings: CameraSettings) -> None:
        """For image_transport; what is infinite has no value there."""
        if _listened_to(self._compressed_depth):
            # Not the model's range: scale, shift and alignment put depth beyond it.
            farthest_m = float(np.max(metres, where=np.isfinite(metres), initial=1.0))
            message = depth_to_compressed(metres, header, settings.depth_encoding, depth_max_m=farthest_m)
            self._compressed_depth.publish(message)

    def _publish_color(
        self, metres: NDArray[np.float32], header: Header, settings: CameraSettings, full_scale_m: float
    ) -> None:
        """A picture of the depth, for people."""
        if not _listened_to(self._color) and not _listened_to(self._compressed_color):
            return
        picture = colorize(metres, 0.0, settings.color_max_m or settings.max_depth or full_scale_m)
        if _listened_to(self._color):
            self._publish_image(self._color, picture, header, "bgr8")
        if _listened_to(self._compressed_color):
            self._compressed_color.publish(bgr_to_compressed(picture, header, settings.jpeg_quality))

    def _publish_residual(self, residual_m: float | None) -> None:
        if residual_m is not None and _listened_to(self._residual):
            self._residual.publish(Float32(data=residual_m))

    def _publish_camera_info(self, camera: CameraOfImage | None, header: Header) -> None:
        """The CameraInfo that is true for the depth; none of a camera that is an estimate."""
        if camera is not None and camera.info is not None and _listened_to(self._camera_info):
            self._camera_info.publish(camera_info_for(camera.info, camera.model, header))

    def _publish_scan(self, frame: Frame, depth: FrameDepth, camera: CameraModel, settings: CameraSettings) -> None:
        if depth.metres is None or not _listened_to(self._scan.publisher):
            return
        with frame.watch.time("back_projection"):
            metres = _surfaces(depth.metres, depth.confidence, settings).cpu().numpy()
            self._scan.publish(metres, camera, frame.header, settings, depth.full_scale_m)

    def _publish_cloud(self, frame: Frame, depth: FrameDepth, camera: CameraModel, settings: CameraSettings) -> None:
        if depth.metres is None or not _listened_to(self._cloud.publisher) or not self._cloud.is_due(settings):
            return
        with frame.watch.time("back_projection"):
            metres = _surfaces(depth.metres, depth.confidence, settings)
            metres = _without_infinite(metres, settings, has_sky=depth.sky is not None)
            message = self._cloud.make(metres, frame.image_bgr, frame.header, camera, settings)
        if message is not None:
            with frame.watch.time("publish"):
                publish_serialized(self._cloud.publisher, message)


def _surfaces(metres: Tensor, confidence: Tensor | None, settings: CameraSettings) -> Tensor:
    """Depth (H, W) with NaN where no surface is, or not surely."""
    metres = mark_flying(metres) if settings.edge_filter else metres
    if settings.min_confidence is not None and confidence is not None:
        metres = torch.where(confidence < settings.min_confidence, torch.nan, metres)
    return metres


def _without_infinite(metres: Tensor, settings: CameraSettings, *, has_sky: bool) -> Tensor:
    """Points outside the limits and of the sky: none, or at the farther limit where those beyond it are kept."""
    if settings.cloud_keeps_far and settings.max_range_m is not None:
        metres = torch.where(metres == torch.inf, settings.max_range_m, metres)
    if settings.min_range_m is not None or settings.max_range_m is not None or has_sky:
        metres = torch.where(torch.isfinite(metres), metres, torch.nan)
    return metres


def _listened_to(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count())
