"""Depth Anything 3 through the whole node: metres by the camera's focal length, sky, confidence, no false metres."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from harness import (
    HEIGHT,
    INPUT_SIZE,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    answer,
    camera_info,
    eventually,
    fake_estimator,
    fields_of,
    image_message,
)
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.preprocess import ResizeTwice
from depth_anything_ros.model.registry import encoder_for
from depth_anything_ros.settings import InputLimits, ModelSettings

Host = Callable[..., HostedNode]
KINDS = {"points": PointCloud2, "depth/camera_info": CameraInfo}
UNIT = 3.0  # what the network says everywhere but in the sky
SKY_ROWS = HEIGHT // 2


class Says(FakeBackend):
    """In the network's place: one depth; sky in the upper half, or confidence that grows from left to right."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def __call__(self, x: torch.Tensor) -> Outputs:
        h, w = x.shape[2:]
        rows, columns = torch.arange(h)[:, None].expand(h, w), torch.arange(w).expand(h, w)
        said = {
            "depth": torch.full((1, h, w), UNIT),
            "sky": (rows < h / 2).float()[None],
            "confidence": 1 + columns.float()[None] / w,
        }
        return {name: said[name] for name in self.names}


def hosted(host: Host, backend: Says, kind: Kind, dataset: str, **parameters: Any) -> HostedNode:
    def load(settings: ModelSettings) -> DepthEstimator:
        return DepthEstimator(
            backend,
            key=f"toy_{dataset}_{INPUT_SIZE}",
            kind=kind,
            max_depth=1.0,
            input_size=INPUT_SIZE,
            preprocessing=ResizeTwice(),
            needs_focal=dataset == "da3metric",
            sha256="fake",
        )

    return host(load=load, **parameters)


@contextmanager
def listening(node: HostedNode, peer: Peer, *outputs: str) -> Iterator[tuple[Camera, list[Inbox]]]:
    with ExitStack() as stack:
        kinds = [KINDS.get(name, Image) for name in outputs]
        topics = [node.topic(f"depth_anything/{name}") for name in outputs]
        inboxes = [stack.enter_context(peer.listen(*pair)) for pair in zip(kinds, topics, strict=True)]
        camera = stack.enter_context(node.camera(peer))
        camera.connect()
        yield camera, inboxes


def values_of(message: Image) -> np.ndarray[Any, Any]:
    dtype = {"32FC1": np.float32, "16UC1": np.uint16, "mono8": np.uint8}[message.encoding]
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


def info_with(focal_px: float, image: Image) -> Any:
    info = camera_info(header=image.header)
    info.k[0] = info.k[4] = focal_px
    info.p[0] = info.p[5] = focal_px
    return info


def metres_at(focal_px: float) -> float:
    """What the network's depth becomes: the focal length counts in pixels of the network's input."""
    h, w = ResizeTwice().network_size(HEIGHT, WIDTH, INPUT_SIZE, InputLimits())
    return UNIT * focal_px * (w / WIDTH + h / HEIGHT) / 2 / 300


def test_metres_follow_the_focal_length_of_each_image_and_sky_is_infinitely_far(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "sky"), "metric", "da3metric")
    with listening(node, peer, "depth/image", "sky/image", "points") as (camera, [depth, sky, points]):
        for focal_px in (80.0, 160.0):  # zooms in flight
            image = image_message()
            found = camera.ask(image, depth, info_with(focal_px, image))
            values = values_of(found)
            np.testing.assert_allclose(values[SKY_ROWS + 4 :], metres_at(focal_px), rtol=1e-5)
            assert np.isposinf(values[: SKY_ROWS - 4]).all()
            mask = values_of(answer(sky, image))
            assert set(np.unique(mask)) == {0, 255}
            np.testing.assert_array_equal(mask == 255, np.isposinf(values))
            cloud, _ = fields_of(answer(points, image))
            np.testing.assert_array_equal(np.isnan(cloud[..., 2]), np.isposinf(values))
            assert (found.header.stamp, found.header.frame_id) == (image.header.stamp, image.header.frame_id)


def test_metres_of_a_wide_lens_as_it_is_are_warned_of_and_of_a_rectified_one_are_not(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "sky"), "metric", "da3metric")
    wide: dict[str, Any] = {"distortion_model": "equidistant", "d": [0.0] * 4}
    with listening(node, peer, "depth/image") as (camera, [depth]), node.diagnostics(peer) as report:
        image = image_message()
        camera.ask(image, depth, camera_info(header=image.header, **wide))
        said = eventually(lambda: [text for text in [report()[1]] if "this lens bends rays by" in text], "the warning")
        assert "set undistort" in said[0]
        assert node.set(peer, undistort=True)[0].successful
        image = image_message()
        camera.ask(image, depth, camera_info(header=image.header, **wide))
        eventually(lambda: report()[1] == "active", "the end of the warning")


def test_sky_is_zero_where_depth_is_in_millimetres(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "sky"), "metric", "da3metric", depth_encoding="16UC1")
    with listening(node, peer, "depth/image") as (camera, [depth]):
        image = image_message()
        values = values_of(camera.ask(image, depth, info_with(80.0, image)))
        assert (values[: SKY_ROWS - 4] == 0).all()
        np.testing.assert_allclose(values[SKY_ROWS + 4 :], 1000 * metres_at(80.0), atol=1)


def test_without_a_camera_info_there_are_no_metres_and_one_warning_says_why(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    node = hosted(host, Says("depth", "sky"), "metric", "da3metric")
    with listening(node, peer, "scale_invariant/image", "depth/image") as (camera, [unitless, depth]):
        for _ in range(3):
            values = values_of(camera.ask(image_message(), unitless))
            np.testing.assert_allclose(values[SKY_ROWS + 4 :], UNIT)
            assert np.isposinf(values[: SKY_ROWS - 4]).all()
        assert not depth.messages
    logged = capfd.readouterr().err
    assert logged.count("no metres, for toy_da3metric_56 needs a focal length: waiting for CameraInfo on") == 1
    assert logged.count("waiting for CameraInfo") == 1


def test_depth_up_to_a_factor_is_on_no_metric_topic_and_confidence_has_its_own(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "confidence"), "scale_invariant", "da3")
    outputs = ("scale_invariant/image", "confidence/image", "depth/image", "points", "relative/image")
    with listening(node, peer, *outputs) as (camera, [unitless, confidence, *others]):
        image = image_message()
        np.testing.assert_allclose(values_of(camera.ask(image, unitless, camera_info(header=image.header))), UNIT)
        sure = values_of(answer(confidence, image))
        assert sure.min() >= 1
        assert (np.diff(sure.mean(0)) >= 0).all()
        assert not any(inbox.messages for inbox in others)


def test_points_of_less_confidence_are_withheld(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "confidence"), "metric", "hypersim", min_confidence=1.5)
    with listening(node, peer, "points", "depth/image") as (camera, [points, depth]):
        image = image_message()
        found = camera.ask(image, points, camera_info(header=image.header))
        cloud, _ = fields_of(found)
        assert np.isnan(cloud[:, : WIDTH // 2 - 4, 2]).all()
        assert np.isfinite(cloud[:, WIDTH // 2 + 4 :, 2]).all()
        assert np.isfinite(values_of(answer(depth, image))).all(), "the depth image keeps them"


def test_an_undistorted_image_has_the_depth_the_camera_and_the_cloud_of_a_pinhole(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth"), "metric", "hypersim", undistort=True)
    outputs = ("depth/image", "points", "depth/camera_info")
    with listening(node, peer, *outputs) as (camera, [depth, points, infos]):
        image = image_message()
        info = camera_info(header=image.header, d=[-0.2, 0.03, 0.0, 0.0, 0.0])
        np.testing.assert_allclose(values_of(camera.ask(image, depth, info)), UNIT, rtol=1e-6)
        said = answer(infos, image)
        assert not any(said.d)
        assert (said.k[0], said.k[4], said.k[2]) == pytest.approx((said.p[0], said.p[5], said.p[2]))
        assert said.k[0] > 0.5 * info.k[0]
        cloud, _ = fields_of(answer(points, image))
        u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        np.testing.assert_allclose(cloud[..., 0], UNIT * (u - said.k[2]) / said.k[0], atol=1e-4)
        np.testing.assert_allclose(cloud[..., 1], UNIT * (v - said.k[5]) / said.k[4], atol=1e-4)


def test_metres_of_an_undistorted_image_follow_the_pinholes_focal_length(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "sky"), "metric", "da3metric", undistort=True)
    with listening(node, peer, "depth/image", "depth/camera_info") as (camera, [depth, infos]):
        image = image_message()
        info = camera_info(header=image.header, d=[-0.2, 0.03, 0.0, 0.0, 0.0])
        values = values_of(camera.ask(image, depth, info))
        said = answer(infos, image)
        h, w = ResizeTwice().network_size(HEIGHT, WIDTH, INPUT_SIZE, InputLimits())
        expected = UNIT * (said.k[0] * w / WIDTH + said.k[4] * h / HEIGHT) / 2 / 300
        np.testing.assert_allclose(values[SKY_ROWS + 4 :], expected, rtol=1e-5)


def test_encoder_and_dataset_change_in_one_call_in_either_order(host: Host, peer: Peer) -> None:
    """Each alone would ask for a pair that does not exist: vits of da3metric, or vitl of da3."""
    loaded: list[str] = []

    def load(settings: ModelSettings) -> DepthEstimator:
        encoder_for(settings.encoder, settings.dataset)
        loaded.append(settings.key)
        return fake_estimator(FakeBackend(), settings)

    def switch(key: str, **values: str) -> None:
        assert all(result.successful for result in node.set(peer, **values))
        eventually(lambda: loaded[-1] == key, f"{key} is loaded")

    node = host(load=load, encoder="vitl", dataset="da3metric")
    switch("vits_da3_504", encoder="vits", dataset="da3")
    switch("vitl_da3metric_504", dataset="da3metric", encoder="vitl")
    assert loaded == ["vitl_da3metric_504", "vits_da3_504", "vitl_da3metric_504"]
    assert node.get(peer, "encoder", "dataset") == ["vitl", "da3metric"]


# Depth up to a factor that somebody gives a factor, and cameras that nobody described


class Estimates(Says):
    """`da3` in the network's place: it estimates a field of view, too."""

    def __init__(self, field_of_view: float = 1.0) -> None:
        super().__init__("depth", "confidence")
        self.field_of_view = field_of_view

    def __call__(self, x: torch.Tensor) -> Outputs:
        return super().__call__(x) | {"field_of_view": torch.full((1, 2), self.field_of_view)}

    @property
    def focal_px(self) -> float:
        """What follows, in pixels of the images."""
        return (WIDTH + HEIGHT) / 4 / math.tan(self.field_of_view / 2)


def test_a_lasting_factor_makes_metres_with_a_warning_and_a_change_of_scale_does_not(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    node = hosted(host, Says("depth", "confidence"), "scale_invariant", "da3", scale=1.5)
    outputs = ("scale_invariant/image", "depth/image")
    with listening(node, peer, *outputs) as (camera, [unitless, depth]):
        image = image_message()
        camera.ask(image, unitless, camera_info(header=image.header))
        assert not depth.messages, "scale is for metric models"
        assert all(result.successful for result in node.set(peer, metres_per_unit=2.0))
        image = image_message()
        np.testing.assert_allclose(values_of(camera.ask(image, depth, camera_info(header=image.header))), 2 * UNIT)
        np.testing.assert_allclose(values_of(answer(unitless, image)), UNIT)
    assert "metres_per_unit is 2: depth is known up to a factor in each picture" in capfd.readouterr().err


def test_a_cloud_without_a_camera_info_takes_the_focal_length_that_the_model_estimates_and_says_so(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = Estimates()
    node = hosted(host, backend, "scale_invariant", "da3", metres_per_unit=2.0)
    outputs = ("points", "depth/camera_info")
    with listening(node, peer, *outputs) as (camera, [points, infos]), node.diagnostics(peer) as report:
        cloud, _ = fields_of(camera.ask(image_message(), points))
        camera.ask(image_message(), points)
        u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        z = 2 * UNIT
        np.testing.assert_allclose(cloud[..., 0], z * (u - (WIDTH - 1) / 2) / backend.focal_px, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(cloud[..., 1], z * (v - (HEIGHT - 1) / 2) / backend.focal_px, rtol=1e-4, atol=1e-5)
        assert not infos.messages, "an estimate is no calibration"
        _, message, values = report()
        assert float(values["focal_estimate_px"]) == pytest.approx(backend.focal_px, rel=1e-2)
        assert "a focal length that the model estimates" in message
        image = image_message()
        known, _ = fields_of(camera.ask(image, points, camera_info(header=image.header)))
        assert not np.allclose(known[..., 0], cloud[..., 0])
        assert "focal_estimate_px" not in report()[2]
    assert capfd.readouterr().err.count("a focal length that the model estimates") == 1


def test_depth_without_metres_of_rectified_images_has_their_camera_info(host: Host, peer: Peer) -> None:
    node = hosted(host, Says("depth", "confidence"), "scale_invariant", "da3", undistort=True, undistort_focal_px=90.0)
    with listening(node, peer, "depth/camera_info", "depth/image") as (camera, [infos, depth]):
        image = image_message()
        found = camera.ask(image, infos, camera_info(header=image.header, d=[-0.2, 0.03, 0.0, 0.0, 0.0]))
        assert (found.k[0], found.p[0], any(found.d)) == (pytest.approx(90.0), pytest.approx(90.0), False)
        assert not depth.messages


def test_images_that_would_have_holes_are_dropped_with_the_reason(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    node = hosted(host, Says("depth"), "metric", "hypersim", undistort=True, undistort_focal_px=5.0)
    with listening(node, peer, "depth/image") as (camera, [depth]):
        image = image_message()
        with pytest.raises(AssertionError, match="no answer"):
            camera.ask(image, depth, camera_info(header=image.header, d=[-0.2, 0.03, 0.0, 0.0, 0.0]), deadline_s=1.0)
        assert node.node.counts.failed
        assert not depth.messages
    assert "the largest view without holes" in capfd.readouterr().err
