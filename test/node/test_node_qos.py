"""Endpoints whose quality of service does not fit: told once with both sides' settings, reported while they last."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness import HostedNode, Peer, camera_info, eventually, image_message, unique
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

Host = Callable[..., HostedNode]
OK, WARN = 0, 1
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Peer]:
    """A node that is discovered like one in another process."""
    with Peer() as node:
        yield node


def test_a_camera_that_does_not_fit_is_told_once_and_reported_until_it_goes(
    host: Host, peer: Peer, stranger: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    namespace = unique("strict")
    topic = f"{namespace}/front/image"
    node = host(
        namespace=namespace,
        cameras=["front", "rear"],
        stale_after_s=600.0,
        **{f"qos_overrides.{topic}.subscription.reliability": "reliable"},
    )
    said = (
        f"{topic}: nothing passes between this node and {stranger.node.get_fully_qualified_name()}, "
        "reliability is RELIABLE here and BEST_EFFORT there"
    )
    with node.diagnostics(peer, "front") as report:
        for _ in range(2):  # one that comes back is told again
            with stranger.publisher(Image, topic, BEST_EFFORT):
                wait_for(report, WARN, said)
            wait_for(report, OK, "active")
    log = capfd.readouterr().err
    assert log.count("reliability is RELIABLE here and BEST_EFFORT there") == 2


def test_a_listener_that_does_not_fit_is_told_once_and_reported_until_it_goes(
    host: Host, peer: Peer, stranger: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    namespace = unique("loose")
    topic = f"{namespace}/depth_anything/points"
    said = (
        f"{topic}: nothing passes between this node and {stranger.node.get_fully_qualified_name()}, "
        "reliability is BEST_EFFORT here and RELIABLE there"
    )
    node = host(namespace=namespace, **{f"qos_overrides.{topic}.publisher.reliability": "best_effort"})
    with (
        node.diagnostics(peer) as report,
        node.camera(peer) as camera,
        peer.listen(PointCloud2, topic, BEST_EFFORT) as clouds,
    ):
        camera.ask(image_message(), clouds, camera_info())
        with stranger.listen(PointCloud2, topic) as nothing:
            wait_for(report, WARN, said)
            camera.ask(image_message(), clouds, camera_info())
            assert len(nothing) == 0
        camera.ask(image_message(), clouds, camera_info())
        wait_for(report, OK, "active")
    log = capfd.readouterr().err
    assert log.count("reliability is BEST_EFFORT here and RELIABLE there") == 1


def test_endpoints_that_fit_are_not_mentioned(host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]) -> None:
    node = host()
    with node.camera(peer) as camera, peer.listen(Image, node.topic("~/depth/image"), BEST_EFFORT) as depths:
        camera.ask(image_message(), depths)
    assert "nothing passes" not in capfd.readouterr().err


def wait_for(report: Callable[[], tuple[int, str, dict[str, str]]], level: int, message: str) -> None:
    """Wait for diagnostics that say this."""
    eventually(lambda: report()[:2] == (level, message), f"diagnostics of level {level}: {message}")
