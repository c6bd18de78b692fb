"""Which topics the node listens to, what it receives from them, and what it says when nothing comes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import FakeBackend, HostedNode, Peer, camera_info, eventually, fake_estimator, image_message, unique
from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_anything_ros.errors import CheckpointNotFound
from depth_anything_ros.node.input_topics import InputTopics
from depth_anything_ros.node.missing_input import missing_image

Host = Callable[..., HostedNode]
# Where nobody else publishes: nodes that other tests killed stay in their domain's graph for seconds.
ANOTHER_DOMAIN = 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 50) % 100
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagnostics ten times a second."""
    monkeypatch.setattr("depth_anything_ros.node.diagnostics.PERIOD_S", 0.1)


# CameraInfo that is published once


def test_camera_info_that_was_published_once_before_the_node_came_is_received(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    namespace = unique("latched")
    with (
        peer.publisher(CameraInfo, f"{namespace}/camera_info", LATCHED) as infos,
        peer.publisher(Image, f"{namespace}/image") as images,
        peer.listen(PointCloud2, f"{namespace}/depth_anything/points") as clouds,
    ):
        infos.publish(camera_info())
        host(namespace=namespace)

        def has_cloud() -> int:
            images.publish(image_message())
            time.sleep(0.1)
            return len(clouds)

        eventually(has_cloud, "a cloud")
    assert "nothing passes" not in capfd.readouterr().err


def test_durability_of_a_topic_can_be_overridden(host: Host, peer: Peer) -> None:
    namespace = unique("durable")
    topics = {"image": "subscription", "depth_anything/depth/image": "publisher"}
    overrides = {
        f"qos_overrides.{namespace}/{name}.{way}.durability": "transient_local" for name, way in topics.items()
    }
    node = host(namespace=namespace, **overrides).node
    [image] = [one for one in node.subscriptions if one.topic_name == f"{namespace}/image"]
    [depth] = [one for one in node.publishers if one.topic_name == f"{namespace}/depth_anything/depth/image"]
    assert {image.qos_profile.durability, depth.qos_profile.durability} == {DurabilityPolicy.TRANSIENT_LOCAL}


# Remapping


@pytest.mark.parametrize(
    ("rules", "image", "info"),
    [
        ((), "/robot/image", "/robot/camera_info"),
        (("image:=/cam/image_raw",), "/cam/image_raw", "/cam/camera_info"),
        (("image:=cam/color/image_rect",), "/robot/cam/color/image_rect", "/robot/cam/color/camera_info"),
        (("image:=/cam/image_raw", "camera_info:=/other/info"), "/cam/image_raw", "/other/info"),
        (("camera_info:=/other/info",), "/robot/image", "/other/info"),
        (("image:=/image_raw",), "/image_raw", "/camera_info"),
    ],
)
def test_camera_info_is_beside_the_image_unless_it_is_remapped_itself(
    peer: Peer, rules: tuple[str, ...], image: str, info: str
) -> None:
    assert topics_of(peer, "", *rules)[:2] == (image, info)


def test_camera_info_of_one_of_several_cameras_is_beside_its_image(peer: Peer) -> None:
    rule = "front/image:=/f/image_raw"
    assert topics_of(peer, "front/", rule) == ("/f/image_raw", "/f/camera_info", "/robot/front/range")
    assert topics_of(peer, "left/", rule)[:2] == ("/robot/left/image", "/robot/left/camera_info")
    own = "front/camera_info:=/calibrated/info"
    assert topics_of(peer, "front/", rule, own)[:2] == ("/f/image_raw", "/calibrated/info")


def topics_of(peer: Peer, prefix: str, *rules: str) -> tuple[str, str, str]:
    """What a node in the namespace /robot with these remappings listens to."""
    arguments = ["--ros-args", *(part for rule in rules for part in ("-r", rule))]
    node = Node("depth_anything", context=peer.context, namespace="/robot", cli_args=arguments)
    try:
        topics = InputTopics.resolve(node, prefix)
        return topics.image, topics.camera_info, topics.range
    finally:
        node.destroy_node()


def test_the_log_says_which_topics_are_listened_to_and_which_are_published(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    namespace = unique("listening")
    host(namespace=namespace, image_transport="compressed")
    log = capfd.readouterr().err
    assert f"images from {namespace}/image/compressed, CameraInfo from {namespace}/camera_info" in log
    [published] = [line for line in log.splitlines() if "publishes, each while somebody listens: " in line]
    assert f"{namespace}/depth_anything/depth/image, " in published
    assert f"{namespace}/depth_anything/points, " in published
    for other in ("relative", "scale_invariant", "sky", "confidence"):
        assert other not in published  # the model makes metres alone


# Nothing comes


def test_a_topic_that_nobody_publishes_is_named_once_with_those_that_have_images(
    capfd: pytest.CaptureFixture[str],
) -> None:
    elsewhere = unique("elsewhere")
    with (
        Peer(ANOTHER_DOMAIN) as peer,
        peer.publisher(Image, f"{elsewhere}/depth/image"),
        peer.publisher(Image, f"{elsewhere}/image_raw"),
        peer.publisher(CameraInfo, f"{elsewhere}/camera_info"),
        HostedNode(
            peer.context, FakeBackend(), stale_after_s=0.5, range_type="LaserScan", range_extrinsics=[0.0] * 6
        ) as node,
        node.diagnostics(peer) as report,
    ):
        eventually(lambda: report()[1].endswith("s: nobody publishes it"), "a word about it")
        time.sleep(0.3)
    log = capfd.readouterr().err
    images = f"images are on {elsewhere}/image_raw, {elsewhere}/depth/image: start with -r image:={elsewhere}/image_raw"
    assert log.count(f"no image yet: nobody publishes {node.namespace}/image; {images}\n") == 1
    other = f"it is on {elsewhere}/camera_info: start with -r camera_info:={elsewhere}/camera_info"
    assert log.count(f"no CameraInfo yet: nobody publishes {node.namespace}/camera_info; {other}\n") == 1
    assert log.count(f"no LaserScan yet: nobody publishes {node.namespace}/range; no other topic has one\n") == 1


@pytest.mark.parametrize(
    ("published", "transport", "mend"),
    [
        ((CompressedImage, "image/compressed"), "raw", "-p image_transport:=compressed"),
        ((Image, "image"), "compressed", "-p image_transport:=raw"),
        ((CompressedImage, "cam/compressed"), "raw", "-r front/image:={namespace}/cam -p image_transport:=compressed"),
        ((CompressedImage, "cam/compressed"), "compressed", "-r front/image:={namespace}/cam"),
    ],
)
def test_images_of_the_other_transport_are_found_with_what_to_write(
    peer: Peer, published: tuple[type, str], transport: str, mend: str
) -> None:
    namespace = unique("transport")
    kind, name = published
    topic = f"{namespace}/image/compressed" if transport == "compressed" else f"{namespace}/image"
    with peer.publisher(kind, f"{namespace}/{name}"):
        eventually(lambda: peer.node.count_publishers(f"{namespace}/{name}"), "the publisher")
        said = missing_image(peer.node, "front/image", topic, transport)
        assert missing_image(peer.node, "front/image", f"{namespace}/{name}", transport) == ""
    assert said.endswith(f": start with {mend.format(namespace=namespace)}")


def test_a_camera_that_publishes_is_not_said_to_be_missing(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    namespace = unique("there")
    with peer.publisher(Image, f"{namespace}/image"), peer.publisher(CameraInfo, f"{namespace}/camera_info"):
        node = host(namespace=namespace, stale_after_s=0.3)
        with node.diagnostics(peer) as report:
            eventually(lambda: report()[1].startswith("no image on "), "a silent camera")
    assert "nobody publishes" not in capfd.readouterr().err


# A start that fails


def test_after_a_failed_configure_the_node_says_that_activate_must_follow(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    backend, errors = FakeBackend(), [CheckpointNotFound("no file for vits")]

    def load(settings: Any) -> Any:
        if errors:
            raise errors.pop()
        return fake_estimator(backend, settings)

    node = host(backend, load=load)
    commands = [f"ros2 lifecycle set {node.name} {transition}" for transition in ("configure", "activate")]
    assert " && ".join(commands) in capfd.readouterr().err
    assert node.change(peer, Transition.TRANSITION_CONFIGURE)
    with node.diagnostics(peer) as report:
        eventually(lambda: report()[:2] == (1, f"configured, but not active: {commands[1]}"), "a warning")
        assert node.change(peer, Transition.TRANSITION_ACTIVATE)
        eventually(lambda: report()[0] == 0 or "not active" not in report()[1], "no warning any more")


# Raw pictures


@pytest.mark.parametrize(
    ("changes", "parameters", "times"),
    [
        ({"d": [-0.2, 0.05, 0.0, 0.0, 0.0]}, {}, 1),
        ({"p": [50.0, 0.0, 41.0, 0.0, 0.0, 50.0, 27.0, 0.0, 0.0, 0.0, 1.0, 0.0]}, {}, 1),
        ({"d": [-0.2, 0.05, 0.0, 0.0, 0.0]}, {"rectified": True}, 0),
        ({"p": [0.0] * 12}, {}, 0),
        ({}, {}, 0),
    ],
    ids=["lens", "P is not K", "rectified", "no P", "pinhole"],
)
def test_depth_of_a_distorted_picture_is_said_to_be_distorted_once(
    host: Host,
    peer: Peer,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    parameters: dict[str, Any],
    times: int,
) -> None:
    node = host(**parameters)
    with node.camera(peer) as camera, peer.listen(PointCloud2, node.topic("~/points")) as clouds:
        for _ in range(2):
            image = image_message()
            camera.ask(image, clouds, camera_info(header=image.header, **changes))
    assert capfd.readouterr().err.count("so ~/depth/image is distorted as they are") == times
