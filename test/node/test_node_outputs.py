"""Compressed outputs, filters and scale as parameters: what a listener gets, read by formulas of the test's own."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import (
    FAKE_MAX_DEPTH_M,
    HEIGHT,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    answer,
    camera_info,
    depth_of,
    fields_of,
    image_message,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from depth_anything_ros.io.formats import colorize

Host = Callable[..., HostedNode]
OUTPUTS: dict[str, Any] = {
    "~/depth/image": Image,
    "~/depth/image/compressedDepth": CompressedImage,
    "~/depth/color": Image,
    "~/depth/color/compressed": CompressedImage,
    "~/points": PointCloud2,
}
RAMP = np.linspace(0.5, 10, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)


@contextmanager
def talking_to(node: HostedNode, peer: Peer, *topics: str) -> Iterator[tuple[Camera, list[Inbox]]]:
    """Be the node's camera, and listen to some of its outputs."""
    with ExitStack() as stack:
        inboxes = [stack.enter_context(peer.listen(OUTPUTS[name], node.topic(name))) for name in topics]
        yield stack.enter_context(node.camera(peer)), inboxes


def picture_of(data: bytes) -> NDArray[Any]:
    """Decode a picture: by Pillow where it is installed, which shares nothing with what encoded it."""
    try:
        from PIL import Image as PillowImage
    except ImportError:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        return decoded
    pixels = np.asarray(PillowImage.open(io.BytesIO(data)))
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


# Compressed


def test_compressed_depth_is_what_image_transport_reads(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(RAMP), min_range_m=1.0, max_range_m=8.0)
    with talking_to(node, peer, "~/depth/image/compressedDepth") as (camera, [compressed]):
        image = image_message()
        msg = camera.ask(image, compressed, camera_info())
        assert msg.header == image.header
        assert msg.format == "32FC1; compressedDepth png"
        _, a, b = struct.unpack_from("=iff", msg.data)
        codes = picture_of(bytes(msg.data[12:])).astype(np.float64)
        assert codes.shape == (HEIGHT, WIDTH)
        inside = (RAMP >= 1.0) & (RAMP <= 8.0)
        assert (codes[~inside] == 0).all()
        depth = a / (codes[inside] - b)
        assert (np.abs(depth - RAMP[inside]) <= 0.51 * RAMP[inside] ** 2 / a + 1e-5).all()

        assert node.set(peer, depth_encoding="16UC1")[0].successful
        msg = camera.ask(image_message(), compressed, camera_info())
        assert msg.format == "16UC1; compressedDepth png"
        millimetres = picture_of(bytes(msg.data[12:]))
        assert (millimetres[~inside] == 0).all()
        np.testing.assert_allclose(millimetres[inside], 1000 * RAMP[inside], atol=0.51)


@pytest.mark.parametrize("values", [{"scale": 4.0}, {"shift_m": 30.0}])
def test_compressed_depth_keeps_what_scale_and_shift_put_beyond_the_models_range(
    host: Host, peer: Peer, values: dict[str, float]
) -> None:
    node = host(FakeBackend(RAMP), **values)
    expected = RAMP * values.get("scale", 1.0) + values.get("shift_m", 0.0)
    assert expected.max() > FAKE_MAX_DEPTH_M
    with talking_to(node, peer, "~/depth/image/compressedDepth") as (camera, [compressed]):
        msg = camera.ask(image_message(), compressed)
    _, a, b = struct.unpack_from("=iff", msg.data)
    codes = picture_of(bytes(msg.data[12:])).astype(np.float64)
    assert (codes > 0).all()
    assert (np.abs(a / (codes - b) - expected) <= 0.51 * expected**2 / a + 1e-4).all()


def test_the_compressed_colour_picture_is_the_colour_picture_in_the_quality_asked_for(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(RAMP))
    with talking_to(node, peer, "~/depth/color", "~/depth/color/compressed") as (camera, [colors, compressed]):
        image = image_message()
        msg = camera.ask(image, compressed)
        assert (msg.header, msg.format) == (image.header, "bgr8; jpeg compressed bgr8")
        pixels = np.frombuffer(answer(colors, image).data, np.uint8).reshape(HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(pixels.astype(int), colorize(RAMP, 0.0, FAKE_MAX_DEPTH_M).astype(int), atol=8)
        assert np.abs(picture_of(bytes(msg.data)).astype(int) - pixels).mean() < 4
        assert node.set(peer, jpeg_quality=10)[0].successful
        assert len(camera.ask(image_message(), compressed).data) < 0.7 * len(msg.data)


# Filters


def test_the_edge_filter_takes_flying_points_out_of_the_cloud_and_leaves_depth_alone(host: Host, peer: Peer) -> None:
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[:, 40:] = 5.0
    depth[:, 40] = 3.0  # between the surfaces, on neither
    node = host(FakeBackend(depth))
    with talking_to(node, peer, "~/points", "~/depth/image") as (camera, [clouds, depths]):
        for is_on in (False, True, False):
            assert node.set(peer, edge_filter=is_on)[0].successful
            image = image_message()
            cloud = camera.ask(image, clouds, camera_info())
            points, _ = fields_of(cloud)
            missing = np.isnan(points[..., 2])
            assert cloud.is_dense is not is_on
            assert missing[:, 40].all() == is_on
            assert not np.delete(missing, 40, axis=1).any()
            np.testing.assert_allclose(depth_of(answer(depths, image)), depth, rtol=1e-5)


def test_the_temporal_filter_calms_a_still_scene_and_can_be_switched_off(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(), temporal_filter_s=1.0)
    generator = np.random.default_rng(3)

    def spread_after(count: int) -> float:
        """Noise of the last of so many frames at 10 Hz, as a share of what the network's has."""
        for _ in range(count):
            node.backend.depth_m = (3.0 + 0.02 * generator.standard_normal((HEIGHT, WIDTH))).astype(np.float32)
            image = image_message()
            image.header.stamp = next(stamps)
            depth = depth_of(camera.ask(image, depths))
        return float((depth - 3.0).std() / 0.02)

    stamps = (Time(sec=100 + i // 10, nanosec=i % 10 * 100_000_000) for i in range(1000))
    with talking_to(node, peer, "~/depth/image") as (camera, [depths]):
        assert 0.9 < spread_after(1) < 1.1
        assert spread_after(20) < 0.4
        assert node.set(peer, temporal_filter_s=0.0)[0].successful
        assert 0.9 < spread_after(2) < 1.1


# Scale and shift


def test_scale_and_shift_hold_for_depth_and_cloud_and_are_reported(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(RAMP))
    with (
        talking_to(node, peer, "~/points", "~/depth/image") as (camera, [clouds, depths]),
        node.diagnostics(peer) as report,
    ):
        for scale, shift_m in ((1.0, 0.0), (2.0, -3.0), (0.5, 1.0)):
            assert node.set_together(peer, scale=scale, shift_m=shift_m).successful
            image = image_message()
            points, _ = fields_of(camera.ask(image, clouds, camera_info()))
            depth = depth_of(answer(depths, image))
            expected = np.where(scale * RAMP + shift_m > 0, scale * RAMP + shift_m, np.nan)
            np.testing.assert_allclose(depth, expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(points[..., 2], depth)
        values = report()[2]
    assert (values["scale"], values["shift_m"]) == ("0.5", "1.0 m")
