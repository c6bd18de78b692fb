"""Parameters of a real node: described, refused, changed while it runs, and models exchanged under load."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import (
    FAKE_MAX_DEPTH_M,
    FakeBackend,
    HostedNode,
    NodeProcess,
    Peer,
    depth_of,
    eventually,
    fake_estimator,
    image_message,
)
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from depth_anything_ros.errors import CheckpointNotFound
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.parameter_table import Parameter as TableEntry
from depth_anything_ros.node.parameters import CAMERA_PARAMETERS, PARAMETERS
from depth_anything_ros.settings import ModelSettings

Host = Callable[..., HostedNode]


def whole_range(parameter: TableEntry) -> tuple[float, float] | None:
    """The bounds, and the number that stands for "not set" with them."""
    if parameter.bounds is None or not isinstance(parameter.unset, (int, float)):
        return parameter.bounds
    return min(parameter.bounds[0], parameter.unset), parameter.bounds[1]


def test_every_parameter_is_described_with_its_type_and_range(toy_process: NodeProcess, peer: Peer) -> None:
    for descriptor in toy_process.describe(peer, *PARAMETERS):
        parameter = PARAMETERS[descriptor.name]
        assert descriptor.description == parameter.description != ""
        is_unset = parameter.numbers > 0  # arrays, until they are given
        assert (descriptor.type == ParameterType.PARAMETER_NOT_SET) == is_unset
        assert descriptor.dynamic_typing == is_unset
        assert descriptor.read_only == parameter.fixed
        numeric = descriptor.type in (ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_DOUBLE)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(r.from_value, r.to_value) for r in ranges] == ([whole_range(parameter)] if numeric else [])
        for choice in parameter.choices:
            assert choice in descriptor.additional_constraints


def test_all_parameters_can_be_asked_for_at_once(start_process: Callable[..., NodeProcess], peer: Peer) -> None:
    node = start_process(cameras="[front]", **{"front.max_depth": 3.0})
    node.wait_for("running toy_hypersim_56")
    names = [*PARAMETERS, *(f"front.{name}" for name in CAMERA_PARAMETERS)]
    values = dict(zip(names, node.get(peer, *names), strict=True))
    assert (values["max_depth"], values["front.max_depth"], values["front.scale"]) == (0.0, 3.0, None)
    assert values["range_extrinsics"] is None


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"encoder": "vitx"}, ["encoder", "vitx", "vits, vitb, vitl"]),
        ({"cloud_stride": 99}, ["cloud_stride", "99", "Min: 1, Max: 64"]),
        ({"max_depth": "deep"}, ["max_depth", "deep", "STRING", "DOUBLE"]),
    ],
)
def test_a_bad_value_at_the_start_ends_the_node_with_one_line(parameters: dict[str, Any], said: list[str]) -> None:
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    command = [sys.executable, "-m", "depth_anything_ros.node", "--ros-args", *given]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    for part in said:
        assert part in line


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("encoder", "vitx", ["encoder", "vitx", "vits, vitb, vitl"]),
        ("depth_encoding", "64FC1", ["depth_encoding", "64FC1", "32FC1, 16UC1"]),
        ("cloud_stride", 99, ["cloud_stride", "99", "1", "64"]),
        ("max_depth", float("nan"), ["max_depth", "nan", "0.0", "1000.0"]),
        ("max_depth", "deep", ["Wrong parameter type"]),
        ("input_size", 10, ["input_size", "10", "14", "2072"]),
        ("image_transport", "compressed", ["read-only", "image_transport"]),
        ("process_every_frame", True, ["read-only", "process_every_frame"]),
        ("queue_size", 5, ["read-only", "queue_size"]),
        ("autostart", False, ["read-only", "autostart"]),
    ],
)
def test_a_bad_value_while_running_is_refused_and_changes_nothing(
    toy_process: NodeProcess, peer: Peer, name: str, value: Any, said: list[str]
) -> None:
    before = toy_process.get(peer, name)
    [result] = toy_process.set(peer, **{name: value})
    assert not result.successful
    for part in said:
        assert part in result.reason
    assert toy_process.get(peer, name) == before


@pytest.mark.parametrize("name", ["front.max_depth", "range_extrinsics"])
def test_no_parameter_can_be_deleted(host: Host, name: str) -> None:
    node = host(cameras=["front"], **{"front.max_depth": 3.0}).node
    [result] = node.set_parameters([Parameter(name, Parameter.Type.NOT_SET)])
    assert not result.successful
    assert name in result.reason
    assert node.has_parameter(name)


def test_both_ends_of_a_range_can_move_in_one_go(host: Host, peer: Peer) -> None:
    node = host(min_range_m=1.0, max_range_m=5.0)
    assert not node.set(peer, min_range_m=6.0)[0].successful
    assert node.set_together(peer, min_range_m=6.0, max_range_m=10.0).successful
    assert node.get(peer, "min_range_m", "max_range_m") == [6.0, 10.0]


def test_max_depth_scales_the_next_frame_without_a_load(host: Host, peer: Peer) -> None:
    loads: list[ModelSettings] = []
    backend = FakeBackend(depth_m=5.0)

    def load(settings: ModelSettings) -> DepthEstimator:
        loads.append(settings)
        return fake_estimator(backend, settings)

    node = host(backend, load=load)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        for max_depth, expected in ((0.0, 5.0), (10.0, 5.0 * 10 / FAKE_MAX_DEPTH_M), (0.0, 5.0)):
            assert node.set(peer, max_depth=max_depth)[0].successful
            np.testing.assert_allclose(depth_of(camera.ask(image_message(), depths)), expected, rtol=1e-5)
    assert len(loads) == 1


# Exchange of the model


class Models:
    """Estimators whose depth is a tenth of the input size they were asked for; loading can be held or fail."""

    def __init__(self) -> None:
        self.loaded: list[ModelSettings] = []
        self.gate = threading.Event()
        self.gate.set()

    def load(self, settings: ModelSettings) -> DepthEstimator:
        if settings.checkpoint == "missing":
            raise CheckpointNotFound("checkpoint 'missing' does not exist")
        if settings.checkpoint == "cursed":
            raise RuntimeError("the driver is unwell")
        assert self.gate.wait(20)
        self.loaded.append(settings)
        return fake_estimator(FakeBackend(depth_m=settings.network_input_size / 100), settings)


def test_frames_go_on_while_another_model_loads_and_then_come_from_it(host: Host, peer: Peer) -> None:
    models = Models()
    node = host(load=models.load, input_size=200)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        np.testing.assert_allclose(depth_of(camera.ask(image_message(), depths)), 2.0, rtol=1e-5)
        models.gate.clear()
        assert node.set(peer, input_size=300)[0].successful
        for _ in range(5):
            np.testing.assert_allclose(depth_of(camera.ask(image_message(), depths)), 2.0, rtol=1e-5)
        models.gate.set()
        eventually(lambda: depth_of(camera.ask(image_message(), depths))[0, 0] > 2.5, "the other model")
        seen = [float(depth_of(msg).mean()) for msg in depths.messages]
    np.testing.assert_allclose(sorted(seen), seen)
    np.testing.assert_allclose(seen[-1], 3.0, rtol=1e-5)


def test_two_parameters_one_after_the_other_are_one_load(host: Host, peer: Peer) -> None:
    models = Models()
    node = host(load=models.load)
    results = node.set(peer, encoder="vitb", dataset="vkitti", input_size=280)
    assert all(result.successful for result in results)
    eventually(lambda: len(models.loaded) > 1, "the other model")
    assert [settings.key for settings in models.loaded] == ["vits_hypersim_518", "vitb_vkitti_280"]


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [("missing", "checkpoint 'missing' does not exist"), ("cursed", "RuntimeError: the driver is unwell")],
)
def test_a_model_that_fails_to_load_leaves_the_old_one_and_true_parameters(
    host: Host, peer: Peer, checkpoint: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host(load=Models().load, input_size=200)
    with peer.listen(Image, node.topic("~/depth/image")) as depths, node.camera(peer) as camera:
        camera.ask(image_message(), depths)
        results = node.set(peer, input_size=300, checkpoint=checkpoint, max_depth=10.0)
        assert all(result.successful for result in results)
        eventually(lambda: node.get(peer, "input_size", "checkpoint") == [200, ""], "the old values")
        assert node.get(peer, "max_depth") == [10.0]
        np.testing.assert_allclose(depth_of(camera.ask(image_message(), depths)), 1.0, rtol=1e-5)
        assert node.set(peer, input_size=400)[0].successful
        eventually(lambda: depth_of(camera.ask(image_message(), depths))[0, 0] > 1.5, "a model that loads")
    line = f"cannot load the model asked for; keeping vits_hypersim_200: {said}"
    assert capfd.readouterr().err.count(line) == 1


def test_a_process_exchanges_real_checkpoints(
    start_process: Callable[..., NodeProcess], peer: Peer, toy_folder: Path, tmp_path: Path
) -> None:
    node = start_process()
    node.wait_for("running toy_hypersim_56")
    with (
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        peer.listen(Image, node.topic("~/relative/image")) as relative,
        node.camera(peer) as camera,
    ):
        untrained = depth_of(camera.ask(image_message(), depths))
        assert node.set(peer, checkpoint=str(tmp_path / "nowhere.pth"))[0].successful
        node.wait_for("cannot load the model asked for; keeping toy_hypersim_56")
        eventually(lambda: node.get(peer, "checkpoint") == ["untrained"], "the old value")
        np.testing.assert_array_equal(depth_of(camera.ask(image_message(), depths)), untrained)

        results = node.set(
            peer, checkpoint=str(toy_folder / "depth_anything_v2_metric_vkitti_toy.pth"), dataset="vkitti"
        )
        assert all(result.successful for result in results)
        node.wait_for("running toy_vkitti_56")
        other = depth_of(camera.ask(image_message(), depths))
        assert np.abs(other - untrained).max() > 0.1

        results = node.set(peer, dataset="relative", checkpoint=str(toy_folder / "depth_anything_v2_toy.pth"))
        assert all(result.successful for result in results)
        node.wait_for("running toy_relative_56")
        assert depth_of(camera.ask(image_message(), relative)).min() >= 0
