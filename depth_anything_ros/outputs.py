"""The node's outputs: which topics there are, and what one result becomes on each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.camera_infos import CameraInfos
from depth_anything_ros.conversions import bgr_to_image, camera_info_for, depth_to_image, points_to_cloud
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import CameraError
from depth_anything_ros.formats import colorize
from depth_anything_ros.settings import NodeSettings

OUTPUT_QUEUE = 2


class Outputs:
    """Publishers of one node. Every message is made only if someone listens to it.

    Args:
        node: where the publishers live.
        camera_infos: where the camera of an image is looked up.
        complain: told once what keeps a cloud from being published.
    """

    def __init__(self, node: LifecycleNode, camera_infos: CameraInfos, complain: Callable[[str], None]) -> None:
        self._node = node
        self._camera_infos = camera_infos
        self._complain = complain
        self._next_cloud_s = 0.0
        self._depth = self._publisher(Image, "~/depth/image")
        self._camera_info = self._publisher(CameraInfo, "~/depth/camera_info")
        self._points = self._publisher(PointCloud2, "~/points")
        self._color = self._publisher(Image, "~/depth/color")
        self._relative = self._publisher(Image, "~/relative/image")
        self._all = (self._depth, self._camera_info, self._points, self._color, self._relative)

    def _publisher(self, kind: type, topic: str) -> Any:
        options = QoSOverridingOptions.with_default_policies()
        return self._node.create_lifecycle_publisher(kind, topic, OUTPUT_QUEUE, qos_overriding_options=options)

    def destroy(self) -> None:
        """Take the topics off the graph."""
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)

    def someone_listens(self, kind: Kind) -> bool:
        """Whether anything that this kind of depth is published on has a subscriber."""
        metric = (self._depth, self._camera_info, self._points, self._color)
        return any(_listened_to(topic) for topic in ((self._relative,) if kind == "relative" else metric))

    def publish_relative(self, values: NDArray[np.float32], header: Header) -> None:
        """Publish relative depth, float32 (H, W), on its own topic only: it has no metres."""
        self._relative.publish(depth_to_image(values, header))

    def publish_metric(
        self, depth: Tensor, image_bgr: NDArray[np.uint8], header: Header, settings: NodeSettings, max_depth: float
    ) -> None:
        """Publish metric depth, float32 (H, W) on any device, of an image uint8 (H, W, 3).

        `max_depth` in metres is the far end of the colour picture unless the settings have another.
        """
        depth = clip_range(depth, settings)
        values = depth.cpu().numpy()
        if _listened_to(self._depth):
            self._depth.publish(depth_to_image(values, header, settings.depth_encoding))
        matched = self._match_camera(header, values, settings)
        if matched is not None:
            info, camera = matched
            if _listened_to(self._camera_info):
                self._camera_info.publish(camera_info_for(info, camera, header))
            if _listened_to(self._points) and self._cloud_is_due(settings):
                self._publish_cloud(depth, image_bgr, header, camera, settings)
        if _listened_to(self._color):
            self._color.publish(bgr_to_image(colorize(values, 0.0, settings.color_max_m or max_depth), header))

    def _match_camera(
        self, header: Header, values: NDArray[np.float32], settings: NodeSettings
    ) -> tuple[CameraInfo, CameraModel] | None:
        height, width = values.shape
        try:
            return self._camera_infos.match(header, width, height, rectified=settings.rectified)
        except CameraError as error:
            self._complain(str(error))
            return None

    def _cloud_is_due(self, settings: NodeSettings) -> bool:
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

    def _publish_cloud(
        self, depth: Tensor, image_bgr: NDArray[np.uint8], header: Header, camera: CameraModel, settings: NodeSettings
    ) -> None:
        stride = settings.cloud_stride
        if settings.min_range_m is not None or settings.max_range_m is not None:
            depth = torch.where(torch.isfinite(depth), depth, torch.nan)
        points = camera.back_project(depth, stride=stride).cpu().numpy()
        self._points.publish(points_to_cloud(points, image_bgr[::stride, ::stride], header))


def _listened_to(publisher: Any) -> bool:
    return bool(publisher.get_subscription_count())


def clip_range(depth: Tensor, settings: NodeSettings) -> Tensor:
    """Mark depth outside the range: -Inf where it is too close, +Inf where it is beyond (REP 117)."""
    if settings.min_range_m is not None:
        depth = torch.where(depth < settings.min_range_m, -torch.inf, depth)
    if settings.max_range_m is not None:
        depth = torch.where(depth > settings.max_range_m, torch.inf, depth)
    return depth
