"""The RViz configuration and the Foxglove layout show what the node publishes: topics, types and QoS fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import FakeBackend, HostedNode, Peer
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

from depth_anything_ros.node.synthetic_camera import RELIABILITIES

CONFIG = Path(__file__).parents[2] / "config"
RVIZ = yaml.safe_load((CONFIG / "depth_anything.rviz").read_text())
FOXGLOVE = json.loads((CONFIG / "foxglove.json").read_text())
# Classes that RViz has in every distribution since Humble, and what displays of topics take.
PANELS = {"rviz_common/Displays", "rviz_common/Views"}
TOOLS = {"rviz_default_plugins/MoveCamera", "rviz_default_plugins/Measure"}
VIEWS = {"rviz_default_plugins/Orbit"}
DISPLAYS: dict[str, type | None] = {
    "rviz_default_plugins/Image": Image,
    "rviz_default_plugins/PointCloud2": PointCloud2,
    "rviz_default_plugins/LaserScan": LaserScan,
    "rviz_default_plugins/Axes": None,
}
# Foxglove's panels, and the settings of each that name a topic.
FOXGLOVE_PANELS = {"Image", "3D", "DiagnosticSummary", "DiagnosticStatusPanel"}
CAMERA = {"/image": Image, "/camera_info": CameraInfo}  # topics of the driver


@pytest.fixture(scope="module")
def published(peer: Peer) -> Iterator[dict[str, tuple[type, QoSProfile]]]:
    """Topic -> its type and QoS, as the node and a camera driver publish them without a namespace."""
    driver = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    with HostedNode(peer.context, FakeBackend()) as node:
        own = {
            publisher.topic_name.removeprefix(node.namespace): (publisher.msg_type, publisher.qos_profile)
            for publisher in node.node.publishers
        }
        yield {**own, **{topic: (kind, driver) for topic, kind in CAMERA.items()}}


def displays() -> list[dict[str, Any]]:
    return list(RVIZ["Visualization Manager"]["Displays"])


def profile(topic: dict[str, Any]) -> QoSProfile:
    """The QoS of an RViz display."""
    return QoSProfile(
        depth=topic["Depth"],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
        history=HistoryPolicy[topic["History Policy"].upper().replace(" ", "_")],
    )


def test_rviz_knows_every_class_that_its_configuration_names() -> None:
    manager = RVIZ["Visualization Manager"]
    assert {panel["Class"] for panel in RVIZ["Panels"]} <= PANELS
    assert {tool["Class"] for tool in manager["Tools"]} <= TOOLS
    assert manager["Views"]["Current"]["Class"] in VIEWS
    assert {display["Class"] for display in displays()} <= DISPLAYS.keys()
    assert len({display["Name"] for display in displays()}) == len(displays())


def test_rviz_shows_topics_that_exist_with_their_type_and_a_qos_that_fits(
    published: dict[str, tuple[type, QoSProfile]],
) -> None:
    shown = [display for display in displays() if "Topic" in display]
    assert len(shown) >= 4
    for display in shown:
        kind, offered = published[display["Topic"]["Value"]]
        assert DISPLAYS[display["Class"]] is kind
        fits, why = qos_check_compatible(offered, profile(display["Topic"]))
        assert fits != QoSCompatibility.ERROR, f"{display['Name']}: {why}"


def test_rviz_takes_images_of_drivers_that_publish_either_way() -> None:
    [image] = [display for display in displays() if display.get("Topic", {}).get("Value") == "/image"]
    for reliability in RELIABILITIES.values():
        fits, _ = qos_check_compatible(QoSProfile(depth=1, reliability=reliability), profile(image["Topic"]))
        assert fits != QoSCompatibility.ERROR


def foxglove_topics(config: dict[str, Any]) -> dict[str, type | None]:
    """Topics that a panel of the layout shows, with the type that the panel needs; None for diagnostics."""
    found: dict[str, type | None] = {}
    if image := config.get("imageMode"):
        found |= {image["imageTopic"]: Image, image["calibrationTopic"]: CameraInfo}
    kinds = {"points": PointCloud2, "scan": LaserScan}
    found |= {topic: kinds[topic.rpartition("/")[2]] for topic in config.get("topics", {})}
    if "topicToRender" in config:
        found[config["topicToRender"]] = None
    return found


def leaves(layout: Any) -> list[str]:
    """Panels in the order in which the layout places them."""
    return [layout] if isinstance(layout, str) else [*leaves(layout["first"]), *leaves(layout["second"])]


def test_foxglove_has_picture_depth_cloud_and_diagnostics_of_topics_that_exist(
    published: dict[str, tuple[type, QoSProfile]],
) -> None:
    panels = FOXGLOVE["configById"]
    assert sorted(leaves(FOXGLOVE["layout"])) == sorted(panels)  # each panel is in one place
    assert {name.partition("!")[0] for name in panels} == FOXGLOVE_PANELS
    topics: dict[str, type | None] = {}
    for config in panels.values():
        topics |= foxglove_topics(config)
    for topic, kind in topics.items():
        found = published[topic][0] if kind is not None else None
        assert found is kind, topic
    shown = {"/image", "/depth_anything/depth/image", "/depth_anything/points", "/depth_anything/scan", "/diagnostics"}
    assert shown <= topics.keys()


def test_foxglove_selects_the_status_that_the_node_publishes(host: Callable[..., HostedNode], peer: Peer) -> None:
    node = host()
    [selected] = [panel["selectedName"] for panel in FOXGLOVE["configById"].values() if "selectedName" in panel]
    with node.diagnostics(peer, selected.partition(": ")[2]) as report:
        assert report()[0] in (0, 1)
    assert selected == "/depth_anything: depth"
