"""What is said of a topic in whose messages do not come.

Where nobody publishes it: where such messages are, and the remapping that takes them. Where they are lost on their way:
how to lose fewer.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from depth_anything_ros.node.distributions import fast_dds_variable, uses_fast_dds

MAX_TOPICS_NAMED = 10
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (RAW, COMPRESSED)
PROFILE = "$(ros2 pkg prefix --share depth_anything_ros)/config/fastdds.xml"


def missing_image(node: Node, name: str, topic: str, transport: str) -> str:
    """Say where images are, and how to take them; empty while somebody publishes the topic.

    Args:
        name: of the topic as the node calls it, `image` or `front/image`.
        topic: full name, with the transport's suffix.
        transport: `raw` or `compressed`, as the parameter image_transport has it.
    """
    if node.count_publishers(topic):
        return ""
    found = _elsewhere(node, IMAGE_TYPES, topic)
    if not found:
        return f"no image yet: nobody publishes {topic}; no other topic has images"
    base, is_compressed = found[0].removesuffix("/compressed"), found[0].endswith("/compressed")
    wanted = "compressed" if is_compressed else "raw"
    rules = [] if topic.removesuffix("/compressed") == base else [f"-r {name}:={base}"]
    rules += [] if wanted == transport else [f"-p image_transport:={wanted}"]
    return f"no image yet: nobody publishes {topic}; images are on {_listed(found)}: start with {' '.join(rules)}"


def missing(node: Node, what: str, name: str, topic: str) -> str:
    """Say where messages of a type of sensor_msgs are, such as `CameraInfo`; otherwise as `missing_image`."""
    if node.count_publishers(topic):
        return ""
    found = _elsewhere(node, (f"sensor_msgs/msg/{what}",), topic)
    mend = f"it is on {_listed(found)}: start with -r {name}:={found[0]}" if found else "no other topic has one"
    return f"no {what} yet: nobody publishes {topic}; {mend}"


def lost_images(node: Node, topic: str) -> str:
    """Say what to do about images of a topic that are lost on their way.

    The publisher decides how a message travels, so a profile helps there. Processes of two users share no memory.
    """
    ways = [f"start its publisher as the same user and with {fast_dds_variable(os.environ)} set to {PROFILE}"]
    if not uses_fast_dds(os.environ):
        ways = ["give the middleware larger buffers"]
    publishers = node.get_publishers_info_by_topic(topic)
    if publishers and all(other.qos_profile.reliability == ReliabilityPolicy.RELIABLE for other in publishers):
        ways.append(f"start this node with -p qos_overrides.{topic}.subscription.reliability:=reliable")
    return f"many images on {topic} are lost on their way: {', or '.join(ways)} (docs/recipes/transport.md)"


def _listed(topics: list[str]) -> str:
    return ", ".join(topics[:MAX_TOPICS_NAMED])


def _elsewhere(node: Node, types: Collection[str], wanted: str) -> list[str]:
    """Topics of these types that another node publishes, those likely to be meant first.

    That is the wanted topic in the other transport, then its neighbours; topics of depth come last.
    """
    own = f"{node.get_fully_qualified_name()}/"
    found = [
        topic
        for topic, published in node.get_topic_names_and_types()
        if set(published) & set(types) and not topic.startswith(own) and node.count_publishers(topic)
    ]
    base = wanted.removesuffix("/compressed")
    folder = f"{base.rpartition('/')[0]}/"

    def rank(topic: str) -> tuple[bool, bool, bool, str]:
        is_same, is_near = topic.removesuffix("/compressed") == base, topic.startswith(folder)
        return not is_same, "depth" in topic.lower(), not is_near, topic

    return sorted(found, key=rank)
