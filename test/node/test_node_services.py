"""Services of the node: switch it off and on, write a snapshot, load the model anew."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import stand_in
import yaml
from harness import (
    HEIGHT,
    NOISE,
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
    fake_estimator,
    image_message,
)
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.snapshots import Snapshot, write_snapshot
from depth_anything_ros.settings import ModelSettings

Host = Callable[..., HostedNode]
Start = Callable[..., NodeProcess]
RAMP = np.linspace(0.5, 9.0, WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH)


@contextmanager
def cameras(node: HostedNode | NodeProcess, peer: Peer, *names: str) -> Iterator[list[tuple[Camera, Inbox]]]:
    """Be cameras of the node, and listen to the depth of each."""
    with ExitStack() as stack:
        yield [
            (
                stack.enter_context(node.camera(peer, name=name)),
                stack.enter_context(peer.listen(Image, node.topic(f"~/{name}/depth/image".replace("//", "/")))),
            )
            for name in names
        ]


# Enable


def test_a_disabled_node_infers_nothing_and_goes_on_when_enabled(host: Host, peer: Peer) -> None:
    node = host()
    with cameras(node, peer, "") as [(camera, depths)], node.diagnostics(peer) as report:
        camera.ask(image_message(), depths, camera_info())
        assert node.enable(peer, False) == (True, "disabled")
        calls, ignored = node.backend.calls, node.node.counts.ignored
        for count in range(1, 4):
            camera.images.publish(image_message())
            eventually(lambda: node.node.counts.ignored >= ignored + count, "an ignored frame")  # noqa: B023
        assert node.backend.calls == calls
        assert (report()[1], node.state(peer)) == ("disabled", "active")
        assert node.enable(peer, True) == (True, "enabled")
        camera.ask(image_message(), depths, camera_info())
        assert report()[1] == "active"


# Snapshot


def read_cloud(path: Path) -> Any:
    """Read a binary PLY whose properties are x, y, z, red, green, blue."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[1] == "format binary_little_endian 1.0"
    names = [line.split()[-1] for line in lines if line.startswith("property")]
    assert names == ["x", "y", "z", "red", "green", "blue"]
    points = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    assert f"element vertex {len(points)}" in lines
    return points


def read_png(path: Path) -> NDArray[Any]:
    """Read a PNG as it was stored."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def test_a_snapshot_is_the_latest_frame_of_every_camera_as_files(host: Host, peer: Peer, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    node = host(FakeBackend(RAMP), cameras=["front", "rear"], snapshot_folder=str(folder), min_range_m=1.0)
    front, rear = image_message(), image_message(NOISE[::-1])
    front.header.stamp.sec, front.header.stamp.nanosec = 17, 5
    info = camera_info(d=[0.1, 0.0, 0.0, 0.0, 0.0])
    with cameras(node, peer, "front", "rear") as [(front_camera, fronts), (rear_camera, rears)]:
        front_camera.ask(front, fronts, info)
        rear_camera.ask(rear, rears)  # a camera without CameraInfo
        eventually(lambda: node.trigger(peer, "snapshot")[1].count("rear_"), "the rear camera's frame")
        success, message = node.trigger(peer, "snapshot")
    assert success
    stamp = f"{rear.header.stamp.sec}_{rear.header.stamp.nanosec:09d}"
    places = [folder / "front_17_000000005", folder / f"rear_{stamp}"]
    assert message == ", ".join(map(str, places))
    assert sorted(folder.iterdir()) == places
    assert [sorted(path.name for path in place.iterdir()) for place in places] == [
        ["camera.yaml", "depth.png", "image.png", "points.ply"],
        ["depth.png", "image.png"],
    ]
    for place, pixels in zip(places, (NOISE, NOISE[::-1]), strict=True):
        np.testing.assert_array_equal(read_png(place / "image.png"), pixels)
        millimetres = read_png(place / "depth.png")
        assert millimetres.dtype == np.uint16
        near = RAMP < 1.0
        np.testing.assert_allclose(millimetres[~near], 1000 * RAMP[~near], atol=0.51)
        assert (millimetres[near] == 0).all()

    points = read_cloud(places[0] / "points.ply")
    assert len(points) == (RAMP >= 1.0).sum()
    np.testing.assert_allclose(points["xyz"][:, 2], RAMP[RAMP >= 1.0], rtol=1e-5)
    np.testing.assert_array_equal(points["rgb"][:, ::-1], NOISE[RAMP >= 1.0])

    calibration = yaml.safe_load((places[0] / "camera.yaml").read_text())
    assert (calibration["image_width"], calibration["image_height"]) == (WIDTH, HEIGHT)
    assert (calibration["camera_name"], calibration["distortion_model"]) == ("front", "plumb_bob")
    assert calibration["camera_matrix"] == {"rows": 3, "cols": 3, "data": list(info.k)}
    assert calibration["distortion_coefficients"] == {"rows": 1, "cols": 5, "data": list(info.d)}
    assert calibration["rectification_matrix"]["data"] == list(info.r)
    assert calibration["projection_matrix"] == {"rows": 3, "cols": 4, "data": list(info.p)}


def test_snapshots_of_images_without_a_stamp_do_not_replace_each_other() -> None:
    pixels, depth = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), np.float32)
    first, second = (Snapshot("front", 0, pixels, depth).name for _ in range(2))
    assert first != second
    assert Snapshot("front", 1_000_000_007, pixels, depth).name == "front_1_000000007"


def test_before_any_frame_there_is_no_snapshot(host: Host, peer: Peer, tmp_path: Path) -> None:
    node = host(snapshot_folder=str(tmp_path / "none"))
    assert node.trigger(peer, "snapshot") == (False, "no frame with metric depth was published yet")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_named(host: Host, peer: Peer, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder is to be")
    node = host(snapshot_folder=str(blocked))
    with cameras(node, peer, "") as [(camera, depths)]:
        camera.ask(image_message(), depths)
        eventually(lambda: node.node.counts.processed, "a finished frame")
        success, message = node.trigger(peer, "snapshot")
    assert not success
    assert str(blocked) in message
    assert message.endswith("image.png cannot be written: Not a directory")


def test_images_and_services_are_answered_while_a_snapshot_is_written(
    host: Host, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def write_slowly(snapshot: Snapshot, folder: Path) -> Path:
        begun.set()
        assert may_end.wait(20)
        return write_snapshot(snapshot, folder)

    monkeypatch.setattr("depth_anything_ros.node.snapshot_writer.write_snapshot", write_slowly)
    node = host(snapshot_folder=str(tmp_path))
    with cameras(node, peer, "") as [(camera, depths)]:
        camera.ask(image_message(), depths)
        eventually(lambda: node.node.counts.processed, "a finished frame")
        found: list[tuple[bool, str]] = []
        with Peer() as another:
            asking = threading.Thread(target=lambda: found.append(node.trigger(another, "snapshot")))
            asking.start()
            assert begun.wait(20)
            assert node.state(peer) == "active"
            assert node.set(peer, cloud_stride=2)[0].successful
            camera.ask(image_message(), depths)
            assert found == []
            assert not node.node.stop(0.01)  # whoever ends the process knows not to wait for the disk
            may_end.set()
            asking.join(20)
    assert [success for success, _ in found] == [True]


# Reload


def test_reload_takes_the_file_that_is_there_now(
    start_process: Start, peer: Peer, toy_folder: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "depth_anything_v2_metric_hypersim_toy.pth"
    shutil.copy(toy_folder / checkpoint.name, checkpoint)
    node = start_process(checkpoint=str(checkpoint), snapshot_folder=str(tmp_path / "snapshots"), cameras="[left]")
    with cameras(node, peer, "left") as [(camera, depths)], node.diagnostics(peer, "left") as report:
        node.wait_for("running toy_hypersim_56")
        before = depth_of(camera.ask(image_message(), depths))
        old = report()[2]["sha256"]
        stand_in.save_official(stand_in.stand_in_weights("toy", salt=1), checkpoint)
        assert node.trigger(peer, "reload") == (True, "loading toy_hypersim_56")
        eventually(lambda: report()[2]["sha256"] != old, "the other weights")
        after = depth_of(camera.ask(image_message(), depths))
        # The same process: a service that awaits is answered by the executor that `main` spins.
        success, message = node.trigger(peer, "snapshot")
    assert np.abs(after - before).max() > 0.1
    assert success
    assert (Path(message) / "image.png").is_file()


def test_without_a_model_there_is_nothing_to_reload(host: Host, peer: Peer) -> None:
    node = host(autostart=False)
    assert node.trigger(peer, "reload") == (False, "no model is loaded")


def test_after_a_reload_only_the_new_model_is_in_memory(host: Host, peer: Peer) -> None:
    backend, loaded = FakeBackend(), []

    def load(settings: ModelSettings) -> DepthEstimator:
        estimator = fake_estimator(backend, settings)
        loaded.append(weakref.ref(estimator))
        return estimator

    node = host(backend, load=load, cameras=["front", "rear"], temporal_filter_s=1.0)
    with cameras(node, peer, "front", "rear") as [(camera, depths), _]:
        camera.ask(image_message(), depths)
        assert node.trigger(peer, "reload")[0]
        # No frame comes any more, and yet nothing holds the old one.
        eventually(lambda: len(loaded) == 2 and loaded[0]() is None, "the end of the old model")
        assert loaded[1]() is not None
        camera.ask(image_message(), depths)
