"""The client beside a real bridge and real nodes: frames, streams, and the program."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness import Inbox, eventually
from rclpy.qos import qos_profile_sensor_data
from robot_under_test import KEY, RobotUnderTest
from sensor_msgs.msg import Image

from bridge.client import BridgeError, DepthClient, RobotCamera, RobotFrame

SIZE = (56, 84)
DOCS = (Path(__file__).parents[3] / "docs" / "client.md").read_text()


@pytest.fixture(scope="module")
def client(robot: RobotUnderTest) -> Iterator[DepthClient]:
    with DepthClient(robot.bridge.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def front(robot: RobotUnderTest, client: DepthClient) -> RobotCamera:
    """The synthetic camera."""
    return client.camera(robot.front_name)


@pytest.fixture(scope="module")
def depth_messages(robot: RobotUnderTest) -> Iterator[Inbox]:
    with robot.peer.listen(Image, robot.front.topic("~/depth/image"), qos_profile_sensor_data) as inbox:
        yield inbox


def published(inbox: Inbox, frame: RobotFrame) -> Any:
    """The node's own values of a frame of depth."""

    def found() -> list[Any]:
        stamps = ((m, m.header.stamp.sec * 10**9 + m.header.stamp.nanosec) for m in list(inbox.messages))
        return [message for message, stamp_ns in stamps if stamp_ns == frame.header.stamp_ns]

    eventually(found, "the node's message of the frame")
    return np.frombuffer(found()[0].data, np.float32).reshape(SIZE)


def test_the_robots_cameras_are_listed(robot: RobotUnderTest, client: DepthClient) -> None:
    names = [camera["name"] for camera in client.cameras()]
    assert names == sorted([robot.front_name, robot.rig_name("left"), robot.rig_name("right")])


def test_one_frame_is_the_nodes_own(front: RobotCamera, depth_messages: Inbox) -> None:
    frame = front.depth()
    np.testing.assert_array_equal(frame.values, published(depth_messages, frame))
    assert (frame.header.kind, frame.header.width, frame.header.height) == ("metric", 84, 56)
    assert frame.header.frame_id


def test_a_cloud_and_pictures_come_in_their_shapes(front: RobotCamera) -> None:
    points, picture = front.points(), front.image()
    assert points.values.shape == (*SIZE, 3)
    assert points.values.dtype == np.float32
    assert picture.values.shape == (*SIZE, 3)
    assert picture.values.dtype == np.uint8
    assert front.color().values.shape == (*SIZE, 3)
    info = front.camera_info()
    depth, (fx, cx) = points.values[..., 2], (info["k"][0], info["k"][2])
    columns = np.arange(SIZE[1], dtype=np.float32)
    np.testing.assert_allclose(points.values[..., 0], (columns - cx) / fx * depth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", ["raw", "npy"])
def test_a_stream_is_the_nodes_depth_frame_by_frame(front: RobotCamera, depth_messages: Inbox, format: str) -> None:
    for frame in itertools.islice(front.stream(format=format), 3):
        np.testing.assert_array_equal(frame.values, published(depth_messages, frame))
        assert frame.header.intrinsics is not None


def test_streams_of_pictures_and_points_are_arrays(front: RobotCamera) -> None:
    for what, dtype in (("image", np.uint8), ("color", np.uint8), ("points", np.float32)):
        frame = next(front.stream(what))
        assert frame.values.shape == (*SIZE, 3)
        assert frame.values.dtype == dtype


def test_an_unknown_camera_is_refused_with_the_servers_words(client: DepthClient) -> None:
    stranger = client.camera("no_such")
    asked: tuple[Callable[[], RobotFrame], ...] = (stranger.depth, lambda: next(stranger.stream()))
    for ask in asked:
        with pytest.raises(BridgeError) as raised:
            ask()
        assert (raised.value.status, raised.value.code) == (404, "unknown_camera")


def test_the_example_of_the_docs_runs_as_it_stands(robot: RobotUnderTest, client: DepthClient) -> None:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "client.cameras()" in block)
    names: dict[str, Any] = {"client": client}
    exec(block.replace('"front"', repr(robot.front_name)).replace("max_age_ms=500", "max_age_ms=5000"), names)
    assert names["frame"].values.shape == SIZE


def command(robot: RobotUnderTest, folder: Path, *arguments: str) -> list[str]:
    key = folder / "key"
    key.write_text(KEY)
    program = [sys.executable, "-m", "bridge.client.cli", "--url", robot.bridge.url, "--api-key-file", str(key)]
    return [*program, *arguments]


def test_the_program_lists_and_writes_what_a_camera_sees(robot: RobotUnderTest, tmp_path: Path) -> None:
    listed = subprocess.run(command(robot, tmp_path, "--cameras"), capture_output=True, text=True, check=True)
    assert f"{robot.front_name}: active, 84x56, " in listed.stdout
    written = subprocess.run(
        command(robot, tmp_path, "--camera", robot.front_name, "--out", str(tmp_path / "out")),
        capture_output=True,
        text=True,
        check=True,
    )
    stem = tmp_path / "out" / robot.front_name
    assert f"{robot.front_name}: 84x56 metric, " in written.stdout
    depth, color = cv2.imread(f"{stem}_depth.png", cv2.IMREAD_UNCHANGED), cv2.imread(f"{stem}_color.png")
    assert depth is not None
    assert color is not None
    assert depth.dtype == np.uint16
    assert color.shape == (*SIZE, 3)
    assert Path(f"{stem}.ply").read_bytes().startswith(b"ply\n")


def test_the_program_watches_until_ctrl_c(robot: RobotUnderTest, tmp_path: Path) -> None:
    watched = command(robot, tmp_path, "--camera", robot.front_name, "--watch")
    with subprocess.Popen(
        watched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert re.fullmatch(rf"{robot.front_name}: 84x56 metric, .* m, centre .* m, stamp .*, \d+\.\d frames/s\n", line)
    assert (process.returncode, errors) == (130, "interrupted\n")
