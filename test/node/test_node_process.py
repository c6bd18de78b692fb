"""The end of the node's process: quick, quiet and with status 0, whatever it is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from harness import NodeProcess, Peer, eventually, image_message
from sensor_msgs.msg import Image

Start = Callable[..., NodeProcess]
ENDINGS = [signal.SIGINT, signal.SIGTERM]
# Two seconds are promised; a busy machine may need a little more.
PATIENCE_S = 4.0
# Loads for a second or more.
SLOW = {"encoder": "vitl", "input_size": 518}
# Is there soon, and then takes seconds for a frame.
SLOW_FRAMES = {"encoder": "vits", "input_size": 1036, "warm_up_width": 0}


def assert_ends_well(node: NodeProcess, number: signal.Signals) -> None:
    seconds = node.end_by(number)
    assert node.process.returncode == 0, node.log()
    assert "Traceback" not in node.log()
    assert "rosout" not in node.log()  # nothing was logged to a context that is gone
    assert seconds < PATIENCE_S


@pytest.mark.parametrize("number", ENDINGS)
def test_an_idle_node_ends_at_once(start_process: Start, peer: Peer, number: signal.Signals) -> None:
    node = start_process()
    node.wait_for("running")
    eventually(lambda: node.state(peer) == "active", "an active node")
    assert_ends_well(node, number)


def test_a_node_that_never_started_itself_ends_at_once(start_process: Start, peer: Peer) -> None:
    node = start_process(autostart=False)
    assert node.state(peer) == "unconfigured"
    assert_ends_well(node, signal.SIGINT)


def test_impatience_does_no_harm(start_process: Start, peer: Peer) -> None:
    node = start_process()
    node.wait_for("running")
    for _ in range(3):
        node.process.send_signal(signal.SIGINT)
    assert_ends_well(node, signal.SIGINT)


@pytest.mark.parametrize("number", ENDINGS)
def test_loading_does_not_delay_the_end(start_process: Start, number: signal.Signals) -> None:
    node = start_process(**SLOW)
    node.wait_for("untrained network: vitl")
    assert "running" not in node.log()
    assert_ends_well(node, number)


@pytest.mark.parametrize("number", ENDINGS)
def test_loading_another_model_does_not_delay_the_end(start_process: Start, peer: Peer, number: signal.Signals) -> None:
    node = start_process()
    node.wait_for("running")
    assert all(result.successful for result in node.set(peer, **SLOW))
    node.wait_for("untrained network: vitl")
    assert_ends_well(node, number)


@pytest.mark.parametrize("number", ENDINGS)
def test_an_inference_under_way_does_not_delay_the_end(
    start_process: Start, peer: Peer, number: signal.Signals
) -> None:
    node = start_process(**SLOW_FRAMES)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        node.wait_for("running")
        camera.connect()
        with node.diagnostics(peer) as report:

            def one_in_hand() -> bool:
                camera.images.publish(image_message())
                counts = report()[2]
                done = sum(int(counts[f"frames_{name}"]) for name in ("processed", "dropped", "ignored", "failed"))
                return int(counts["frames_received"]) > done

            eventually(one_in_hand, "an inference under way")
        assert len(depths) == 0
        assert_ends_well(node, number)


BROKEN = """
from depth_anything_ros.node import lifecycle as node

def fail(self):
    raise RuntimeError("something nobody thought of")

node.DepthAnythingNode.trigger_configure = fail
node.main()
"""


def test_a_node_that_dies_of_an_error_says_so_by_its_status() -> None:
    ended = subprocess.run([sys.executable, "-c", BROKEN], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "RuntimeError: something nobody thought of" in ended.stderr
