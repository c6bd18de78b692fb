"""The whole chain against the truth: rendered pictures in, the node's depth and clouds out, over real ROS 2."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Inbox, NodeProcess, Peer, depth_of, eventually, new_header, unique
from numpy.typing import NDArray
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from depth_anything_ros.metrics import evaluate_depth, mean_metrics
from depth_anything_ros.node.conversions import bgr_to_image, camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame

pytestmark = pytest.mark.slow

MODEL: dict[str, Any] = {
    "encoder": "vitt",
    "dataset": "synthetic",
    "checkpoint": '""',
    "input_size": 518,
    "download": False,
}
FRAMES = 8
# Of a wall's distance: the points' from their plane, and on average the plane's own. A single scale is off by more.
WALL_TOLERANCE, SINGLE_WALL_TOLERANCE = 0.05, 0.10
MIN_WALL_SHARE = 0.15


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("true_depth") / "log.txt", unique("true_depth"), **MODEL) as process:
        process.wait_for("running vitt_synthetic_518")
        yield process


def test_the_log_says_what_the_model_is_for_and_how_to_get_another(node: NodeProcess) -> None:
    (line,) = node.lines("not for robots")
    assert "[WARN]" in line
    assert "`depth_anything download vits hypersim`" in line


def points_of(cloud: PointCloud2) -> NDArray[np.float32]:
    """(H, W, 3), metres."""
    assert [field.name for field in cloud.fields[:3]] == ["x", "y", "z"]
    raw = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, cloud.point_step)
    return np.ascontiguousarray(raw[..., :12]).view(np.float32)


class Together(Inbox):
    """What arrived on several topics with one stamp: the node may hear of its listeners one by one."""

    def __init__(self, *inboxes: Inbox) -> None:
        super().__init__()
        self._inboxes = inboxes

    def with_stamp(self, stamp: Time) -> tuple[Any, ...] | None:
        """Return the messages of this stamp, one of each topic, or None while one is missing."""
        found = tuple(inbox.with_stamp(stamp) for inbox in self._inboxes)
        return found if all(found) else None


Answers = Callable[[SyntheticCamera, SyntheticFrame], tuple[NDArray[np.float32], NDArray[np.float32]]]


@pytest.fixture
def ask(node: NodeProcess, peer: Peer) -> Iterator[Answers]:
    """A function that shows the node a picture and returns the depth (H, W) and points (H, W, 3) it makes of it.

    The node has answered a small picture on both topics before: repeating a large one until a cloud of it
    comes would push clouds out of the queue while they are on their way.
    """
    with (
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        peer.listen(PointCloud2, node.topic("~/points")) as clouds,
        node.camera(peer) as driver,
    ):

        def messages(camera: SyntheticCamera, frame: SyntheticFrame) -> tuple[Image, CameraInfo]:
            header = new_header(unique("camera"))
            return bgr_to_image(frame.image_bgr, header), camera_to_info(camera.model, header)

        def answers(camera: SyntheticCamera, frame: SyntheticFrame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            image, info = messages(camera, frame)
            depth = driver.ask(image, depths, info)
            cloud = eventually(lambda: clouds.with_stamp(image.header.stamp), "its cloud")
            return depth_of(depth), points_of(cloud)

        small = SyntheticCamera(0, width=64, height=48)
        image, info = messages(small, small.frame())
        driver.ask(image, Together(depths, clouds), info)
        yield answers


def walls_of(camera: SyntheticCamera, frame: SyntheticFrame) -> list[NDArray[np.bool_]]:
    """Masks (H, W) of the walls that fill enough of a picture, by where their true points lie."""
    points = camera.model.back_project(frame.depth) @ frame.rotation.T + frame.position
    planes = [(axis, at) for axis in (0, 1) for at in (0.0, camera.scene.size[axis])]
    masks = [np.isclose(points[..., axis], at, atol=2e-3) for axis, at in planes]
    return [mask for mask in masks if mask.mean() > MIN_WALL_SHARE]


def fit_plane(points: NDArray[np.float32]) -> tuple[float, float]:
    """Distance of the least-squares plane through (N, 3) from the origin, and the points' RMS distance from it."""
    middle = points.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(points.astype(np.float64) - middle, full_matrices=False)
    return float(abs(middle @ axes[2])), float(singular[2] / np.sqrt(len(points)))


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_depth_and_cloud_are_true(ask: Answers, distortion: str) -> None:
    scores, walls_off = [], []
    for seed in range(FRAMES):
        camera = SyntheticCamera(seed, distortion=distortion)
        frame = camera.frame()
        depth, points = ask(camera, frame)
        scores.append(evaluate_depth(depth, frame.depth))
        # The cloud is the depth along the true rays of this camera, lens and all.
        np.testing.assert_allclose(points, camera.model.back_project(depth), rtol=1e-4, atol=1e-5)
        for wall in walls_of(camera, frame):
            distance_m, _ = fit_plane(camera.model.back_project(frame.depth)[wall])
            fitted_m, rms_m = fit_plane(points[wall])
            walls_off.append(abs(fitted_m - distance_m) / distance_m)
            assert rms_m < WALL_TOLERANCE * distance_m, f"seed {seed}"
    assert len(walls_off) >= FRAMES // 2
    assert np.mean(walls_off) <= WALL_TOLERANCE
    assert max(walls_off) <= SINGLE_WALL_TOLERANCE
    mean = mean_metrics(scores)
    assert mean.abs_rel <= 0.10
    assert mean.delta1 >= 0.90


@pytest.fixture
def camera_process(node: NodeProcess, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Start the synthetic camera beside the node."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(seed: int) -> None:
        command = [sys.executable, "-m", "depth_anything_ros.node.synthetic_camera", "--ros-args"]
        command += ["-r", f"__ns:={node.namespace}", "-p", f"seed:={seed}", "-p", "rate_hz:=4.0"]
        command += ["-p", "width:=320", "-p", "height:=240"]  # a quarter of the rendering: two cores serve all
        with (tmp_path / "camera.txt").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    yield start
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, (tmp_path / "camera.txt").read_text()


def test_the_synthetic_camera_and_the_node_understand_each_other(
    node: NodeProcess, peer: Peer, camera_process: Callable[[int], None]
) -> None:
    sensor: Any = qos_profile_sensor_data
    with (
        peer.listen(Image, node.topic("depth/ground_truth"), sensor) as truths,
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        peer.listen(CameraInfo, node.topic("~/depth/camera_info")) as infos,
        peer.listen(PointCloud2, node.topic("~/points")) as clouds,
    ):
        camera_process(3)

        def complete() -> list[tuple[Any, ...]]:
            stamps = [truth.header.stamp for truth in list(truths.messages)]
            whole = Together(truths, depths, infos, clouds)
            return [parts for parts in map(whole.with_stamp, stamps) if parts is not None]

        # Looking for whole frames takes time, so not before there can be enough.
        eventually(lambda: len(clouds) >= FRAMES, f"{FRAMES} clouds", 60)
        eventually(lambda: len(complete()) >= FRAMES, f"{FRAMES} whole frames", 60)
        for truth, depth, info, cloud in complete():
            frames = {part.header.frame_id for part in (truth, depth, info, cloud)}
            assert frames == {"synthetic_camera_optical_frame"}
        scores = [evaluate_depth(depth_of(depth), depth_of(truth)) for truth, depth, *_ in complete()]
    assert mean_metrics(scores).abs_rel <= 0.12
