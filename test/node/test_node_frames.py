"""What becomes of every frame: taken, replaced, queued, ignored, lost; and what the node says about it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from harness import (
    HEIGHT,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    NodeProcess,
    Peer,
    camera_info,
    depth_of,
    eventually,
    image_message,
    nanoseconds,
)
from sensor_msgs.msg import Image, PointCloud2

from depth_anything_ros.errors import OutOfMemory
from depth_anything_ros.node.health import FrameCounts

Host = Callable[..., HostedNode]
OK, WARN, ERROR = 0, 1, 2


def settled(node: HostedNode) -> FrameCounts:
    """Wait until no frame is in hand, and return the counts."""

    def nothing_in_hand() -> bool:
        counts = node.node.counts
        return counts.received == counts.processed + counts.dropped + counts.ignored + counts.failed

    eventually(nothing_in_hand, "no frame in hand")
    return node.node.counts


def connect(node: HostedNode, camera: Camera, depths: Inbox) -> None:
    """Return when images surely arrive, and none is on its way."""
    camera.ask(image_message(), depths)
    last = image_message()
    camera.images.publish(last)
    eventually(lambda: depths.with_stamp(last.header.stamp), "an answer to the last image")
    settled(node)


def wait_until_received(node: HostedNode, count: int) -> None:
    """Wait until the node has counted an image in."""
    eventually(lambda: node.node.counts.received == count, f"{count} frames received")


def send_during_inference(node: HostedNode, camera: Camera, count: int) -> list[Image]:
    """Send images of which the first is worked on until all the others have come; return them."""
    node.backend.hold.clear()
    calls, received = node.backend.calls, node.node.counts.received
    images = [image_message() for _ in range(count)]
    camera.images.publish(images[0])
    eventually(lambda: node.backend.calls > calls, "an inference under way")
    for number, image in enumerate(images[1:], received + 2):
        camera.images.publish(image)
        wait_until_received(node, number)
    node.backend.hold.set()
    return images


def keep_sending(camera: Camera, until: Callable[[], bool]) -> None:
    """Publish images until something is so."""

    def send() -> bool:
        camera.images.publish(image_message())
        return until()

    eventually(send, "the effect of images")


class sending:  # noqa: N801 (reads as a verb: with sending(camera))
    """Publish images at 50 Hz in the background."""

    def __init__(self, camera: Camera) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(camera,))

    def _send(self, camera: Camera) -> None:
        while not self._done.wait(0.02):
            camera.images.publish(image_message())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


# Who listens


def test_without_a_listener_nothing_is_inferred(host: Host, peer: Peer) -> None:
    node = host()
    with node.camera(peer) as camera:
        keep_sending(camera, lambda: node.node.counts.received >= 3)
    counts = settled(node)
    assert counts == FrameCounts(received=counts.received, ignored=counts.received)
    assert node.backend.calls == 0


def test_a_listener_to_relative_depth_makes_a_metric_model_do_nothing(host: Host, peer: Peer) -> None:
    node = host()
    with peer.listen(Image, node.topic("~/relative/image")) as relative, node.camera(peer) as camera:
        eventually(lambda: node.node.count_subscribers(node.topic("~/relative/image")), "the listener")
        keep_sending(camera, lambda: node.node.counts.received >= 3)
    counts = settled(node)
    assert counts.ignored == counts.received
    assert (node.backend.calls, len(relative)) == (0, 0)


def test_work_ends_when_the_last_listener_goes(host: Host, peer: Peer) -> None:
    node = host()
    with node.camera(peer) as camera:
        with peer.listen(Image, node.topic("~/depth/image")) as depths:
            camera.ask(image_message(), depths)
        keep_sending(camera, lambda: node.node.counts.ignored > 0)


def test_frames_nobody_listens_to_are_reported_as_ignored(toy_process: NodeProcess, peer: Peer) -> None:
    with toy_process.camera(peer) as camera, toy_process.diagnostics(peer) as report:
        camera.connect()
        before = report()[2]
        with sending(camera):
            eventually(lambda: report()[2]["frames_ignored"] != before["frames_ignored"], "ignored frames")
        level, message, values = report()
        assert (level, message) == (OK, "active")
        assert values["frames_processed"] == before["frames_processed"]
        assert (values["model"], values["device"]) == ("toy_hypersim_56", "cpu")
        assert (values["backend"], values["precision"]) == ("torch", "fp32")


# Latest frame, or every frame


def test_a_30_hz_camera_and_a_slow_network_give_the_newest_frames(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(delay_s=0.15))
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        before = FrameCounts(**vars(node.node.counts))
        sent: list[int] = []
        answered = len(depths)
        for _ in range(60):
            image = image_message()
            sent.append(nanoseconds(image.header.stamp))
            camera.images.publish(image)
            time.sleep(1 / 30)
        counts = settled(node)
        eventually(lambda: depths.stamps()[-1] == sent[-1], "the very last frame")
    places = [sent.index(stamp) for stamp in depths.stamps()[answered:]]
    assert places == sorted(set(places))
    received = counts.received - before.received
    dropped = counts.dropped - before.dropped
    assert len(places) == counts.processed - before.processed
    assert dropped == received - len(places) > 0


def test_the_frame_after_a_long_inference_is_the_newest_that_came(host: Host, peer: Peer) -> None:
    node = host()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        answered, images = len(depths), send_during_inference(node, camera, 6)
        eventually(lambda: len(depths) == answered + 2, "two answers")
        assert depths.stamps()[answered:] == [nanoseconds(images[i].header.stamp) for i in (0, 5)]
        assert settled(node).dropped == 4


def test_services_answer_during_inference(host: Host, peer: Peer) -> None:
    node = host()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        node.backend.hold.clear()
        calls = node.backend.calls
        camera.images.publish(image_message())
        eventually(lambda: node.backend.calls > calls, "an inference under way")
        assert node.state(peer) == "active"
        assert node.set(peer, cloud_stride=2)[0].successful
        assert not node.backend.hold.is_set()


def test_every_frame_of_a_burst_comes_out_in_order_when_asked_to(host: Host, peer: Peer) -> None:
    node = host(process_every_frame=True, queue_size=50)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        node.backend.hold.clear()
        answered, received = len(depths), node.node.counts.received
        images = [image_message() for _ in range(40)]
        for count, image in enumerate(images, received + 1):
            camera.images.publish(image)
            wait_until_received(node, count)
        node.backend.hold.set()
        eventually(lambda: len(depths) == answered + 40, "40 answers")
        assert depths.stamps()[answered:] == [nanoseconds(image.header.stamp) for image in images]
        assert settled(node).dropped == 0


def test_a_burst_beyond_the_queue_loses_its_oldest_and_counts_them(host: Host, peer: Peer) -> None:
    node = host(process_every_frame=True, queue_size=3)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        answered, images = len(depths), send_during_inference(node, camera, 8)
        eventually(lambda: len(depths) == answered + 4, "the answers")
        assert depths.stamps()[answered:] == [nanoseconds(images[i].header.stamp) for i in (0, 5, 6, 7)]
        assert settled(node).dropped == 4


# Frames that cannot be used

MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "wrong step": ({"step": 100}, "step of a 84 pixels wide bgr8 image is 100 bytes; 252 or more are needed"),
    "short data": ({"height": HEIGHT + 1}, "84x57 bgr8 image with step 252 has 14112 bytes; 14364 are needed"),
    "unknown encoding": ({"encoding": "mono12"}, "unknown image encoding 'mono12'"),
    "zero size": ({"width": 0, "height": 0}, "image of zero size: 0x0"),
    "too elongated": ({"width": 1, "height": HEIGHT}, "an aspect ratio of 56.0:1; allowed: up to 8:1"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_image_costs_itself_and_one_line_however_often_it_comes(
    toy_process: NodeProcess, peer: Peer, kind: str
) -> None:
    changes, said = MALFORMED[kind]
    with (
        peer.listen(Image, toy_process.topic("~/depth/image")) as depths,
        toy_process.camera(peer) as camera,
        toy_process.diagnostics(peer) as report,
    ):
        camera.ask(image_message(), depths)
        for _ in range(20):
            bad = image_message()
            for name, value in changes.items():
                setattr(bad, name, value)
            camera.images.publish(bad)
            time.sleep(0.01)
        toy_process.wait_for(said)
        level, message, values = report()
        assert int(values["frames_failed"]) > 1
        assert (level, message) == (WARN, f"frame dropped: {message[15:]}")
        assert said in message
        camera.ask(image_message(), depths)
    assert len(toy_process.lines(said)) == 1
    assert "Traceback" not in toy_process.log()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfMemory("cuda:0 has no memory left"), "frame dropped: cuda:0 has no memory left"),
        (MemoryError(), "frame dropped: cpu has no memory left for this model and image size"),
        (RuntimeError("cuDNN is unwell"), "frame dropped: RuntimeError: cuDNN is unwell"),
    ],
)
def test_a_failed_inference_costs_its_frame_only(
    host: Host, peer: Peer, error: Exception, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        connect(node, camera, depths)
        received = node.node.counts.received
        node.backend.error = error
        bad = [image_message(), image_message()]
        for count, image in enumerate(bad, 1):
            camera.images.publish(image)
            wait_until_received(node, received + count)
            settled(node)
        assert node.node.counts.failed == 2
        node.backend.error = None
        camera.ask(image_message(), depths)
        assert not any(depths.with_stamp(image.header.stamp) for image in bad)
    assert capfd.readouterr().err.count(said) == 1


# What diagnostics say


def test_diagnostics_tell_an_error_as_long_as_inference_fails_and_calm_down_after(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(delay_s=0.1))
    node.backend.error = RuntimeError("unwell")
    with (
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        node.camera(peer) as camera,
        node.diagnostics(peer) as report,
    ):
        keep_sending(camera, lambda: node.node.counts.failed > 1)
        for _ in range(2):
            with sending(camera):
                level, message, _ = report()
            assert (level, message.count("times in a row: RuntimeError: unwell")) == (ERROR, 1)
        node.backend.error = None
        camera.ask(image_message(), depths, camera_info())
        level, message, values = report()
        assert (level, message) == (OK, "active")
        assert values["sha256"] == "fake"


# The other side comes and goes

PUBLISHER = """
import sys, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, sys.argv[1], qos_profile_sensor_data)
image = Image(height=56, width=84, step=252, encoding="bgr8", data=bytes(56 * 252))
image.header.frame_id = sys.argv[2]
while True:
    publisher.publish(image)
    time.sleep(0.05)
"""


def test_a_killed_and_restarted_camera_is_heard_again(toy_process: NodeProcess, peer: Peer) -> None:
    with peer.listen(Image, toy_process.topic("~/depth/image")) as depths:
        for name in ("first", "second"):
            publisher = subprocess.Popen([sys.executable, "-c", PUBLISHER, toy_process.topic("image"), name])
            try:
                eventually(lambda: name in {msg.header.frame_id for msg in list(depths.messages)}, name)  # noqa: B023
            finally:
                publisher.kill()
                publisher.wait()


def test_depth_goes_on_with_a_new_listener(toy_process: NodeProcess, peer: Peer) -> None:
    with toy_process.camera(peer) as camera:
        for _ in range(3):
            with peer.listen(Image, toy_process.topic("~/depth/image")) as depths:
                assert depth_of(camera.ask(image_message(), depths)).shape == (HEIGHT, WIDTH)


@pytest.mark.slow
def test_memory_is_steady_over_600_frames(toy_process: NodeProcess, peer: Peer) -> None:
    process = psutil.Process(toy_process.process.pid)
    pixels = np.zeros((28, 42, 3), np.uint8)
    with (
        peer.listen(PointCloud2, toy_process.topic("~/points"), 5) as clouds,
        peer.listen(Image, toy_process.topic("~/depth/color"), 5),
        toy_process.camera(peer) as camera,
    ):
        camera.ask(image_message(pixels), clouds, camera_info(42, 28))
        resident: list[int] = []
        for count in range(1000):
            image = image_message(pixels)
            camera.infos.publish(camera_info(42, 28, header=image.header))
            camera.ask(image, clouds)
            clouds.messages.clear()
            if count in (400, 999):
                resident.append(process.memory_info().rss)
    assert (resident[1] - resident[0]) / 2**20 < 6  # 10 kB a frame; the soak looks closer
