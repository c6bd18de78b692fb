"""What the node publishes for an image: topics, headers, depth, camera info, clouds, quality of service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from harness import (
    FAKE_MAX_DEPTH_M,
    HEIGHT,
    NOISE,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    NodeProcess,
    Peer,
    answer,
    camera_info,
    depth_of,
    eventually,
    fake_estimator,
    fields_of,
    image_message,
    new_header,
    unique,
)
from numpy.typing import NDArray
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, RegionOfInterest

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import colorize
from depth_anything_ros.messages.images import SerialImage
from depth_anything_ros.settings import ModelSettings

Host = Callable[..., HostedNode]
OUTPUTS: dict[str, Any] = {
    "~/depth/image": Image,
    "~/depth/camera_info": CameraInfo,
    "~/points": PointCloud2,
    "~/depth/color": Image,
    "~/depth/image/compressedDepth": CompressedImage,
    "~/depth/color/compressed": CompressedImage,
    "~/relative/image": Image,
}
METRIC = tuple(name for name in OUTPUTS if name != "~/relative/image")
U, V = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))


@contextmanager
def talking_to(
    node: HostedNode | NodeProcess, peer: Peer, *topics: str, image: type = Image, image_topic: str = "image"
) -> Iterator[tuple[Camera, list[Inbox]]]:
    """Be the node's camera, and listen to some of its outputs."""
    with ExitStack() as stack:
        inboxes = [stack.enter_context(peer.listen(OUTPUTS[name], node.topic(name))) for name in topics]
        yield stack.enter_context(node.camera(peer, image, image_topic)), inboxes


def plane(info: CameraInfo, normal: tuple[float, float, float], distance_m: float) -> NDArray[np.float32]:
    """Depth of the plane `normal . X = distance_m` at every pixel of a pinhole camera."""
    rays = np.stack([(U - info.k[2]) / info.k[0], (V - info.k[5]) / info.k[4], np.ones_like(U)], axis=-1)
    return np.asarray(distance_m / (rays @ np.array(normal)), np.float32)


# Topics, headers


def test_every_metric_output_carries_the_images_header_bit_for_bit(toy_process: NodeProcess, peer: Peer) -> None:
    with talking_to(toy_process, peer, *METRIC) as (camera, inboxes):
        image = image_message()
        camera.ask(image, inboxes[2], camera_info())
        image = image_message()
        image.header.stamp.nanosec = 999_999_999
        camera.ask(image, inboxes[2], camera_info())
        for inbox in inboxes:
            assert answer(inbox, image).header == image.header


def test_the_networks_depth_arrives_in_the_images_size_and_within_the_range(
    toy_process: NodeProcess, peer: Peer
) -> None:
    with talking_to(toy_process, peer, "~/depth/image") as (camera, [depths]):
        for height, width in ((48, 64), (97, 131)):
            pixels = cv2.resize(NOISE, (width, height))
            depth = depth_of(camera.ask(image_message(pixels), depths))
            assert depth.shape == (height, width)
            assert depth.min() >= 0
            assert depth.max() <= 20
            assert depth.std() > 0


def test_each_encoding_gives_the_depth_of_the_same_picture(toy_process: NodeProcess, peer: Peer) -> None:
    with talking_to(toy_process, peer, "~/depth/image") as (camera, [depths]):
        expected = depth_of(camera.ask(image_message(NOISE), depths))
        for pixels, encoding in (
            (NOISE[..., ::-1], "rgb8"),
            (np.dstack([NOISE, NOISE[..., 0]]), "bgra8"),
            (NOISE.astype(np.uint16) << 8, "bgr16"),
        ):
            np.testing.assert_array_equal(depth_of(camera.ask(image_message(pixels, encoding), depths)), expected)


def test_compressed_images_are_taken_from_their_own_topic(
    start_process: Callable[..., NodeProcess], peer: Peer, toy_process: NodeProcess
) -> None:
    node = start_process(image_transport="compressed")
    with talking_to(toy_process, peer, "~/depth/image") as (camera, [depths]):
        expected = depth_of(camera.ask(image_message(NOISE), depths))
    with talking_to(node, peer, "~/depth/image", image=CompressedImage, image_topic="image/compressed") as (
        camera,
        [depths],
    ):
        png = CompressedImage(header=new_header(), format="bgr8; png compressed bgr8")
        png.data.frombytes(cv2.imencode(".png", NOISE)[1].tobytes())
        np.testing.assert_array_equal(depth_of(camera.ask(png, depths)), expected)
        jpeg = CompressedImage(header=new_header(), format="jpeg")
        jpeg.data.frombytes(cv2.imencode(".jpg", NOISE)[1].tobytes())
        assert depth_of(camera.ask(jpeg, depths)).shape == NOISE.shape[:2]
        garbage = CompressedImage(header=new_header(), format="jpeg", data=b"garbage")
        camera.images.publish(garbage)
        node.wait_for("frame dropped: compressed image of format 'jpeg' and 7 bytes cannot be decoded")
        jpeg.header = new_header()
        camera.ask(jpeg, depths)


def test_a_relative_model_publishes_relative_depth_and_nothing_metric(host: Host, peer: Peer) -> None:
    backend = FakeBackend(depth_m=FAKE_MAX_DEPTH_M * (1 + U / WIDTH).astype(np.float32))

    def load(settings: ModelSettings) -> DepthEstimator:
        return fake_estimator(backend, settings, kind="relative")

    node = host(backend, load=load, dataset="relative")
    with talking_to(node, peer, *OUTPUTS) as (camera, inboxes):
        boxes = dict(zip(OUTPUTS, inboxes, strict=True))
        image = image_message()
        relative = camera.ask(image, boxes["~/relative/image"], camera_info())
        assert relative.header == image.header
        last = image_message()
        camera.ask(last, boxes["~/relative/image"])
        assert [name for name in METRIC if len(boxes[name])] == []


MAKERS = {
    "~/depth/image": "depth_pixels",
    "~/depth/image/compressedDepth": "depth_to_compressed",
    "~/depth/color": None,  # told by its encoding
    "~/depth/color/compressed": "bgr_to_compressed",
    "~/points": "CloudOutput.make",
}


@pytest.mark.parametrize("topic", MAKERS)
def test_what_nobody_listens_to_is_not_made(
    host: Host, peer: Peer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    encodings: set[str] = set()
    fill = SerialImage.fill

    def noted_fill(self: SerialImage, pixels: Any, header: Any, encoding: str) -> Any:
        encodings.add(encoding)
        return fill(self, pixels, header, encoding)

    monkeypatch.setattr(SerialImage, "fill", noted_fill)
    others = {MAKERS[other] for other in MAKERS.keys() - {topic}} | ({"colorize"} if "color" not in topic else set())
    for name in filter(None, others):
        monkeypatch.setattr(f"depth_anything_ros.node.outputs.{name}", lambda *_, name=name, **__: made.append(name))
    with talking_to(host(), peer, topic) as (camera, [inbox]):
        camera.ask(image_message(), inbox, camera_info())
    assert made == []
    assert ("bgr8" in encodings) == (topic == "~/depth/color")


# Depth


def test_depth_comes_in_metres_or_in_millimetres(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(depth_m=1.2344))
    with talking_to(node, peer, "~/depth/image") as (camera, [depths]):
        np.testing.assert_allclose(depth_of(camera.ask(image_message(), depths)), 1.2344, rtol=1e-5)
        assert node.set(peer, depth_encoding="16UC1")[0].successful
        msg = camera.ask(image_message(), depths)
        assert (msg.encoding, msg.step) == ("16UC1", 2 * WIDTH)
        np.testing.assert_array_equal(np.frombuffer(msg.data, np.uint16), 1234)


def test_depth_out_of_range_is_infinite_in_the_image_and_missing_in_the_cloud(host: Host, peer: Peer) -> None:
    ramp = np.linspace(0.5, 10, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    node = host(FakeBackend(depth_m=ramp), min_range_m=2.0, max_range_m=6.0)
    with talking_to(node, peer, "~/points", "~/depth/image") as (camera, [clouds, depths]):
        image = image_message()
        cloud = camera.ask(image, clouds, camera_info())
        depth = depth_of(answer(depths, image))
        near, far = ramp < 2.0, ramp > 6.0
        assert (depth[near] == -np.inf).all()
        assert (depth[far] == np.inf).all()
        np.testing.assert_allclose(depth[~near & ~far], ramp[~near & ~far], rtol=1e-5)
        points, _ = fields_of(cloud)
        assert not cloud.is_dense
        assert np.isnan(points[near | far]).all()
        assert np.isfinite(points[~near & ~far]).all()


def test_points_beyond_the_range_stay_at_it_where_a_costmap_is_to_be_cleared(host: Host, peer: Peer) -> None:
    ramp = np.linspace(0.5, 10, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)
    node = host(FakeBackend(depth_m=ramp), min_range_m=2.0, max_range_m=6.0, cloud_keeps_far=True)
    with talking_to(node, peer, "~/points", "~/depth/image") as (camera, [clouds, depths]):
        image = image_message()
        points, _ = fields_of(camera.ask(image, clouds, camera_info()))
        assert (depth_of(answer(depths, image))[ramp > 6.0] == np.inf).all()
    np.testing.assert_allclose(points[ramp > 6.0, 2], 6.0)
    np.testing.assert_allclose(points[(ramp > 2.0) & (ramp < 6.0), 2], ramp[(ramp > 2.0) & (ramp < 6.0)], rtol=1e-5)
    assert np.isnan(points[ramp < 2.0]).all()


def test_the_colour_picture_has_a_fixed_range(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(depth_m=4.0))
    with talking_to(node, peer, "~/depth/color") as (camera, [pictures]):
        for far_end in (FAKE_MAX_DEPTH_M, 10.0):
            assert node.set(peer, color_max_m=far_end)[0].successful
            msg = camera.ask(image_message(), pictures)
            expected = colorize(np.full((1, 1), 4.0), 0.0, far_end)[0, 0]
            pixels = np.frombuffer(msg.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
            np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(expected.astype(int), pixels.shape), atol=8)


# Camera info


@pytest.mark.parametrize(
    ("sent", "expected_size"),
    [
        (camera_info(), None),
        (camera_info(2 * WIDTH, 2 * HEIGHT, binning_x=2, binning_y=2), None),
        (camera_info(200, 150, roi=RegionOfInterest(x_offset=30, y_offset=40, width=WIDTH, height=HEIGHT)), None),
        (camera_info(4 * WIDTH, 4 * HEIGHT), (WIDTH, HEIGHT)),
    ],
    ids=["same size", "binning", "region of interest", "resized"],
)
def test_the_published_camera_info_describes_the_published_depth(
    host: Host, peer: Peer, sent: CameraInfo, expected_size: tuple[int, int] | None
) -> None:
    node = host()
    with talking_to(node, peer, "~/depth/camera_info", "~/points") as (camera, [infos, clouds]):
        image = image_message()
        info = camera.ask(image, infos, sent)
        assert info.header == image.header
        assert (info.width, info.height) == (expected_size or (sent.width, sent.height))
        points, _ = fields_of(answer(clouds, image))
        # What the published message says must put every point on its own pixel.
        pixels = points @ np.reshape(info.k, (3, 3)).T
        binning = (max(1, info.binning_x), max(1, info.binning_y))
        pixels = (pixels[..., :2] / pixels[..., 2:] - (info.roi.x_offset, info.roi.y_offset)) / binning
        np.testing.assert_allclose(pixels, np.dstack([U, V]), atol=1e-3)


# Clouds


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.5, -0.3, 0.8)], ids=["facing", "slanted"])
def test_a_plane_becomes_a_plane_with_each_pixels_colour(
    host: Host, peer: Peer, normal: tuple[float, float, float]
) -> None:
    info = camera_info()
    depth = plane(info, normal, 3.0)
    node = host(FakeBackend(depth_m=depth))
    with talking_to(node, peer, "~/points") as (camera, [clouds]):
        cloud = camera.ask(image_message(NOISE), clouds, info)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.is_dense) == (HEIGHT, WIDTH, 16, True)
    points, colors = fields_of(cloud)
    np.testing.assert_allclose(points @ np.array(normal, np.float32), 3.0, rtol=1e-4)
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-5)
    np.testing.assert_allclose(points[..., 0], depth * (U - info.k[2]) / info.k[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(colors, NOISE)


def test_cloud_stride_takes_every_nth_row_and_column(host: Host, peer: Peer) -> None:
    info = camera_info()
    depth = plane(info, (0.5, -0.3, 0.8), 3.0)
    node = host(FakeBackend(depth_m=depth), cloud_stride=3)
    with talking_to(node, peer, "~/points") as (camera, [clouds]):
        cloud = camera.ask(image_message(NOISE), clouds, info)
    assert (cloud.height, cloud.width, cloud.row_step) == (19, 28, 28 * 16)
    points, colors = fields_of(cloud)
    np.testing.assert_allclose(points[..., 2], depth[::3, ::3], rtol=1e-5)
    np.testing.assert_allclose(points[..., 0], (depth * (U - info.k[2]) / info.k[0])[::3, ::3], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(colors, NOISE[::3, ::3])


LENSES = {
    "plumb_bob": [-0.28, 0.09, 0.0008, -0.0006, -0.01],
    "rational_polynomial": [0.3, -0.1, 0.0005, 0.0003, 0.02, 0.62, -0.05, 0.01],
    "equidistant": [-0.02, 0.006, -0.003, 0.0005],
}


@pytest.mark.parametrize("model", LENSES)
def test_points_of_a_distorted_camera_project_back_on_their_pixels(host: Host, peer: Peer, model: str) -> None:
    info = camera_info(distortion_model=model, d=LENSES[model])
    node = host(FakeBackend(depth_m=3.0))
    with talking_to(node, peer, "~/points") as (camera, [clouds]):
        points, _ = fields_of(camera.ask(image_message(), clouds, info))
    known = np.isfinite(points).all(axis=-1)
    assert known.mean() > 0.95
    K, D, still = np.reshape(info.k, (3, 3)), np.array(info.d), np.zeros(3)
    objects = points[known].astype(np.float64).reshape(-1, 1, 3)
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    arguments = (objects, still, still, K, D)
    pixels = project(*arguments)[0].reshape(-1, 2)
    assert np.abs(pixels - np.dstack([U, V])[known]).max() < 0.1
    np.testing.assert_allclose(points[known][:, 2], 3.0, rtol=1e-5)


def test_rectified_images_are_back_projected_with_p(host: Host, peer: Peer) -> None:
    p = [70.0, 0.0, 40.0, 0.0, 0.0, 72.0, 30.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info = camera_info(d=LENSES["plumb_bob"], p=p)
    node = host(FakeBackend(depth_m=3.0), rectified=True)
    with talking_to(node, peer, "~/points") as (camera, [clouds]):
        points, _ = fields_of(camera.ask(image_message(), clouds, info))
    np.testing.assert_allclose(points[..., 0], 3.0 * (U - 40) / 70, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(points[..., 1], 3.0 * (V - 30) / 72, rtol=1e-4, atol=1e-5)


def test_clouds_come_at_most_at_their_own_rate_while_depth_comes_always(host: Host, peer: Peer) -> None:
    node = host(cloud_rate_hz=0.01)
    with talking_to(node, peer, "~/points", "~/depth/image") as (camera, [clouds, depths]):
        image = image_message()
        camera.ask(image, clouds, camera_info())
        for _ in range(5):
            camera.ask(image_message(), depths)
        assert len(clouds) == 1
        assert node.set(peer, cloud_rate_hz=0.0)[0].successful
        for _ in range(3):
            camera.ask(image_message(), clouds)


# Cameras that do not fit


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (None, "waiting for CameraInfo on {namespace}/camera_info: clouds need it"),
        (camera_info(k=[0.0] * 9), "the camera is uncalibrated: K[0] of its CameraInfo is 0"),
        (camera_info(k=[float("nan")] * 9), "camera intrinsics must be finite numbers"),
        (camera_info(99, 99), "the image is 84x56, but its CameraInfo describes 99x99"),
        (camera_info(header=new_header("elsewhere")), "the image's frame is 'camera_optical_frame', but CameraInfo"),
    ],
    ids=["none", "uncalibrated", "not a number", "another size", "another frame"],
)
def test_without_a_usable_camera_there_is_depth_but_no_cloud_and_one_warning(
    host: Host, peer: Peer, info: CameraInfo | None, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host()
    with talking_to(node, peer, "~/depth/image", "~/points", "~/depth/camera_info") as (camera, inboxes):
        depths, clouds, infos = inboxes
        for _ in range(5):
            camera.ask(image_message(), depths, info)
        assert [len(clouds), len(infos)] == [0, 0]
        assert capfd.readouterr().err.count(said.format(namespace=node.namespace)) == 1
        camera.ask(image_message(), clouds, camera_info())


# Quality of service


def test_input_is_best_effort_and_latest_only_output_is_reliable(toy_process: NodeProcess, peer: Peer) -> None:
    node = peer.node
    for topic in ("image", "camera_info"):
        find = partial(node.get_subscriptions_info_by_topic, toy_process.topic(topic))
        endpoints = eventually(find, f"the node on {topic}")
        policies = {(endpoint.qos_profile.reliability, endpoint.qos_profile.durability) for endpoint in endpoints}
        latched = {(ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)} if topic == "camera_info" else set()
        assert policies == {(ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE), *latched}
    for topic in OUTPUTS:
        find = partial(node.get_publishers_info_by_topic, toy_process.topic(topic))
        [endpoint] = eventually(find, f"the node on {topic}")
        assert endpoint.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert endpoint.qos_profile.durability == DurabilityPolicy.VOLATILE


def test_queue_depths_are_parameters_for_everybody_to_see(toy_process: NodeProcess, peer: Peer) -> None:
    topic = toy_process.topic
    names = [
        f"qos_overrides.{topic('image')}.subscription.depth",
        f"qos_overrides.{topic('~/depth/image')}.publisher.depth",
    ]
    eventually(lambda: toy_process.state(peer) == "active", "an active node")
    assert toy_process.get(peer, *names) == [1, 2]


def test_qos_overrides_are_honoured(start_process: Callable[..., NodeProcess], peer: Peer) -> None:
    namespace = unique("overridden")
    image, depth = f"{namespace}/image", f"{namespace}/depth_anything/depth/image"
    overrides = {
        f"qos_overrides.{image}.subscription.reliability": "reliable",
        f"qos_overrides.{depth}.publisher.reliability": "best_effort",
    }
    start_process(namespace, **overrides)
    [listening] = eventually(lambda: peer.node.get_subscriptions_info_by_topic(image), "the image subscription", 60)
    [publishing] = eventually(lambda: peer.node.get_publishers_info_by_topic(depth), "the depth publisher")
    assert listening.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    assert publishing.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
