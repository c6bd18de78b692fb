"""The names of one camera's topics in, after remapping."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node


@dataclass(frozen=True)
class InputTopics:
    """Full names of one camera's topics in.

    Attributes:
        prefix: what the node's own names for them begin with: empty, or the camera's name and a slash.
        image: without a transport's suffix.
    """

    prefix: str
    image: str
    camera_info: str
    range: str

    @classmethod
    def resolve(cls, node: Node, prefix: str) -> InputTopics:
        """Resolve and remap them.

        Where only `image` is remapped, camera_info is beside it, as image_transport's CameraSubscriber has it.
        """
        image, info, sensor = (node.resolve_topic_name(prefix + name) for name in ("image", "camera_info", "range"))
        own_image, own_info = (
            node.resolve_topic_name(prefix + name, only_expand=True) for name in ("image", "camera_info")
        )
        if image != own_image and info == own_info:
            info = node.resolve_topic_name(f"{image.rpartition('/')[0]}/camera_info")
        return cls(prefix, image, info, sensor)

    def name(self, topic: str) -> str:
        """Return what the node calls a topic, which is what a remapping begins with."""
        return self.prefix + topic

    def subscribed(self, transport: str) -> dict[str, str]:
        """Return image and camera_info by their names in docs/node.md."""
        image = "image/compressed" if transport == "compressed" else "image"
        return {image: self.subscribed_image(transport), "camera_info": self.camera_info}

    def subscribed_image(self, transport: str) -> str:
        """Return the image topic that the parameter image_transport means."""
        return f"{self.image}/compressed" if transport == "compressed" else self.image
