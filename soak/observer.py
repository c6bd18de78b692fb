"""The node's counterpart: subscribes to its outputs, disturbs it, and reads its diagnostics."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import SetBool, Trigger

NODE = "/soak/depth_anything"
LISTENED_TO: dict[str, type] = {
    "points": PointCloud2,
    "depth/color": Image,
    "depth/image": Image,
    "depth/image/compressedDepth": CompressedImage,
}
MALFORMED = 30  # images in a row
OTHER_PARAMETERS = {"cloud_stride": 2, "temporal_filter_s": 0.5, "edge_filter": True, "max_range_m": 8.0}
USUAL_PARAMETERS = {"cloud_stride": 1, "temporal_filter_s": 0.0, "edge_filter": False, "max_range_m": 0.0}


class Observer(Node):
    """Subscribes to all outputs, and reads the node's reports.

    Attributes:
        values: of the latest report.
        level, message: likewise; level 2 is an error.
        answers: messages that came on each topic.
    """

    def __init__(self) -> None:
        super().__init__("observer", namespace="/soak")
        self.level, self.message = 0, ""
        self.values: dict[str, str] = {}
        self.answers = dict.fromkeys(LISTENED_TO, 0)
        self._listening: list[Any] = []
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self._enable: Any = self.create_client(SetBool, f"{NODE}/enable")
        self._reload: Any = self.create_client(Trigger, f"{NODE}/reload")
        self._set: Any = self.create_client(SetParameters, f"{NODE}/set_parameters")
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def _on_report(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == f"{NODE}: depth":
                self.level, self.message = status.level[0], status.message
                self.values = {value.key: value.value for value in status.values}

    def listen(self) -> None:
        """Subscribe to all outputs; messages are counted, not read."""
        for topic, kind in LISTENED_TO.items():

            def count(_: Any, topic: str = topic) -> None:
                self.answers[topic] += 1

            self._listening.append(self.create_subscription(kind, f"{NODE}/{topic}", count, 2, raw=True))

    def leave(self) -> None:
        """Unsubscribe from everything."""
        while self._listening:
            self.destroy_subscription(self._listening.pop())

    def enable(self, wanted: bool) -> None:
        """Enable or disable the node."""
        self._enable.call_async(SetBool.Request(data=wanted))

    def reload(self) -> None:
        """Let the node load its model again."""
        self._reload.call_async(Trigger.Request())

    def configure(self, values: dict[str, Any]) -> None:
        """Set parameters of the node."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        self._set.call_async(SetParameters.Request(parameters=parameters))

    def send_malformed(self) -> None:
        """Publish images whose fields contradict each other."""
        for number in range(MALFORMED):
            self._images.publish(Image(width=320, height=240, step=10 + number, encoding="bgr8"))
