"""One camera's outputs: which topics there are, and what one result becomes on each of them."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float32, Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.filters.edges import mark_flying
from depth_anything_ros.io.formats import colorize
from depth_anything_ros.node.conversions import (
    CloudMessage,
    bgr_to_compressed,
    bgr_to_image,
    camera_info_for,
    depth_to_compressed,
    depth_to_image,
)
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.settings import CameraSettings

OUTPUT_QUEUE = 2


class Outputs:
    """Publishers of one camera. Every message is made only if someone listens to it.

    Args:
        node: where the publishers live.
        prefix: what the topics begin with after `~/`: empty, or the camera's name and a slash.
        qos_watch: looks after listeners whose quality of service does not fit.
    """

    def __init__(self, node: LifecycleNode, prefix: str, qos_watch: QosWatch) -> None:
        self._node = node
        self._qos_watch = qos_watch
        self._next_cloud_s = 0.0
        self._cloud = CloudMessage()
        self._depth = self._publisher(Image, f"~/{prefix}depth/image")
        self._camera_info = self._publisher(CameraInfo, f"~/{prefix}depth/camera_info")
        self._points = self._publisher(PointCloud2, f"~/{prefix}points")
        self._color = self._publisher(Image, f"~/{prefix}depth/color")
        self._relative = self._publisher(Image, f"~/{prefix}relative/image")
        # Topics of image_transport: the base topic's name and the transport's.
        self._compressed_depth = self._publisher(CompressedImage, f"~/{prefix}depth/image/compressedDepth")
        self._compressed_color = self._publisher(CompressedImage, f"~/{prefix}depth/color/compressed")
        self._residual = self._publisher(Float32, f"~/{prefix}alignment/residual")
        self._metric = (
            self._depth,
            self._camera_info,
            self._points,
            self._color,
            self._compressed_depth,
            self._compressed_color,
        )

    def _publisher(self, kind: type, topic: str) -> Any:
        return self._node.create_lifecycle_publisher(
            kind,
            topic,
            OUTPUT_QUEUE,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=self._qos_watch.of_publisher(topic),
        )

    def destroy(self) -> None:
        """Take the topics off the graph."""
        for publisher in (*self._metric, self._relative, self._residual):
            self._node.destroy_lifecycle_publisher(publisher)

    def someone_listens(self, kind: Kind, *, is_aligned: bool) -> bool:
        """Whether anything that such depth is published on has a subscriber; what is aligned is metric."""
        topics = [self._relative] if kind == "relative" else []
        topics += self._metric if kind == "metric" or is_aligned else ()
        topics += [self._residual] if is_aligned else []
        return any(_listened_to(topic) for topic in topics)

    def publish_relative(self, depth: Tensor, header: Header) -> None:
        """Publish relative depth, float32 (H, W), on its own topic only: it has no metres."""
        if _listened_to(self._relative):
            self._relative.publish(depth_to_image(depth.cpu().numpy(), header))

    def publish_depth(self, values: NDArray[np.float32], header: Header, settings: CameraSettings) -> None:
        """Publish metric depth, float32 (H, W)."""
        if _listened_to(self._depth):
            self._depth.publish(depth_to_image(values, header, settings.depth_encoding))

    def publish_compressed_depth(self, values: NDArray[np.float32], header: Header, settings: CameraSettings) -> None:
        """Publish metric depth, float32 (H, W), for image_transport; what is infinite has no value there."""
        if _listened_to(self._compressed_depth):
            # Not the model's range: scale, shift and alignment put depth beyond it.
            farthest_m = float(np.max(values, where=np.isfinite(values), initial=1.0))
            message = depth_to_compressed(values, header, settings.depth_encoding, depth_max_m=farthest_m)
            self._compressed_depth.publish(message)

    def publish_color(
        self, values: NDArray[np.float32], header: Header, settings: CameraSettings, max_depth: float
    ) -> None:
        """Publish a picture of metric depth, float32 (H, W), for people; `max_depth` in metres is the model's."""
        if not _listened_to(self._color) and not _listened_to(self._compressed_color):
            return
        picture = colorize(values, 0.0, settings.color_max_m or settings.max_depth or max_depth)
        if _listened_to(self._color):
            self._color.publish(bgr_to_image(picture, header))
        if _listened_to(self._compressed_color):
            self._compressed_color.publish(bgr_to_compressed(picture, header, settings.jpeg_quality))

    def publish_residual(self, residual_m: float | None) -> None:
        """Publish how far the alignment's readings are off, in metres; NaN before there was a fit."""
        if _listened_to(self._residual):
            self._residual.publish(Float32(data=math.nan if residual_m is None else residual_m))

    def publish_camera_info(self, info: CameraInfo, camera: CameraModel, header: Header) -> None:
        """Publish the CameraInfo of the depth."""
        if _listened_to(self._camera_info):
            self._camera_info.publish(camera_info_for(info, camera, header))

    def publish_cloud(
        self,
        depth: Tensor,
        image_bgr: NDArray[np.uint8],
        header: Header,
        camera: CameraModel,
        settings: CameraSettings,
        watch: Stopwatch,
    ) -> None:
        """Publish the points of metric depth, float32 (H, W) on any device, of an image uint8 (H, W, 3)."""
        if not _listened_to(self._points) or not self._cloud_is_due(settings):
            return
        with watch.time("back_projection"):
            if settings.edge_filter:
                depth = mark_flying(depth)
            if settings.min_range_m is not None or settings.max_range_m is not None:
                depth = torch.where(torch.isfinite(depth), depth, torch.nan)
            message = self._cloud.fill(depth, image_bgr, header, camera, settings.cloud_stride)
        with watch.time("publish"):
            self._points.publish(message)

    def _cloud_is_due(self, settings: CameraSettings) -> bool:
        """Keep the average rate at the limit even where frames come at odd times."""
        if settings.cloud_rate_hz is None:
            return True
        now_s = time.monotonic()
        if now_s < self._next_cloud_s:
            return False
        period_s = 1.0 / settings.cloud_rate_hz
        steady = now_s - self._next_cloud_s < period_s
        self._next_cloud_s = (self._next_cloud_s if steady else now_s) + period_s
        return True


def _listened_to(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count())


def clip_range(depth: Tensor, settings: CameraSettings) -> Tensor:
    """Mark depth outside the range: -Inf where it is too close, +Inf where it is beyond (REP 117)."""
    if settings.min_range_m is not None:
        depth = torch.where(depth < settings.min_range_m, -torch.inf, depth)
    if settings.max_range_m is not None:
        depth = torch.where(depth > settings.max_range_m, torch.inf, depth)
    return depth
