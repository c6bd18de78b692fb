"""Images that the middleware loses on their way are counted, reported with what helps, and no more once they come."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import HostedNode, Peer, eventually, image_message
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from depth_anything_ros.node.distributions import (
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
    fast_dds_variable,
    uses_fast_dds,
)
from depth_anything_ros.node.missing_input import lost_images

Host = Callable[..., HostedNode]
OK, WARN = 0, 1
# UDP alone, whose packets are given up when the socket is full: no large message arrives whole.
LOSSY_PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"><profiles>
  <transport_descriptors><transport_descriptor>
    <transport_id>udp</transport_id><type>UDPv4</type>
    <sendBufferSize>70000</sendBufferSize><non_blocking_send>true</non_blocking_send>
  </transport_descriptor></transport_descriptors>
  <participant profile_name="lossy" is_default_profile="true"><rtps>
    <userTransports><transport_id>udp</transport_id></userTransports>
    <useBuiltinTransports>false</useBuiltinTransports>
  </rtps></participant>
</profiles></dds>
"""
DRIVER = """
import sys, time
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

rclpy.init()
qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = Node("driver").create_publisher(Image, sys.argv[1], qos)
image = Image(height=1080, width=1920, encoding="bgr8", step=5760)
image.header.frame_id = "camera_optical_frame"
image.data.frombytes(bytes(1080 * 5760))
while True:
    publisher.publish(image)
    time.sleep(0.1)
"""


@pytest.fixture
def lossy_driver(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Start a camera's driver whose images get lost; it ends with the test."""
    profile = tmp_path / "lossy.xml"
    profile.write_text(LOSSY_PROFILE)
    environment = {**os.environ, fast_dds_variable(os.environ): str(profile)}
    drivers: list[subprocess.Popen[bytes]] = []

    def start(topic: str) -> subprocess.Popen[bytes]:
        drivers.append(subprocess.Popen([sys.executable, "-c", DRIVER, topic], env=environment))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
        driver.wait()


@pytest.mark.skipif(not uses_fast_dds(os.environ), reason="the driver's profile is Fast DDS's")
def test_lost_images_are_counted_and_reported_until_they_come(
    host: Host,
    peer: Peer,
    lossy_driver: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("depth_anything_ros.node.frame_statistics.WINDOW_S", 5.0)
    node = host(stale_after_s=600.0)
    topic = node.topic("image")
    with node.diagnostics(peer) as report, peer.listen(Image, node.topic("~/depth/image")) as depths:
        driver = lossy_driver(topic)
        eventually(lambda: f"images on {topic} were lost on their way" in report()[1], "a word about it", 60.0)
        level, _, values = report()
        assert level == WARN
        assert int(values["images_lost"]) >= 5
        driver.kill()
        with node.camera(peer) as camera:
            camera.ask(image_message(), depths)
        eventually(lambda: "lost" not in report()[1], "nothing about it any more", 60.0)
    log = capfd.readouterr().err
    assert log.count(f"many images on {topic} are lost on their way") == 1
    assert "config/fastdds.xml" in log


def test_images_that_a_newer_one_replaces_are_not_lost(host: Host, peer: Peer) -> None:
    node = host()
    with (
        node.diagnostics(peer) as report,
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        node.camera(peer) as camera,
    ):
        for _ in range(50):
            camera.images.publish(image_message())
        camera.ask(image_message(), depths)
        assert report()[2]["images_lost"] == "0"


def test_a_middleware_that_counts_no_losses_is_no_obstacle(
    host: Host, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = SubscriptionEventCallbacks.create_event_handlers

    def without_losses(events: SubscriptionEventCallbacks, *args: Any) -> Any:
        if events.message_lost is not None:
            raise UnsupportedEventTypeError("no such event")
        return create(events, *args)

    monkeypatch.setattr(SubscriptionEventCallbacks, "create_event_handlers", without_losses)
    node = host()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_a_reliable_subscription_is_proposed_for_reliable_publishers_alone(
    peer: Peer, reliability: ReliabilityPolicy
) -> None:
    topic = f"/lost_{reliability.name.lower()}"
    with peer.publisher(Image, topic, QoSProfile(depth=1, reliability=reliability)):
        eventually(lambda: peer.node.count_publishers(topic), "the publisher")
        proposes = f"qos_overrides.{topic}.subscription.reliability:=reliable" in lost_images(peer.node, topic)
    assert proposes == (reliability is ReliabilityPolicy.RELIABLE)
