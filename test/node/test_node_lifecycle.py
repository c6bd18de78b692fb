"""Configure, activate, deactivate, clean up, shut down: by service, as a lifecycle manager does it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from harness import FakeBackend, HostedNode, NodeProcess, Peer, camera_info, eventually, fake_estimator, image_message
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image, PointCloud2

from depth_anything_ros.errors import CheckpointNotFound
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.frame_input import FrameInput
from depth_anything_ros.settings import ModelSettings

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
Host = Callable[..., HostedNode]
# Before, rclpy raises in its service's callback and the one who asked gets no answer.
refuses_transitions = pytest.mark.skipif(
    int(version("rclpy").partition(".")[0]) < 9, reason="rclpy answers impossible transitions since Kilted"
)


def test_a_node_starts_itself_by_default(toy_process: NodeProcess, peer: Peer) -> None:
    eventually(lambda: toy_process.state(peer) == "active", "an active node")


def test_without_autostart_a_manager_takes_it_through_its_states(
    start_process: Callable[..., NodeProcess], peer: Peer
) -> None:
    node = start_process(autostart=False)
    assert node.state(peer) == "unconfigured"
    assert not peer.node.get_publishers_info_by_topic(node.topic("~/depth/image"))
    assert "running" not in node.log()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        for _ in range(2):
            assert node.change(peer, CONFIGURE)
            assert node.state(peer) == "inactive"
            assert not peer.node.get_subscriptions_info_by_topic(node.topic("image"))
            assert node.change(peer, ACTIVATE)
            assert node.state(peer) == "active"
            camera.ask(image_message(), depths)
            assert node.change(peer, DEACTIVATE)
            assert node.state(peer) == "inactive"
            eventually(lambda: not camera.images.get_subscription_count(), "no more listening")
            assert node.change(peer, CLEANUP)
            assert node.state(peer) == "unconfigured"
            eventually(lambda: not peer.node.get_publishers_info_by_topic(node.topic("~/depth/image")), "no topic")
        assert node.change(peer, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert node.state(peer) == "finalized"
    assert len(node.lines("running toy_hypersim_56")) == 2
    assert "Traceback" not in node.log()


@refuses_transitions
def test_an_impossible_transition_is_refused_and_changes_nothing(host: Host, peer: Peer) -> None:
    node = host()
    assert not node.change(peer, CONFIGURE)
    assert node.state(peer) == "active"
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)


def test_an_inference_under_way_at_deactivation_is_not_published(host: Host, peer: Peer) -> None:
    node = host()
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)
        node.backend.hold.clear()
        calls, image = node.backend.calls, image_message()
        camera.images.publish(image)
        eventually(lambda: node.backend.calls > calls, "an inference under way")
        assert node.change(peer, DEACTIVATE)
        node.backend.hold.set()
        assert node.change(peer, CLEANUP)  # waits for the worker
        assert node.change(peer, CONFIGURE)
        assert node.change(peer, ACTIVATE)
        camera.ask(image_message(), depths)
        assert depths.with_stamp(image.header.stamp) is None


def test_cleanup_frees_the_model_and_configure_loads_it_anew(host: Host, peer: Peer) -> None:
    estimators: list[weakref.ref[DepthEstimator]] = []

    def load(settings: ModelSettings) -> DepthEstimator:
        estimator = fake_estimator(FakeBackend(), settings)
        estimators.append(weakref.ref(estimator))
        return estimator

    node = host(load=load)
    with peer.listen(PointCloud2, node.topic("~/points")) as clouds, node.camera(peer) as camera:
        camera.ask(image_message(), clouds, camera_info())
        assert node.change(peer, DEACTIVATE)
        assert node.change(peer, CLEANUP)
        gc.collect()
        assert estimators[0]() is None
        assert node.change(peer, CONFIGURE)
        assert node.change(peer, ACTIVATE)
        camera.ask(image_message(), clouds, camera_info())
    assert len(estimators) == 2


def test_repeated_cycles_leave_nothing_behind(host: Host, peer: Peer) -> None:
    node = host()

    def census() -> tuple[int, int, int]:
        inner = node.node
        return len(list(inner.publishers)), len(list(inner.subscriptions)), len(inner._managed_entities)

    before = census()
    for _ in range(5):
        for transition in (DEACTIVATE, CLEANUP, CONFIGURE, ACTIVATE):
            assert node.change(peer, transition)
    assert census() == before


def test_shutdown_from_active_stops_everything(host: Host, peer: Peer) -> None:
    node = host()
    assert node.change(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.state(peer) == "finalized"
    eventually(lambda: not peer.node.get_subscriptions_info_by_topic(node.topic("image")), "no more listening")


@refuses_transitions
def test_nothing_follows_shutdown(host: Host, peer: Peer) -> None:
    node = host()
    assert node.change(peer, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert not node.change(peer, CONFIGURE)
    assert node.state(peer) == "finalized"


def test_the_process_survives_an_impossible_transition(toy_process: NodeProcess, peer: Peer) -> None:
    request = ChangeState.Request(transition=Transition(id=CONFIGURE))
    client: Any = peer.node.create_client(ChangeState, f"{toy_process.name}/change_state")
    eventually(client.service_is_ready, "the service")
    client.call_async(request)  # before Kilted, rclpy gives no answer
    assert toy_process.state(peer) == "active"


def test_a_missing_checkpoint_leaves_the_node_unconfigured_until_it_is_fixed(
    start_process: Callable[..., NodeProcess], peer: Peer, toy_checkpoint: Path, tmp_path: Path
) -> None:
    node = start_process(checkpoint=tmp_path / "nowhere.pth")
    node.wait_for(f"cannot load toy_hypersim_56: checkpoint '{tmp_path / 'nowhere.pth'}' does not exist")
    assert node.state(peer) == "unconfigured"
    with node.diagnostics(peer) as report:
        level, message, values = report()
        assert (level, message[:11]) == (2, "cannot load")
        assert "model" not in values
        assert not node.change(peer, CONFIGURE)
        assert node.set(peer, checkpoint=str(toy_checkpoint))[0].successful
        assert node.change(peer, CONFIGURE)
        assert node.change(peer, ACTIVATE)
        assert report()[:2] == (0, "active")
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)
    assert "Traceback" not in node.log()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (CheckpointNotFound("no file"), "cannot load vits_hypersim_518: no file"),
        (RuntimeError("driver"), "cannot load vits_hypersim_518: RuntimeError: driver"),
    ],
)
def test_whatever_fails_while_loading_is_said(
    host: Host, peer: Peer, error: Exception, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def load(settings: ModelSettings) -> DepthEstimator:
        raise error

    node = host(load=load)
    assert node.state(peer) == "unconfigured"
    assert capfd.readouterr().err.count(said) == 1


def test_a_model_has_seen_images_of_each_expected_size_before_the_node_is_configured(host: Host) -> None:
    seen: list[tuple[int, int, int]] = []

    def load(settings: ModelSettings) -> DepthEstimator:
        estimator = fake_estimator(FakeBackend(), settings)
        estimator.warm_up = lambda *shape: seen.append(shape)  # type: ignore[method-assign]
        return estimator

    host(load=load)
    assert seen == []
    host(load=load, cameras=["a", "b", "c"], warm_up_width=640, **{"b.warm_up_width": 1280, "b.warm_up_height": 720})
    assert seen == [(480, 640, 1), (720, 1280, 1)]


def test_a_transition_that_fails_half_way_is_said_and_undone(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = host(autostart=False)
    monkeypatch.setattr(FrameInput, "_subscribe", _fail)
    assert node.change(peer, CONFIGURE)
    assert not node.change(peer, ACTIVATE)
    assert node.state(peer) == "unconfigured"
    assert "on_activate failed: RuntimeError: no such policy" in capfd.readouterr().err
    eventually(lambda: not peer.node.get_publishers_info_by_topic(node.topic("~/depth/image")), "no topic")
    monkeypatch.undo()
    assert node.change(peer, CONFIGURE)
    assert node.change(peer, ACTIVATE)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)


def _fail(*_: object) -> None:
    raise RuntimeError("no such policy")
