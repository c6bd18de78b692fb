"""`depth_anything bag`: bag in, bag out, message by message, read back with `rosbags`."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from recorded_bags import (
    HEIGHT,
    STORAGES,
    WIDTH,
    Message,
    Recording,
    camera_info,
    compressed,
    front_camera,
    header,
    image,
    make,
    messages_of,
    on,
    picture,
    text,
)
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, Reader

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.cli import build_parser, main
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import depth_to_uint16
from depth_anything_ros.io.whole_files import locked
from depth_anything_ros.messages.rectification import Rectification
from depth_anything_ros.settings import BagSettings, ModelSettings

MODEL = (
    *("--encoder", "toy", "--checkpoint", "untrained", "--input-size", "28"),
    *("--device", "cpu", "--backend", "torch"),
)
# Ends itself, as from outside, when the network is asked for the third time.
STOPPED = """
import os, sys
from depth_anything_ros.cli import main
from depth_anything_ros.estimator import DepthEstimator
estimate, calls = DepthEstimator.estimate, []
def stopped(self, *arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), int(sys.argv[1]))
    return estimate(self, *arguments)
DepthEstimator.estimate = stopped
sys.exit(main(sys.argv[2:]))
"""
FRONT, DEPTH, INFO, POINTS = (
    "/front/image_raw",
    "/front/depth_anything/depth/image",
    "/front/depth_anything/depth/camera_info",
    "/front/depth_anything/points",
)


def bag(*arguments: object) -> int:
    return main(["bag", *map(str, arguments), *MODEL])


def process(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", *map(str, command), *MODEL],
        capture_output=True,
        text=True,
        check=False,
    )


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line on stdout."""
    [line] = capsys.readouterr().out.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def ours(messages: list[Message]) -> list[Message]:
    return [message for message in messages if "/depth_anything/" in message.topic]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in child processes: bits are compared, and another number of threads sums in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def estimator() -> DepthEstimator:
    return DepthEstimator.load("toy", "hypersim", "untrained", input_size=28, device="cpu", backend="torch")


# ---- what is written


@pytest.mark.parametrize("storage", STORAGES)
def test_depth_is_written_behind_every_image_and_the_rest_stays_as_it_was(
    storage: str, tmp_path: Path, out: Path, estimator: DepthEstimator, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera()
    source = recording.save(tmp_path / "in", storage, empty=(("/silent", "std_msgs/msg/String"),))
    assert bag(source, out, "--cloud") == 0
    content = summary(capsys)
    assert content["cameras"] == {FRONT: {"frames": 3, "estimated": 3, "skipped": {}, "without_camera": {}}}
    assert content["messages"] == len(recording.messages) + 9
    written = messages_of(out)
    assert [message for message in written if message not in ours(written)] == messages_of(source)
    for index, at in enumerate(i for i, message in enumerate(written) if message.topic == FRONT):
        original, *made = written[at : at + 4]
        assert [message.topic for message in made] == [DEPTH, INFO, POINTS]
        for message in made:
            assert message.time_ns == original.time_ns
            assert message.read().header == original.read().header == header(index)
        depth, info, cloud = (message.read() for message in made)
        expected = estimator.estimate(picture(index)).values
        assert (depth.height, depth.width, depth.encoding, depth.step) == (HEIGHT, WIDTH, "32FC1", WIDTH * 4)
        assert depth.data.tobytes() == expected.tobytes()
        assert info.k[0] == 50 + index  # the one of its stamp, which was recorded after it
        check_cloud(cloud, CameraModel(50 + index, 50 + index, 31.5, 23.5, WIDTH, HEIGHT), expected, picture(index))
    with Reader(source) as before, Reader(out) as after:
        kept = {c.topic: (c.msgtype, c.msgdef, c.digest, c.msgcount) for c in before.connections}
        assert {c.topic: (c.msgtype, c.msgdef, c.digest, c.msgcount) for c in after.connections}.items() >= kept.items()
        assert "/silent" in after.topics
    with AnyReader([out]) as strict:  # which compares definitions with their hashes
        assert strict.message_count == len(written)
    assert {path.suffix for path in out.iterdir()} == {".yaml", ".mcap" if storage == "mcap" else ".db3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def check_cloud(cloud: Any, camera: CameraModel, depth: NDArray[np.float32], colors: NDArray[np.uint8]) -> None:
    """Compare every field of a cloud with what depth, camera and picture say it is."""
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("rgb", 12, 7, 1),
    ]
    height, width = colors.shape[:2]
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (height, width, 16, width * 16)
    assert (cloud.is_bigendian, cloud.is_dense) == (False, True)
    stride = -(-depth.shape[0] // height)
    values = cloud.data.view(np.float32).reshape(height, width, 4)
    np.testing.assert_array_equal(values[..., :3], camera.back_project(depth, stride=stride))
    np.testing.assert_array_equal(cloud.data.reshape(height, width, 16)[..., 12:15], colors)


def test_two_cameras_one_of_them_compressed_are_both_taken(
    tmp_path: Path, out: Path, estimator: DepthEstimator, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera(2)
    for index in range(2):
        recording.add("/rear/camera_info", index, camera_info(index, header=header(index, "rear_optical")))
        recording.add("/rear/image_raw/compressed", index, compressed(index, picture(10 + index)))
        recording.add("/depth/image", index, image(index, np.ones((4, 4), np.float32).view(np.uint8), "32FC1"))
        recording.add("/depth/camera_info", index, camera_info(index))
        recording.add("/lone/image", index, image(index, picture(0)))
    assert bag(recording.save(tmp_path / "in"), out) == 0
    assert summary(capsys)["cameras"].keys() == {FRONT, "/rear/image_raw/compressed"}
    written = messages_of(out)
    for topic, seeds in ((DEPTH, (0, 1)), ("/rear/depth_anything/depth/image", (10, 11))):
        for message, seed in zip(on(written, topic), seeds, strict=True):
            assert message.read().data.tobytes() == estimator.estimate(picture(seed)).values.tobytes()
    assert not on(written, POINTS)


def test_named_cameras_only_and_depth_only(tmp_path: Path, out: Path) -> None:
    recording = front_camera(2)
    for index in range(2):
        recording.add("/lone/image", index, image(index, picture(index)))
    source = recording.save(tmp_path / "in")
    assert bag(source, out, "--camera", "/lone/image", "--only-depth", "--storage", "sqlite3") == 0
    assert [message.topic for message in messages_of(out)] == ["/lone/depth_anything/depth/image"] * 2
    assert (out / "out.db3").is_file()
    assert bag(source, tmp_path / "both", "--camera", "/lone/image", "--camera", FRONT, "--cloud") == 1
    written = messages_of(tmp_path / "both")
    assert len(on(written, "/lone/depth_anything/depth/image")) == len(on(written, POINTS)) == 2
    assert not on(written, "/lone/depth_anything/points")


def deep(index: int) -> NDArray[np.uint16]:
    """Picture `index` as a camera of 10 bits sends it, grey, in the low end of 16 bits."""
    return picture(index)[..., 1].astype(np.uint16) * 4


def packed(index: int, pixels: NDArray[Any], format_: str) -> Any:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return make("sensor_msgs/msg/CompressedImage", header=header(index), format=format_, data=data)


@pytest.mark.parametrize(
    "depth_image",
    [
        pytest.param(lambda: image(0, deep(0), "mono16"), id="mono16"),
        pytest.param(lambda: image(0, deep(0), "16UC1"), id="16UC1"),
        pytest.param(lambda: image(0, deep(0).astype(np.float32), "32FC1"), id="32FC1"),
        pytest.param(lambda: packed(0, deep(0), "16UC1; png compressed "), id="png"),
        pytest.param(lambda: packed(0, deep(0), "png"), id="png that does not say it"),
        pytest.param(lambda: packed(0, deep(0), "16UC1; compressedDepth png"), id="compressedDepth"),
    ],
)
def test_a_depth_camera_is_no_camera_unless_it_is_named(
    depth_image: Callable[[], Any], tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera(1)
    recording.add("/depth/image", 0, depth_image())
    recording.add("/depth/camera_info", 0, camera_info(0))
    assert bag(recording.save(tmp_path / "in"), out) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["cameras"].keys() == {FRONT}
    assert "/depth/image is left out" in printed.err


def test_levels_of_16_bits_are_found_or_given(
    tmp_path: Path, out: Path, estimator: DepthEstimator, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Recording()
    recording.add("/c/image", 0, image(0, deep(0), "mono16"))
    source = recording.save(tmp_path / "in")
    assert bag(source, out, "--camera", "/c/image") == 0
    assert "1023 for white" in capsys.readouterr().err
    grey = np.repeat((deep(0) >> 2).astype(np.uint8)[..., None], 3, axis=2)
    [depth] = (message.read() for message in on(messages_of(out), "/c/depth_anything/depth/image"))
    assert depth.data.tobytes() == estimator.estimate(grey).values.tobytes()
    assert bag(source, tmp_path / "set", "--camera", "/c/image", "--white-level", "4095") == 0
    [darker] = (message.read() for message in on(messages_of(tmp_path / "set"), "/c/depth_anything/depth/image"))
    assert darker.data.tobytes() == estimator.estimate((grey >> 2).astype(np.uint8)).values.tobytes()


def test_a_ros_1_bag_becomes_a_ros_2_bag_with_depth(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera(2)
    source = recording.save_ros1(tmp_path / "in.bag")
    assert bag(source, out, "--cloud") == 0
    assert summary(capsys)["max_depth_m"] == 20
    assert bag(recording.save(tmp_path / "in"), tmp_path / "same", "--cloud") == 0
    # The index of a ROS 1 bag does not keep the order of messages of one time.
    assert sorted(messages_of(out)) == sorted(messages_of(tmp_path / "same"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "in.bag", "out", "same"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "as a bag of ROS 1"),
        (b"#ROSBAG V2.0\nabc", "as a bag of ROS 1"),
    ],
)
def test_a_damaged_ros_1_bag_is_an_error_that_leaves_nothing(
    content: bytes | None, words: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.bag"
    if content is not None:
        source.write_bytes(content)
    assert bag(source, out) == 1
    said = capsys.readouterr().err
    assert f"{source} " in said
    assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["in.bag"])


def test_millimetres_stride_and_max_depth(tmp_path: Path, out: Path, estimator: DepthEstimator) -> None:
    source = front_camera(1).save(tmp_path / "in")
    options = ("--depth-encoding", "16UC1", "--cloud", "--cloud-stride", "3", "--max-depth", "10")
    assert bag(source, out, *options) == 0
    written = messages_of(out)
    expected = estimator.estimate(picture(0), 10).values
    [depth] = (message.read() for message in on(written, DEPTH))
    assert (depth.encoding, depth.step) == ("16UC1", 2 * WIDTH)
    assert depth.data.tobytes() == depth_to_uint16(expected).tobytes()
    [cloud] = (message.read() for message in on(written, POINTS))
    check_cloud(cloud, CameraModel(50, 50, 31.5, 23.5, WIDTH, HEIGHT), expected, picture(0)[::3, ::3])


def test_rectified_images_are_described_by_p(tmp_path: Path, out: Path) -> None:
    recording = Recording()
    recording.add("/c/image_rect", 0, image(0, picture(0)))
    recording.add("/c/camera_info", 0, camera_info(0, k=np.zeros(9)))
    source = recording.save(tmp_path / "in")
    assert bag(source, out, "--cloud", "--rectified") == 0
    assert len(on(messages_of(out), "/c/depth_anything/points")) == 1
    assert bag(source, tmp_path / "raw", "--cloud") == 1
    assert [m.topic for m in ours(messages_of(tmp_path / "raw"))] == ["/c/depth_anything/depth/image"]


def test_a_resized_image_gets_the_camera_info_of_its_size(tmp_path: Path, out: Path) -> None:
    recording = Recording()
    region = make("sensor_msgs/msg/RegionOfInterest", x_offset=2, y_offset=4, height=96, width=128, do_rectify=True)
    recording.add("/c/camera_info", 0, camera_info(5, width=160, height=120, fx=90.0, roi=region))
    recording.add("/c/image", 0, image(0, picture(0)))
    assert bag(recording.save(tmp_path / "in"), out) == 0
    [info] = (message.read() for message in on(messages_of(out), "/c/depth_anything/depth/camera_info"))
    assert (info.width, info.height, info.k[0], info.header) == (WIDTH, HEIGHT, 45.0, header(0))
    assert (info.roi.width, info.roi.x_offset, info.roi.do_rectify) == (0, 0, True)


def test_relative_depth_lies_on_a_topic_of_its_own(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(2).save(tmp_path / "in")
    assert bag(source, out, "--dataset", "relative") == 0
    assert {m.topic for m in ours(messages_of(out))} == {"/front/depth_anything/relative/image"}
    for option in (("--cloud",), ("--depth-encoding", "16UC1")):
        assert bag(source, tmp_path / "no", "--dataset", "relative", *option) == 1
        assert "relative depth has no metres" in capsys.readouterr().err


def test_depth_up_to_a_factor_lies_on_a_topic_of_its_own(tmp_path: Path, out: Path) -> None:
    source = front_camera(1).save(tmp_path / "in")
    assert bag(source, out, "--dataset", "da3") == 0
    assert {m.topic for m in ours(messages_of(out))} == {"/front/depth_anything/scale_invariant/image"}


def test_metres_of_a_model_that_needs_the_focal_length_follow_from_camera_info(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera(2)  # fx is 50 and 51
    recording.add("/lone/image", 0, image(0, picture(0)))
    options = ("--dataset", "da3metric", "--camera", FRONT, "--camera", "/lone/image")
    assert bag(recording.save(tmp_path / "in"), out, *options) == 1
    content = summary(capsys)
    assert content["max_depth_m"] is None
    [(reason, count)] = content["cameras"]["/lone/image"]["skipped"].items()
    assert "metres follow from the focal length, which is not known" in reason
    assert count == 1
    estimator = DepthEstimator.load("toy", "da3metric", "untrained", input_size=28, device="cpu", backend="torch")
    for index, message in enumerate(on(messages_of(out), DEPTH)):
        expected = estimator.estimate(picture(index), focal_px=50.0 + index).sky_at_infinity()
        assert message.read().data.tobytes() == expected.tobytes()


@pytest.mark.parametrize("focal_px", [None, 70.0])
def test_images_are_rectified_before_the_network_and_their_camera_info_is_true(
    focal_px: float | None, tmp_path: Path, out: Path, estimator: DepthEstimator, capsys: pytest.CaptureFixture[str]
) -> None:
    d = np.array([-0.2, 0.03, 0, 0, 0.0])
    recording = Recording()
    recording.add("/front/camera_info", 0, camera_info(0, d=d))
    recording.add(FRONT, 0, image(0, picture(0)))
    recording.add("/lone/image", 0, image(0, picture(0)))
    options = ("--camera", FRONT, "--camera", "/lone/image", "--cloud", "--undistort")
    asked = () if focal_px is None else ("--undistort-focal", focal_px)
    assert bag(recording.save(tmp_path / "in"), out, *options, *asked) == 1
    [reason] = summary(capsys)["cameras"]["/lone/image"]["skipped"]
    assert "the image cannot be rectified" in reason
    written = messages_of(out)
    lens = CameraModel(50, 50, 31.5, 23.5, WIDTH, HEIGHT, "plumb_bob", tuple(d))
    rectification = Rectification(lens, focal_px)
    seen, pinhole = rectification(picture(0)), rectification.camera
    expected = estimator.estimate(seen).values
    [depth] = (message.read() for message in on(written, DEPTH))
    assert depth.data.tobytes() == expected.tobytes()
    [info] = (message.read() for message in on(written, INFO))
    assert (info.header, info.width, info.height, info.distortion_model) == (header(0), WIDTH, HEIGHT, "plumb_bob")
    assert not info.d.any()
    np.testing.assert_array_equal(info.k, [pinhole.fx, 0, 31.5, 0, pinhole.fy, 23.5, 0, 0, 1])
    np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3].ravel(), info.k)
    if focal_px is not None:
        assert info.k[0] == pytest.approx(focal_px)
    [cloud] = (message.read() for message in on(written, POINTS))
    check_cloud(cloud, pinhole, expected, seen)


def test_depth_without_metres_of_rectified_images_has_their_camera_info(tmp_path: Path, out: Path) -> None:
    source = front_camera(1).save(tmp_path / "in")
    assert bag(source, out, "--dataset", "da3", "--undistort") == 0
    assert {m.topic for m in ours(messages_of(out))} == {"/front/depth_anything/scale_invariant/image", INFO}


@pytest.mark.parametrize("options", [("--undistort", "--rectified"), ("--undistort-focal", "60")])
def test_options_that_do_not_go_with_undistort_are_refused(
    options: tuple[str, ...], tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bag(front_camera(1).save(tmp_path / "in"), out, *options) == 1
    assert "--undistort" in capsys.readouterr().err


def test_the_sky_has_depth_at_infinity_and_no_points(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sky = np.zeros((HEIGHT, WIDTH), bool)
    sky[:20] = True
    depth = DepthMap(np.full((HEIGHT, WIDTH), 3.0, np.float32), "metric", "toy_da3metric_28", sky)
    monkeypatch.setattr(DepthEstimator, "estimate", lambda *_: depth)
    assert bag(front_camera(1).save(tmp_path / "in"), out, "--dataset", "da3metric", "--cloud") == 0
    written = messages_of(out)
    [values] = (message.read().data.view(np.float32).reshape(HEIGHT, WIDTH) for message in on(written, DEPTH))
    assert (values[:20] == np.inf).all()
    assert (values[20:] == 3).all()
    [cloud] = (message.read() for message in on(written, POINTS))
    z = cloud.data.view(np.float32).reshape(HEIGHT, WIDTH, 4)[..., 2]
    assert np.isnan(z[:20]).all()
    assert (z[20:] == 3).all()
    assert not cloud.is_dense


# ---- the same every time, and taken up where it stopped


@pytest.mark.parametrize("storage", STORAGES)
def test_two_runs_write_the_same_bytes(storage: str, tmp_path: Path) -> None:
    source = front_camera(2).save(tmp_path / "in", storage)
    for name in "ab":
        assert bag(source, tmp_path / name / "out", "--cloud") == 0
    assert hashes(tmp_path / "a/out") == hashes(tmp_path / "b/out")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_was_stopped_is_taken_up_and_ends_the_same(
    number: signal.Signals, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = front_camera(5).save(tmp_path / "in"), tmp_path / "a/out"
    stopped = process(STOPPED, int(number), "bag", source, out, "--cloud")
    assert stopped.returncode == status, stopped.stderr
    assert ("the same command continues from here" in stopped.stderr) == (number == signal.SIGINT)
    assert not out.exists()
    assert bag(source, out, "--cloud") == 0
    assert summary(capsys)["cameras"][FRONT]["estimated"] == 3
    assert bag(source, tmp_path / "b/out", "--cloud") == 0
    assert hashes(out) == hashes(tmp_path / "b/out")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


@pytest.fixture
def unfinished(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bag whose run stopped when all of its three frames were estimated."""
    source = front_camera().save(tmp_path / "in")
    with monkeypatch.context() as patched:
        patched.setattr("depth_anything_ros.offline.bag.work.WorkFolder.finish", _interrupt)
        assert bag(source, out) == 130
    return source


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_what_the_frames_do_not_depend_on_can_be_changed_on_the_way(
    unfinished: Path, out: Path, estimates: list[tuple[int, ...]]
) -> None:
    assert bag(unfinished, out, "--cloud", "--depth-encoding", "16UC1", "--storage", "sqlite3") == 0
    assert estimates == []
    assert len(on(messages_of(out), POINTS)) == 3


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--max-depth", "7"), "max_depth_m was 20.0, now it is 7.0"), (("--precision", "bf16"), "precision was auto")],
)
def test_another_model_starts_anew_and_says_so(
    option: tuple[str, str],
    said: str,
    unfinished: Path,
    out: Path,
    estimates: list[tuple[int, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bag(unfinished, out, *option) == 0
    assert said in capsys.readouterr().err
    assert len(estimates) == 3


def test_another_bag_starts_anew(
    unfinished: Path, out: Path, estimates: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(unfinished)
    front_camera(2).save(unfinished)
    assert bag(unfinished, out) == 0
    assert "bag was" in capsys.readouterr().err
    assert len(estimates) == 2


def test_a_damaged_frame_is_estimated_again(unfinished: Path, out: Path, estimates: list[tuple[int, ...]]) -> None:
    frames = sorted(out.with_name(".part-out").glob("frames/*/*.npy"))
    assert len(frames) == 3
    frames[0].write_bytes(b"")
    np.save(frames[1], np.zeros((2, 2), np.float32))
    assert bag(unfinished, out) == 0
    assert len(estimates) == 2


def test_a_manifest_that_cannot_be_read_counts_as_none(unfinished: Path, out: Path) -> None:
    (out.with_name(".part-out") / "run.json").write_text("{")
    assert bag(unfinished, out) == 0


# ---- what is there already


def test_a_bag_that_is_there_is_replaced_on_request_only(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    assert bag(source, out) == 0
    assert bag(source, out, "--cloud") == 1
    assert "out exists" in capsys.readouterr().err
    assert not on(messages_of(out), POINTS)
    assert bag(source, out, "--cloud", "--overwrite") == 0
    assert on(messages_of(out), POINTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_the_old_bag_is_kept_until_the_new_one_is_there(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    assert bag(source, out) == 0
    before, replaced = hashes(out), tmp_path / ".part-out/replaced"
    replaced.parent.mkdir()
    out.rename(replaced)  # as a run leaves it that is killed between the two steps
    with monkeypatch.context() as patched:
        patched.setattr("depth_anything_ros.offline.bag.work.WorkFolder.finish", _interrupt)
        assert bag(source, out) == 130
    assert hashes(replaced) == before
    assert bag(source, out) == 0
    assert hashes(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_nothing_but_a_bag_is_overwritten(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = front_camera(1).save(tmp_path / "in")
    before = hashes(source)
    out.mkdir()
    (out / "precious").touch()
    for target, words in (
        (out, "is not a bag"),
        (source, "holds the bag that is read"),
        (tmp_path, "holds the bag that is read"),
        (tmp_path / "out.mcap", "names a file"),
    ):
        assert bag(source, target, "--overwrite") == 1
        assert words in capsys.readouterr().err
    assert hashes(source) == before
    assert (out / "precious").exists()


def test_depth_of_an_earlier_run_is_not_mixed_with_new_one(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bag(front_camera(1).save(tmp_path / "in"), out) == 0
    assert bag(out, tmp_path / "again") == 1
    said = capsys.readouterr().err
    assert f"{DEPTH} would hold the depth of {FRONT}, but is already a topic of the bag itself" in said
    assert "or leave the originals out with --only-depth" in said
    assert bag(out, tmp_path / "again", "--only-depth") == 0


def test_two_topics_of_one_camera_are_a_choice(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = front_camera(1)
    recording.add("/front/image_raw/compressed", 0, compressed(0, picture(0)))
    assert bag(recording.save(tmp_path / "packed"), out) == 0  # the same pictures: the raw ones are taken
    assert summary(capsys)["cameras"].keys() == {FRONT}
    recording.add("/front/image_rect", 0, image(0, picture(0)))
    source = recording.save(tmp_path / "rect")
    assert bag(source, tmp_path / "no") == 1
    assert "Choose cameras with --camera, or leave the originals out" in capsys.readouterr().err
    assert bag(source, tmp_path / "no", "--only-depth") == 1
    assert "Choose cameras with --camera\n" in capsys.readouterr().err
    assert bag(source, tmp_path / "yes", "--camera", "/front/image_rect", "--camera", "/front/image_rect") == 0


def test_two_processes_do_not_write_one_bag(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = front_camera(1).save(tmp_path / "in")
    with locked(tmp_path / ".part-out"):
        assert bag(source, out) == 1
    assert "another process" in capsys.readouterr().err
    assert bag(source, out) == 0


# ---- hostile input


@pytest.mark.parametrize("name", [".part-out", ".ros1-out"])
def test_a_link_in_place_of_the_work_folder_is_not_followed(
    name: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "victim"
    (victim / "bag").mkdir(parents=True)
    (victim / "bag/precious").touch()
    (tmp_path / name).symlink_to(victim)
    source = front_camera(1).save_ros1(tmp_path / "in.bag")
    assert bag(source, out) == 1
    assert f"{name} is a link" in capsys.readouterr().err
    assert (victim / "bag/precious").exists()
    assert not out.exists()


def test_images_that_cannot_be_read_are_reported_counted_and_left_out(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = front_camera(2)
    for index in range(2, 4):
        recording.add(FRONT, index, image(index, picture(index), "mono12"))
    recording.add(FRONT, 4, image(4, picture(4), data=np.zeros(5, np.uint8)))
    recording.add(FRONT, 5, image(5, picture(5)))
    recording.damage(-1, recording.messages[-1].data[:-100])
    recording.add("/front/camera_info", 6, camera_info(6))
    recording.damage(-1, b"\x00")
    recording.add(FRONT, 6, image(6, picture(6)))
    source = recording.save(tmp_path / "in")
    assert bag(source, out) == 1
    printed = capsys.readouterr()
    tally = json.loads(printed.out)["cameras"][FRONT]
    assert (tally["frames"], tally["estimated"], sum(tally["skipped"].values())) == (7, 3, 4)
    assert next(count for reason, count in tally["skipped"].items() if "'mono12'" in reason) == 2
    assert printed.err.count("mono12'") == 1
    assert f"skipped: {FRONT}, frame 5: damaged message" in printed.err
    assert "skipped: a CameraInfo on /front/camera_info" in printed.err
    written = messages_of(out)
    assert [message for message in written if message not in ours(written)] == messages_of(source)
    assert [message.read().header for message in on(written, DEPTH)] == [header(index) for index in (0, 1, 6)]
    assert len(on(written, INFO)) == 3  # the last has none of its own, and takes the latest


def _cut(path: Path) -> None:
    file = next(path.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip(path: Path) -> None:
    """Let the first message's record claim another length."""
    file = next(path.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    at = data.index(b"before 0") - 60
    data[at : at + 60] = b"\xff" * 60
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        lambda path: (path / "metadata.yaml").unlink(),
        lambda path: (path / "metadata.yaml").write_text("a: [b"),
        lambda path: (path / "metadata.yaml").write_text("[]"),
        lambda path: next(path.glob("*.mcap")).unlink(),
        shutil.rmtree,
    ],
    ids=["cut", "flipped", "no metadata", "no yaml", "no mapping", "no file", "nothing"],
)
def test_a_damaged_bag_is_an_error_that_names_it_and_leaves_no_result(
    damage: Callable[[Path], object], tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    damage(source)
    assert bag(source, out) == 1
    assert f"{source} cannot be read as a bag: " in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00" + b"\xff" * 200, b"\x89MCAP0\r\n" + b"\x01" * 60])
@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x.bag"])
def test_a_file_that_is_no_bag_is_an_error(
    name: str, content: bytes, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert bag(tmp_path / name, out) == 1
    assert "cannot be read as a bag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("storage", "mode"),
    [("mcap", CompressionMode.STORAGE), ("mcap", CompressionMode.FILE), ("sqlite3", CompressionMode.MESSAGE)],
)
def test_compressed_bags_are_read(storage: str, mode: CompressionMode, tmp_path: Path, out: Path) -> None:
    recording = front_camera(1)
    assert bag(recording.save(tmp_path / "in", storage, compression=mode), out) == 0
    written = messages_of(out)
    assert [message for message in written if message not in ours(written)] == recording.messages
    assert (out / "out.mcap").exists() == (storage == "mcap")


def test_a_bag_with_definitions_of_its_own_is_not_read_as_if_it_had_ours(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    [file] = source.glob("*.mcap")
    file.write_bytes(file.read_bytes().replace(b"uint32 step", b"uint64 step"))
    assert bag(source, out) == 1
    assert "defines sensor_msgs/msg/Image differently from ROS 2" in capsys.readouterr().err


@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_file_without_its_folder_is_a_bag_too(storage: str, tmp_path: Path, out: Path) -> None:
    source = front_camera(1).save(tmp_path / "in", storage)
    [file] = (path for path in source.iterdir() if path.suffix != ".yaml")
    assert bag(file, out) == 0
    written = messages_of(out)
    assert [message for message in written if message not in ours(written)] == messages_of(source)
    with Reader(out) as reader:
        assert all(connection.digest.startswith("RIHS01_") for connection in reader.connections)


def test_there_has_to_be_a_camera_with_images(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = Recording()
    talk.add("/chatter", 0, text("hello"))
    silent = (("/c/image", "sensor_msgs/msg/Image"), ("/c/camera_info", "sensor_msgs/msg/CameraInfo"))
    without, empty = talk.save(tmp_path / "talk"), talk.save(tmp_path / "silent", empty=silent)
    for arguments, words in (
        (
            (without,),
            "no image topic has a camera_info beside it and holds no depth. Name one",
        ),
        ((without, "--camera", "/c/image"), "no images on /c/image in"),
        ((empty,), "no frames in"),
        ((empty, "--camera", "/d/image"), "topics with images: /c/image"),
        ((Recording().save(tmp_path / "nothing"),), "topics: none"),
    ):
        source, *options = arguments
        assert bag(source, out, *options) == 1
        assert words in capsys.readouterr().err
    assert not out.exists()
    assert not out.with_name(".part-out").exists()


def test_types_that_nobody_defines_are_copied(tmp_path: Path, out: Path) -> None:
    recording = front_camera(1)
    source = recording.save(tmp_path / "in", "sqlite3")
    with sqlite3.connect(source / "in.db3") as connection:  # as Humble writes it
        connection.execute("UPDATE topics SET type = 'own_msgs/msg/Own' WHERE name = '/chatter'")
        connection.execute("UPDATE message_definitions SET encoded_message_definition = '', type_description_hash = ''")
        connection.execute("UPDATE topics SET type_description_hash = ''")
    connection.close()
    assert bag(source / "in.db3", out) == 0
    written = messages_of(out)
    assert [m.data for m in on(written, "/chatter")] == [m.data for m in on(recording.messages, "/chatter")]
    assert {m.type for m in on(written, "/chatter")} == {"own_msgs/msg/Own"}


def test_a_place_that_cannot_be_written_is_an_error(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    (tmp_path / "file").touch()
    assert bag(source, tmp_path / "file/out") == 1
    assert "cannot be written" in capsys.readouterr().err


# ---- command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-depth", "0"), "--max-depth must be a positive number"),
        (("--white-level", "70000"), "white_level must be from 0 to 65535"),
        (("--cloud", "--cloud-stride", "0"), "stride must be 1 or more"),
        (("--dataset", "indoor"), "unknown dataset 'indoor'"),
    ],
)
def test_settings_that_cannot_be_leave_nothing_behind(
    options: tuple[str, ...], words: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = front_camera(1).save(tmp_path / "in")
    assert main(["bag", str(source), str(out), *MODEL, *options]) == 1
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_defaults_are_those_of_the_settings() -> None:
    args = build_parser().parse_args(["bag", "in", "out"])
    for settings in (BagSettings(), ModelSettings()):
        for name, value in vars(settings).items():
            if hasattr(args, name):
                assert getattr(args, name) == value


def test_without_rosbags_the_command_says_what_to_install(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rosbags", None)
    assert bag(tmp_path, out) == 1
    assert "pip install 'depth_anything_ros[bag]'" in capsys.readouterr().err
