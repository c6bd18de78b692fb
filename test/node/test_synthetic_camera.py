"""The camera node without a camera: what it says of its pictures is true, and it works only for who listens."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from harness import Inbox, NodeProcess, Peer, Remote, Spinner, depth_of, eventually, unique
from rcl_interfaces.msg import ParameterType
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import DeviceError, SettingsError
from depth_anything_ros.model.registry import ENCODERS
from depth_anything_ros.node import parameters
from depth_anything_ros.node.configuration import Configuration, changed
from depth_anything_ros.node.conversions import FROM_BGR, camera_to_info, image_to_bgr
from depth_anything_ros.node.synthetic_camera import NODE_NAME, PARAMETERS, Pace, SyntheticCameraNode
from depth_anything_ros.settings import SyntheticCameraSettings
from depth_anything_ros.synthetic.camera import SyntheticCamera, SyntheticFrame

WIDTH, HEIGHT, RATE_HZ, SEED = 160, 120, 20.0, 3
TOPICS = {"image": Image, "camera_info": CameraInfo, "depth/ground_truth": Image}
CONFIG = Path(__file__).parents[2] / "config" / "synthetic.yaml"

Shot = tuple[Any, Any, Any]  # image, CameraInfo and depth of one picture


class CountingCamera(SyntheticCamera):
    """Counts its pictures, and can be made slow or broken."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.times: list[float] = []
        self.delay_s = 0.0
        self.error: Exception | None = None

    def frame(self, time_s: float = 0.0) -> SyntheticFrame:
        self.times.append(time_s)
        time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return super().frame(time_s)


class HostedCamera(Remote):
    """The node in a thread of the test, in the peer's context."""

    def __init__(self, peer: Peer, **values: Any) -> None:
        super().__init__(unique("synthetic"))
        self.name = f"{self.namespace}/{NODE_NAME}"
        values = {"width": WIDTH, "height": HEIGHT, "rate_hz": RATE_HZ, "seed": SEED, **values}
        self._cameras: list[CountingCamera] = []
        self.node = SyntheticCameraNode(
            self._make,
            context=peer.context,
            namespace=self.namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self._spinner = Spinner(self.node, peer.context)
        self.node.start()

    def _make(self, *args: Any) -> CountingCamera:
        self._cameras.append(CountingCamera(*args))
        return self._cameras[-1]

    @property
    def counting(self) -> CountingCamera:
        """The camera it takes its pictures with."""
        return self._cameras[0]

    def close(self) -> None:
        assert self.node.stop(20)
        self._spinner.stop()


Start = Callable[..., HostedCamera]


@pytest.fixture
def start(peer: Peer) -> Iterator[Start]:
    """Start camera nodes beside the test; each ends with the test."""
    with ExitStack() as stack:

        def start(**values: Any) -> HostedCamera:
            hosted = HostedCamera(peer, **values)
            stack.callback(hosted.close)
            return hosted

        yield start


@contextmanager
def listening(peer: Peer, remote: Remote) -> Iterator[list[Inbox]]:
    """Listen to all topics as one listens to a camera."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(peer.listen(kind, remote.topic(name), qos_profile_sensor_data))
            for name, kind in TOPICS.items()
        ]


def whole_shots(inboxes: list[Inbox]) -> list[Shot]:
    images, infos, depths = inboxes
    found = [
        (image, infos.with_stamp(image.header.stamp), depths.with_stamp(image.header.stamp))
        for image in list(images.messages)
    ]
    return [shot for shot in found if None not in shot]


def shots_of(peer: Peer, remote: Remote, count: int = 1) -> list[Shot]:
    """The first pictures of which all three messages came."""
    with listening(peer, remote) as inboxes:
        return eventually(lambda: (found := whole_shots(inboxes))[: count * (len(found) >= count)], "whole pictures")


def expected(seed: int = SEED, width: int = WIDTH, height: int = HEIGHT, distortion: str = "none") -> SyntheticCamera:
    return SyntheticCamera(seed, width, height, distortion)


def picture_of(hosted: HostedCamera, camera: SyntheticCamera, depth: Any) -> SyntheticFrame:
    """The picture with this depth that a camera takes at one of the times at which the node's took its own."""
    for time_s in list(hosted.counting.times):
        frame = camera.frame(time_s)
        if np.allclose(frame.depth, depth_of(depth), atol=1e-5):
            return frame
    raise AssertionError("no picture on the camera's way has this depth")


def same_picture(left: Any, right: Any) -> bool:
    """Whether two pictures are the same, but for the rounding of a number here and there."""
    return left.shape == right.shape and bool(np.abs(left.astype(int) - right.astype(int)).max() <= 1)


# ---- what is published


@pytest.mark.parametrize(("width", "height"), [(160, 120), (90, 160), (200, 64)])
def test_all_messages_of_a_picture_agree(start: Start, peer: Peer, width: int, height: int) -> None:
    shots = shots_of(peer, start(width=width, height=height, frame_id="eye"), 3)
    for image, info, depth in shots:
        assert image.header == info.header == depth.header
        assert image.header.frame_id == "eye"
        assert {(msg.width, msg.height) for msg in (image, info, depth)} == {(width, height)}
        assert (image.encoding, depth.encoding) == ("bgr8", "32FC1")
        assert np.isfinite(depth_of(depth)).all()
    stamps = [image.header.stamp.sec + image.header.stamp.nanosec / 1e9 for image, _, _ in shots]
    assert stamps == sorted(set(stamps))
    assert abs(time.time() - stamps[-1]) < 10


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_points_lie_in_the_room_and_those_ahead_of_the_camera_on_its_floor(
    start: Start, peer: Peer, distortion: str
) -> None:
    hosted = start(distortion=distortion)
    [(_, info, depth)] = shots_of(peer, hosted)
    camera = expected(distortion=distortion)
    frame = picture_of(hosted, camera, depth)
    points = CameraModel.from_camera_info(info).back_project(depth_of(depth)) @ frame.rotation.T + frame.position
    assert (points > -1e-3).all()
    assert (points < camera.scene.size + 1e-3).all()
    # The camera looks down: the lowest rows show the floor wherever nothing stands on it.
    assert (points[-HEIGHT // 8 :, :, 2] < 1e-3).mean() > 0.5


def test_pictures_are_those_on_the_cameras_way_and_do_not_repeat(start: Start, peer: Peer) -> None:
    hosted = start()
    shots = shots_of(peer, hosted, 3)
    frames = [picture_of(hosted, expected(), depth) for _, _, depth in shots]
    for (image, _, _), frame in zip(shots, frames, strict=True):
        assert same_picture(image_to_bgr(image), frame.image_bgr)
    assert len({tuple(frame.position) for frame in frames}) == 3


def test_the_same_seed_gives_the_same_pictures_and_another_gives_others(start: Start, peer: Peer) -> None:
    for seed, room in ((5, 5), (5, 5), (6, 6)):
        hosted = start(seed=seed)
        [(image, _, depth)] = shots_of(peer, hosted)
        assert same_picture(image_to_bgr(image), picture_of(hosted, expected(seed=room), depth).image_bgr)
    with pytest.raises(AssertionError, match="no picture"):
        picture_of(hosted, expected(seed=5), depth)


def test_the_camera_keeps_its_pace(start: Start, peer: Peer) -> None:
    hosted = start(rate_hz=50.0)
    shots_of(peer, hosted, 5)
    indices = [time_s * 50 for time_s in hosted.counting.times]
    assert indices == pytest.approx([round(index) for index in indices])
    assert indices == sorted(set(indices))


@pytest.mark.parametrize("encoding", FROM_BGR)
def test_every_encoding_decodes_to_the_same_picture(start: Start, peer: Peer, encoding: str) -> None:
    hosted = start(encoding=encoding)
    [(image, _, depth)] = shots_of(peer, hosted)
    assert image.encoding == encoding
    picture = picture_of(hosted, expected(), depth).image_bgr
    if encoding.startswith("mono"):
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)  # type: ignore[assignment]
    assert same_picture(image_to_bgr(image), picture)


@pytest.mark.parametrize("distortion", ["none", "plumb_bob"])
def test_camera_info_says_the_camera(start: Start, peer: Peer, distortion: str) -> None:
    [(_, info, _)] = shots_of(peer, start(distortion=distortion))
    model = expected(distortion=distortion).model
    assert CameraModel.from_camera_info(info) == model
    assert info.distortion_model == "plumb_bob"
    assert len(info.d) == 5
    assert any(info.d) == (distortion == "plumb_bob")
    assert info.r.tolist() == np.eye(3).ravel().tolist()
    assert CameraModel.from_camera_info(info, rectified=True) == expected().model
    K, P = info.k.reshape(3, 3), info.p.reshape(3, 4)
    assert P.tolist() == np.hstack([K, np.zeros((3, 1))]).tolist()


def test_every_lens_model_survives_a_camera_info() -> None:
    pinhole = CameraModel(100, 101, 40, 30, 80, 60)
    fisheye = CameraModel(100, 101, 40, 30, 80, 60, "equidistant", (0.1, 0.0, 0.0, 0.01))
    rational = CameraModel(100, 101, 40, 30, 80, 60, "rational_polynomial", (0.1, 0, 0, 0, 0, 0.2, 0, 0))
    for model in (pinhole, fisheye, rational):
        assert CameraModel.from_camera_info(camera_to_info(model, Header())) == model


# ---- for whom


def test_nothing_is_rendered_while_nobody_listens(start: Start, peer: Peer) -> None:
    hosted = start()
    time.sleep(10 / RATE_HZ)
    assert hosted.counting.times == []
    with peer.listen(CameraInfo, hosted.topic("camera_info"), qos_profile_sensor_data) as infos:
        eventually(lambda: len(infos) >= 3, "camera infos")
    assert hosted.counting.times == []
    with peer.listen(Image, hosted.topic("depth/ground_truth"), qos_profile_sensor_data) as depths:
        eventually(lambda: len(depths) >= 3, "depth")
    # The camera moved on meanwhile.
    assert hosted.counting.times[0] > 9 / RATE_HZ
    eventually(lambda: not hosted.node.count_subscribers(hosted.topic("depth/ground_truth")), "nobody who listens")
    time.sleep(3 / RATE_HZ)  # one may be under way
    count = len(hosted.counting.times)
    time.sleep(5 / RATE_HZ)
    assert len(hosted.counting.times) == count


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_reliability_is_offered_as_asked(start: Start, peer: Peer, reliability: str) -> None:
    hosted = start(reliability=reliability)
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    for name in TOPICS:
        [endpoint] = eventually(
            lambda name=name: peer.node.get_publishers_info_by_topic(hosted.topic(name)),  # type: ignore[misc]
            "a publisher",
        )
        assert endpoint.qos_profile.reliability == policy


def test_a_reliable_camera_is_heard_by_who_insists_on_it(start: Start, peer: Peer) -> None:
    hosted = start(reliability="reliable")
    with peer.listen(Image, hosted.topic("image"), QoSProfile(depth=5)) as images:
        eventually(lambda: len(images) >= 2, "images")


def test_qos_can_be_overridden(start: Start, peer: Peer) -> None:
    topic = "/overridden/image"
    name = f"qos_overrides.{topic}.publisher.reliability"
    camera = SyntheticCameraNode(
        CountingCamera,
        context=peer.context,
        namespace="/overridden",
        parameter_overrides=[Parameter(name, value="reliable"), Parameter("width", value=64)],
    )
    try:
        [endpoint] = eventually(lambda: peer.node.get_publishers_info_by_topic(topic), "a publisher")
        assert endpoint.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    finally:
        assert camera.stop(0)  # it never was started
        camera.destroy_node()


# ---- pace


def test_a_pace_waits_for_the_next_picture_and_leaves_out_what_was_missed() -> None:
    pace = Pace(rate_hz=10.0, start_s=100.0)
    assert pace.wait_s(100.0) == 0
    assert pace.take(100.0) == 0
    assert pace.wait_s(100.03) == pytest.approx(0.07)
    assert pace.take(100.1 - 1e-9) == 1  # woken up a little early
    assert pace.wait_s(100.58) == 0
    assert pace.take(100.58) == 5
    assert pace.wait_s(100.58) == pytest.approx(0.02)


def test_a_slow_camera_leaves_pictures_out_says_so_once_and_answers_at_once(
    start: Start, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    hosted = start(rate_hz=20.0)
    hosted.counting.delay_s = 0.2
    began = time.monotonic()
    with listening(peer, hosted):
        eventually(lambda: len(hosted.counting.times) > 12, "pictures")
        took_s = time.monotonic() - began
        asked = time.monotonic()
        assert hosted.get(peer, "width") == [WIDTH]
        assert time.monotonic() - asked < 2
    steps = np.diff(hosted.counting.times)
    assert steps.min() >= 0.19  # each picture takes 0.2 s, and the camera's way goes on as fast as time does
    assert hosted.counting.times[-1] <= took_s + 0.5
    said = [line for line in capfd.readouterr().err.splitlines() if "rate_hz is 20" in line]
    assert len(said) == 1
    rate_hz = float(said[0].split("renders ")[1].split()[0])
    assert 0.5 < rate_hz < 5


def test_a_picture_that_cannot_be_rendered_is_the_only_one_lost(
    start: Start, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    hosted = start()
    hosted.counting.error = RuntimeError("no memory")
    with listening(peer, hosted) as inboxes:
        eventually(lambda: len(hosted.counting.times) > 5, "attempts")
        assert whole_shots(inboxes) == []
        hosted.counting.error = None
        eventually(lambda: whole_shots(inboxes), "a picture")
    said = [line for line in capfd.readouterr().err.splitlines() if "picture dropped" in line]
    assert len(said) == 1
    assert "RuntimeError: no memory" in said[0]


# ---- parameters


def test_every_setting_has_a_parameter_and_is_described(start: Start, peer: Peer) -> None:
    assert set(PARAMETERS) == {field.name for field in fields(SyntheticCameraSettings)}
    hosted = start()
    for descriptor in hosted.describe(peer, *PARAMETERS):
        parameter = PARAMETERS[descriptor.name]
        assert descriptor.description == parameter.description != ""
        assert descriptor.type != ParameterType.PARAMETER_NOT_SET
        assert descriptor.read_only
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(r.from_value, r.to_value) for r in ranges] == ([parameter.bounds] if parameter.bounds else [])
        for choice in parameter.choices:
            assert choice in descriptor.additional_constraints
    [result] = hosted.set(peer, seed=9)
    assert not result.successful
    assert "seed" in result.reason


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", -1, ["-1", "Min: 0"]),
        ("rate_hz", 0.0, ["0.0", "0.01"]),
        ("rate_hz", float("nan"), ["nan", "0.01"]),
        ("width", 9999, ["9999", "4096"]),
        ("height", "tall", ["STRING", "INTEGER"]),
        ("encoding", "yuv", ["'yuv'", "bgr8, rgb8"]),
        ("distortion", "fisheye", ["'fisheye'", "none, plumb_bob"]),
        ("reliability", "hopeful", ["'hopeful'", "best_effort, reliable"]),
        ("device", "gpu", ["'gpu'", "auto, cpu, cuda"]),
    ],
)
def test_a_bad_value_is_refused_with_its_name(peer: Peer, name: str, value: Any, said: list[str]) -> None:
    with pytest.raises((ParameterException, SettingsError, DeviceError)) as refused:
        HostedCamera(peer, **{name: value})
    for part in (name, *said):
        assert part in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("seed", "-1"), ("encoding", "yuv")])
def test_a_bad_value_ends_the_process_with_one_line(name: str, value: str) -> None:
    command = [sys.executable, "-m", "depth_anything_ros.node.synthetic_camera", "--ros-args", "-p", f"{name}:={value}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    for part in (NODE_NAME, name, value):
        assert part in line


def test_the_parameter_file_is_allowed_and_fits_the_model() -> None:
    nodes = {
        key.rpartition("/")[2]: value["ros__parameters"] for key, value in yaml.safe_load(CONFIG.read_text()).items()
    }
    model = changed(Configuration(), nodes["depth_anything"]).model
    assert set(nodes["depth_anything"]) <= set(parameters.PARAMETERS)
    assert set(nodes[NODE_NAME]) <= set(PARAMETERS)
    assert (model.encoder, model.dataset) == ("vitt", "synthetic")
    assert model.input_size == ENCODERS[model.encoder].input_size


# ---- the process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_process_shows_pictures_until_a_signal_comes(
    start_process: Callable[..., NodeProcess], peer: Peer, number: signal.Signals
) -> None:
    process = start_process(
        module="depth_anything_ros.node.synthetic_camera",
        arguments=("--params-file", str(CONFIG)),
        width=WIDTH,
        height=HEIGHT,
    )
    process.wait_for("showing room 0")
    with listening(peer, process) as inboxes:
        eventually(lambda: whole_shots(inboxes), "a picture")
        seconds = process.end_by(number)
    assert process.process.returncode == 0, process.log()
    assert "Traceback" not in process.log()
    assert "dropped" not in process.log()
    assert "rosout" not in process.log()  # nothing was logged to a context that is gone
    assert seconds < 4


def test_a_big_picture_under_way_does_not_delay_the_end(start_process: Callable[..., NodeProcess], peer: Peer) -> None:
    process = start_process(module="depth_anything_ros.node.synthetic_camera", width=2048, height=2048)
    process.wait_for("showing room 0")
    with peer.listen(Image, process.topic("image"), qos_profile_sensor_data):
        eventually(lambda: peer.node.count_publishers(process.topic("image")), "the camera")
        time.sleep(1.0)
        seconds = process.end_by(signal.SIGINT)
    assert process.process.returncode == 0, process.log()
    assert "Traceback" not in process.log()
    assert seconds < 4
