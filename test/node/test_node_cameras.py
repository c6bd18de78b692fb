"""Several cameras and one model: fair turns, topics, parameters and diagnostics of each, batches on a GPU."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from harness import (
    FAKE_MAX_DEPTH_M,
    HEIGHT,
    NOISE,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    answer,
    camera_info,
    depth_of,
    eventually,
    fake_estimator,
    fields_of,
    image_message,
    nanoseconds,
    new_header,
)
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterType
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from depth_anything_ros.estimator import DepthEstimator, DepthTensors
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.preprocess import MEAN, STD
from depth_anything_ros.node import diagnostics
from depth_anything_ros.node.health import FrameCounts
from depth_anything_ros.node.parameter_table import values_of
from depth_anything_ros.node.parameters import CAMERA_PARAMETERS
from depth_anything_ros.settings import CameraSettings, ModelSettings

Host = Callable[..., HostedNode]
NAMES = ("front", "left", "rear")
OK, WARN, ERROR = 0, 1, 2


def grey(level: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Return a picture of one grey."""
    return np.full((height, width, 3), level, np.uint8)


def counts_of(node: HostedNode) -> dict[str, FrameCounts]:
    """What became of each camera's frames, as it is at any moment."""
    return {camera.name: camera.health.counts for camera in node.node._cameras}


@contextmanager
def cameras(node: HostedNode, peer: Peer, *names: str, kind: type = Image, topic: str = "depth/image") -> Iterator[Any]:
    """Be cameras of the node, and listen to one output of each: [(camera, inbox)]."""
    with ExitStack() as stack:
        yield [
            (
                stack.enter_context(node.camera(peer, name=name)),
                stack.enter_context(peer.listen(kind, node.topic(f"~/{name}/{topic}"))),
            )
            for name in names
        ]


# Shares of one model


class Turns(FakeBackend):
    """Tells cameras apart by their grey, 50 times the depth in metres, and notes whose frames were inferred.

    An inference lasts until a further frame has come from every camera that is `alive`: all have one waiting then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.alive: set[str] = set()
        self.received: Callable[[str], int] = lambda name: 0

    def __call__(self, x: torch.Tensor) -> Outputs:
        level = 255 * (float(x[:, 0].mean()) * STD[0] + MEAN[0])
        self.depth_m = round(level / 50)
        before = {name: self.received(name) for name in NAMES}
        eventually(lambda: all(self.received(name) > before[name] for name in tuple(self.alive)), "a frame of each")
        self.order.append(NAMES[self.depth_m - 1])
        return super().__call__(x)

    def let_go(self) -> None:
        """Wait for nobody any more."""
        self.alive = set()

    def shares(self, count: int) -> Counter[str]:
        """Wait for so many inferences from now on, and return how many each camera had."""
        start = len(self.order)
        eventually(lambda: len(self.order) >= start + count, f"{count} inferences")
        return Counter(self.order[start : start + count])


PUBLISHER = """
import sys, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
topic, level, rate_hz = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
image = Image(height=56, width=84, step=252, encoding="bgr8", data=bytes([level]) * (56 * 252))
image.header.frame_id = sys.argv[4]
while True:
    publisher.publish(image)
    time.sleep(1 / rate_hz)
"""
RATES_HZ = {"front": 100, "left": 20, "rear": 50}


@contextmanager
def camera_process(node: HostedNode, name: str) -> Iterator[None]:
    """Publish a camera's images at its rate, from a process of its own."""
    level = 50 * (NAMES.index(name) + 1)
    arguments = [node.topic(f"{name}/image"), str(level), str(RATES_HZ[name]), name]
    process = subprocess.Popen([sys.executable, "-c", PUBLISHER, *arguments])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_cameras_at_different_rates_have_equal_shares_of_one_model_and_a_dead_one_has_none(
    host: Host, peer: Peer
) -> None:
    loads: list[ModelSettings] = []
    backend = Turns()

    def load(settings: ModelSettings) -> DepthEstimator:
        loads.append(settings)
        return fake_estimator(backend, settings)

    node = host(backend, load=load, cameras=list(NAMES))
    counts = counts_of(node)
    backend.received = lambda name: counts[name].received
    with ExitStack() as stack:
        boxes = {name: stack.enter_context(peer.listen(Image, node.topic(f"~/{name}/depth/image"))) for name in NAMES}
        stack.callback(backend.let_go)
        for name in ("front", "rear"):
            stack.enter_context(camera_process(node, name))
        with camera_process(node, "left"):
            eventually(lambda: set(NAMES) <= set(backend.order), "frames of all cameras")
            backend.alive = set(NAMES)
            backend.shares(3)  # until the first that was inferred while the others waited
            assert all(9 <= share <= 11 for share in backend.shares(30).values())
            assert counts["front"].dropped > counts["left"].dropped  # it sends five times as often
            backend.alive = {"front", "rear"}
        backend.shares(3)  # its last frame may be waiting
        assert backend.shares(20) in ({"front": 10, "rear": 10}, {"front": 9, "rear": 11}, {"front": 11, "rear": 9})
        with camera_process(node, "left"):
            eventually(lambda: "left" in backend.order[-3:], "the camera that came back")
            backend.alive = set(NAMES)
            backend.shares(3)
            assert all(9 <= share <= 11 for share in backend.shares(30).values())
            backend.let_go()
        for name, inbox in boxes.items():
            assert {msg.header.frame_id for msg in inbox.messages} == {name}
            assert {float(depth_of(msg).max()) for msg in inbox.messages} == {NAMES.index(name) + 1.0}
    assert len(loads) == 1


def test_each_camera_has_its_newest_frame_or_all_of_its_own(host: Host, peer: Peer) -> None:
    node = host(cameras=list(NAMES), **{"rear.process_every_frame": True, "rear.queue_size": 3})
    counts, backend = counts_of(node), node.backend
    with cameras(node, peer, *NAMES) as talks:
        for camera, depths in talks:
            camera.ask(image_message(), depths)
        eventually(lambda: all(in_hand(count) == 0 for count in counts.values()), "no frame in hand")
        answered = [len(depths) for _, depths in talks]
        backend.hold.clear()
        calls = backend.calls
        sent = [[image_message() for _ in range(5)] for _ in NAMES]
        for (camera, _), name, images in zip(talks, NAMES, sent, strict=True):
            for image in images:
                received = counts[name].received
                camera.images.publish(image)
                eventually(lambda: counts[name].received > received, "a frame taken in")  # noqa: B023
                eventually(lambda: backend.calls > calls, "an inference under way")
        backend.hold.set()
        eventually(lambda: all(in_hand(count) == 0 for count in counts.values()), "no frame in hand")
        wanted = [[0, 4], [4], [2, 3, 4]]  # the first one was being worked on when the others came
        for (_, depths), images, places, start in zip(talks, sent, wanted, answered, strict=True):
            stamps = [nanoseconds(images[place].header.stamp) for place in places]
            eventually(lambda: len(depths) >= start + len(stamps), "the answers")  # noqa: B023
            assert depths.stamps()[start:] == stamps


def in_hand(counts: FrameCounts) -> int:
    """How many frames wait or are being worked on."""
    return counts.received - counts.processed - counts.dropped - counts.ignored - counts.failed


# Topics


def test_each_camera_has_its_own_topics_and_values(host: Host, peer: Peer) -> None:
    node = host(
        FakeBackend(4.0),
        cameras=list(NAMES),
        cloud_stride=2,
        **{"front.cloud_stride": 3, "left.image_transport": "compressed", "rear.max_depth": 10.0},
    )
    expected = {"front": (4.0, 3), "left": (4.0, 2), "rear": (4.0 * 10 / FAKE_MAX_DEPTH_M, 2)}
    with ExitStack() as stack:
        boxes: dict[str, list[Inbox]] = {}
        images: dict[str, Any] = {}
        for name in NAMES:
            outputs = {"depth/image": Image, "depth/camera_info": CameraInfo, "points": PointCloud2}
            boxes[name] = [
                stack.enter_context(peer.listen(kind, node.topic(f"~/{name}/{topic}")))
                for topic, kind in outputs.items()
            ]
            image = images[name] = compressed(NOISE) if name == "left" else image_message()
            image.header.frame_id = f"{name}_optical_frame"
            camera = stack.enter_context(
                node.camera(peer, CompressedImage, "image/compressed", name)
                if name == "left"
                else node.camera(peer, name=name)
            )
            camera.ask(image, boxes[name][2], camera_info(header=image.header))
        for name, (depth_m, stride) in expected.items():
            depths, infos, clouds = boxes[name]
            for inbox in boxes[name]:
                assert answer(inbox, images[name]).header == images[name].header
                assert {msg.header.frame_id for msg in inbox.messages} == {f"{name}_optical_frame"}
            np.testing.assert_allclose(depth_of(depths.messages[0]), depth_m, rtol=1e-5)
            assert (infos.messages[0].width, infos.messages[0].height) == (WIDTH, HEIGHT)
            points, colors = fields_of(clouds.messages[0])
            np.testing.assert_allclose(points[..., 2], depth_m, rtol=1e-5)
            np.testing.assert_array_equal(colors, NOISE[::stride, ::stride])
        names = {name for name, _ in node.node.get_topic_names_and_types()}
        assert node.topic("image") not in names
        assert node.topic("~/depth/image") not in names


def compressed(pixels: NDArray[np.uint8]) -> CompressedImage:
    """Return a picture as a PNG that says nothing of its size."""
    msg = CompressedImage(header=new_header(), format="bgr8; png compressed bgr8")
    msg.data.frombytes(cv2.imencode(".png", pixels)[1].tobytes())
    return msg


# Parameters


def test_a_cameras_parameters_are_described_like_the_common_ones_and_not_set(host: Host, peer: Peer) -> None:
    node = host(cameras=["front", "rear"])
    for name in CAMERA_PARAMETERS:
        common, *own = node.describe(peer, name, f"front.{name}", f"rear.{name}")
        for descriptor in own:
            assert descriptor.description == common.description != ""
            assert descriptor.read_only == common.read_only
            assert descriptor.integer_range == common.integer_range
            assert descriptor.floating_point_range == common.floating_point_range
            assert descriptor.additional_constraints == common.additional_constraints
            assert descriptor.type in (ParameterType.PARAMETER_NOT_SET, common.type)
        assert not values_of(node.node, [f"front.{name}", f"rear.{name}"])


def test_a_cameras_own_value_holds_for_it_alone_while_running(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(4.0), cameras=["front", "rear"])

    def widths() -> list[int]:
        return [camera.ask(image_message(), clouds, camera_info()).width for camera, clouds in talks]

    with cameras(node, peer, "front", "rear", kind=PointCloud2, topic="points") as talks:
        assert widths() == [84, 84]
        assert node.set(peer, **{"front.cloud_stride": 2})[0].successful
        assert widths() == [42, 84]
        assert node.set(peer, cloud_stride=3)[0].successful  # the common value, for those without their own
        assert widths() == [42, 28]
        assert node.get(peer, "cloud_stride", "front.cloud_stride") == [3, 2]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("front.cloud_stride", 99, ["front.cloud_stride", "99", "1", "64"]),
        ("front.depth_encoding", "64FC1", ["front.depth_encoding", "64FC1", "32FC1, 16UC1"]),
        ("front.max_depth", "deep", ["front.max_depth", "deep", "float"]),
        ("front.min_range_m", 5.0, ["front.min_range_m is 5.0", "less than front.max_range_m, 4.0"]),
        ("max_range_m", 0.5, ["front.min_range_m is 1.0", "less than front.max_range_m, 0.5"]),
        ("front.alignment", "range", ["front.alignment is 'range'", "front.range_type"]),
        ("front.image_transport", "compressed", ["read-only", "front.image_transport"]),
        ("front.cameras", "x", ["undeclared"]),
        ("middle.cloud_stride", 2, ["undeclared"]),
        ("cameras", ["front"], ["read-only", "cameras"]),
    ],
)
def test_a_bad_value_of_a_camera_is_refused_and_changes_nothing(
    two_cameras: HostedNode, peer: Peer, name: str, value: Any, said: list[str]
) -> None:
    names = ["cameras", *CAMERA_PARAMETERS, *(f"front.{parameter}" for parameter in CAMERA_PARAMETERS)]
    before = values_of(two_cameras.node, names), settings_of(two_cameras)
    [result] = two_cameras.set(peer, **{name: value})
    assert not result.successful
    for part in said:
        assert part in result.reason
    assert (values_of(two_cameras.node, names), settings_of(two_cameras)) == before


def settings_of(node: HostedNode) -> dict[str, CameraSettings]:
    """What each camera works with."""
    return {camera.name: camera.settings for camera in node.node._cameras}


@pytest.fixture(scope="module")
def two_cameras(peer: Peer) -> Iterator[HostedNode]:
    """A node with the cameras front and rear; leave it as it is."""
    parameters: dict[str, Any] = {"cameras": ["front", "rear"], "max_range_m": 4.0, "front.min_range_m": 1.0}
    with HostedNode(peer.context, FakeBackend(), **parameters) as node:
        yield node


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (["cameras:=[front, 2nd]"], "a camera cannot be named '2nd': use letters, digits and underscores"),
        (["cameras:=[front, rear]", "rear.cloud_stride:=99"], "rear.cloud_stride"),
    ],
)
def test_a_bad_camera_at_the_start_ends_the_node_with_one_line(parameters: list[str], said: str) -> None:
    given = [part for parameter in parameters for part in ("-p", parameter)]
    command = [sys.executable, "-m", "depth_anything_ros.node", "--ros-args", *given]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("depth_anything: ")
    assert said in line


# Batches


class FakeGpu(DepthEstimator):
    """Looks like an estimator on a GPU: depth is a hundredth of the picture's grey, times `max_depth` over its own.

    Attributes:
        batches: greys of the pictures that were estimated together.
        warmed: (height, width, batch) of every warm-up.
        hold: while cleared, inference does not end.
    """

    def __init__(self) -> None:
        backend = FakeBackend()
        super().__init__(backend, key="toy_hypersim_56", kind="metric", max_depth=FAKE_MAX_DEPTH_M, input_size=56)
        self.hold = backend.hold
        self.batches: list[list[int]] = []
        self.warmed: list[tuple[int, int, int]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cuda:0")

    def warm_up(self, height: int, width: int, batch: int = 1) -> None:
        self.warmed.append((height, width, batch))

    def predict(self, images_bgr: Sequence[NDArray[np.uint8]]) -> DepthTensors:
        assert len({image.shape for image in images_bgr}) == 1
        self.batches.append([int(image[0, 0, 0]) for image in images_bgr])
        assert self.hold.wait(20)
        depth = [torch.from_numpy(image[..., 0] / np.float32(100 * self.max_depth)) for image in images_bgr]
        return DepthTensors(torch.stack(depth))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A GPU that nobody asks for its name."""
    monkeypatch.setattr(diagnostics, "hardware_name", lambda device: f"fake {device}")
    monkeypatch.setattr(diagnostics, "device_bytes", lambda device: 0)
    return FakeGpu()


def test_on_a_gpu_equal_frames_of_several_cameras_go_together_and_the_others_alone(
    host: Host, peer: Peer, gpu: FakeGpu
) -> None:
    names = ("a", "b", "c", "d", "e")
    node = host(
        load=lambda settings: gpu, cameras=list(names), **{"c.max_depth": 10.0, "e.image_transport": "compressed"}
    )
    counts = counts_of(node)
    greys = {"a": 100, "b": 110, "c": 120, "d": 130, "e": 140}
    images: dict[str, Any] = {name: image_message(grey(level)) for name, level in greys.items()}
    images["d"] = image_message(grey(130, HEIGHT // 2))
    images["e"] = compressed(grey(140))
    with ExitStack() as stack:
        talks = {}
        for name in names:
            kind, topic = (CompressedImage, "image/compressed") if name == "e" else (Image, "image")
            camera = stack.enter_context(node.camera(peer, kind, topic, name))
            talks[name] = camera, stack.enter_context(peer.listen(Image, node.topic(f"~/{name}/depth/image")))
        stack.callback(gpu.hold.set)
        for name, (camera, depths) in talks.items():
            camera.ask(images[name], depths)
            images[name].header = new_header()
        eventually(lambda: all(in_hand(count) == 0 for count in counts.values()), "no frame in hand")
        gpu.batches.clear()
        gpu.hold.clear()
        send(talks["a"][0], images["a"], counts["a"])
        eventually(lambda: gpu.batches, "an inference under way")
        again = {name: images[name] for name in ("e", "d", "c", "b")}
        again["a"] = image_message(grey(100))
        for name, image in again.items():
            send(talks[name][0], image, counts[name])
        gpu.hold.set()
        for name, image in again.items():
            depth = depth_of(answer(talks[name][1], image))
            np.testing.assert_allclose(depth, greys[name] / 100 * (0.5 if name == "c" else 1.0), rtol=1e-5)
    # b's turn was longest ago, then c's; d has another size, and e does not say which.
    assert gpu.batches == [[100], [110, 120, 100], [130], [140]]


def test_an_unreadable_frame_in_a_batch_costs_its_own_camera_only(
    host: Host, peer: Peer, gpu: FakeGpu, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host(load=lambda settings: gpu, cameras=list(NAMES))
    counts = counts_of(node)
    with cameras(node, peer, *NAMES) as talks, node.diagnostics(peer, "left") as left, ExitStack() as stack:
        stack.callback(gpu.hold.set)
        for camera, depths in talks:
            camera.ask(image_message(), depths, camera_info())
        eventually(lambda: all(in_hand(count) == 0 for count in counts.values()), "no frame in hand")
        gpu.batches.clear()
        gpu.hold.clear()
        send(talks[0][0], image_message(), counts["front"])
        eventually(lambda: gpu.batches, "an inference under way")
        images = [image_message() for _ in NAMES]
        images[1].encoding = "mono12"
        for (camera, _), image, name in zip(talks, images, NAMES, strict=True):
            send(camera, image, counts[name])
        gpu.hold.set()
        answer(talks[0][1], images[0])
        answer(talks[2][1], images[2])
        assert [len(batch) for batch in gpu.batches] == [1, 2]
        assert [counts[name].failed for name in NAMES] == [0, 1, 0]
        level, message, values = left()
        assert (level, values["frames_failed"]) == (WARN, "1")
        assert message.startswith("frame dropped: unknown image encoding 'mono12'")
        camera, depths = talks[1]
        camera.ask(image_message(), depths, camera_info())
    assert capfd.readouterr().err.count("unknown image encoding 'mono12'") == 1


def test_on_a_gpu_every_batch_that_can_come_is_warmed_up(host: Host, gpu: FakeGpu) -> None:
    sizes = {"warm_up_width": 64, "warm_up_height": 48, "rear.warm_up_width": 32, "rear.warm_up_height": 24}
    host(load=lambda settings: gpu, cameras=list(NAMES), **sizes)
    assert gpu.warmed == [(*size, batch) for size in ((48, 64), (24, 32)) for batch in (1, 2, 3)]


def send(camera: Camera, image: Any, counts: FrameCounts) -> None:
    """Publish an image, and return when the node has taken it in."""
    received = counts.received
    camera.images.publish(image)
    eventually(lambda: counts.received > received, "a frame taken in")


# Diagnostics


def test_every_camera_has_a_status_of_its_own_with_the_one_model(host: Host, peer: Peer) -> None:
    node = host(cameras=list(NAMES), **{"rear.stale_after_s": 0.1, "stale_after_s": 60.0})
    with cameras(node, peer, *NAMES) as talks, peer.listen(DiagnosticArray, "/diagnostics") as inbox:
        for camera, depths in talks[:2]:
            camera.ask(image_message(), depths, camera_info())
        bad = image_message()
        bad.step = 1
        send(talks[1][0], bad, counts_of(node)["left"])
        eventually(lambda: counts_of(node)["left"].failed, "a failed frame")

        def report() -> dict[str, Any]:
            arrays = [list(array.status) for array in list(inbox.messages)]
            own = [array for array in arrays if array and array[0].name.startswith(node.name)]
            return {status.name: status for status in own[-1]} if own else {}

        inbox.messages.clear()
        statuses = eventually(report, "diagnostics")
    assert list(statuses) == [f"{node.name}: {name}" for name in NAMES]
    front, left, rear = statuses.values()
    assert [status.level[0] for status in (front, left, rear)] == [OK, WARN, WARN]
    assert front.message == "active"
    assert left.message.startswith("frame dropped: step of a 84 pixels wide bgr8 image is 1")
    assert rear.message.startswith(f"no image on {node.topic('rear/image')} for ")
    values = [{value.key: value.value for value in status.values} for status in (front, left, rear)]
    assert {value["model"] for value in values} == {"vits_hypersim_518"}
    assert [value["frames_failed"] for value in values] == ["0", "1", "0"]
    assert values[2]["frames_received"] == "0"
    assert all(status.hardware_id for status in statuses.values())
