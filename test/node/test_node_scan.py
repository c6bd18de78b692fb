"""The node's `~/scan` over real ROS 2: true walls, the right frame, only where somebody listens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from harness import (
    HEIGHT,
    WIDTH,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    answer,
    eventually,
    image_message,
    new_header,
)
from sensor_msgs.msg import Image, LaserScan

from depth_anything_ros.messages.scans import Scan, scan_of
from depth_anything_ros.node.conversions import camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera
from depth_anything_ros.synthetic.ray_caster import nearest, stack_scenes

Host = Callable[..., HostedNode]
LEVEL_FRAME = "camera_level"


@pytest.fixture(scope="module")
def room() -> SyntheticCamera:
    """A camera in a room, with pictures of the size that the network's stand-in takes."""
    return SyntheticCamera(3, width=WIDTH, height=HEIGHT, distortion="plumb_bob")


def of_room(room: SyntheticCamera) -> dict[str, float | str]:
    """How its camera is mounted, as parameters."""
    return {"camera_pitch_rad": room.way.pitch_rad, "camera_height_m": room.way.height_m, "scan_frame": LEVEL_FRAME}


def scan_and_image(node: HostedNode, peer: Peer, room: SyntheticCamera) -> tuple[LaserScan, Image]:
    with node.camera(peer) as camera, peer.listen(LaserScan, node.topic("~/scan")) as scans:
        image = image_message()
        return camera.ask(image, scans, camera_to_info(room.model, image.header)), image


def test_a_scan_measures_the_true_walls(host: Host, peer: Peer, room: SyntheticCamera) -> None:
    frame = room.frame(1.0)
    node = host(FakeBackend(frame.depth), scan_rows=2, min_range_m=0.2, max_range_m=15.0, **of_room(room))
    scan, image = scan_and_image(node, peer, room)
    assert (scan.header.stamp, scan.header.frame_id) == (image.header.stamp, LEVEL_FRAME)
    assert (scan.range_min, scan.range_max, scan.time_increment) == (np.float32(0.2), 15.0, 0.0)
    count = len(scan.ranges)
    assert (scan.angle_max - scan.angle_min) / scan.angle_increment == pytest.approx(count - 1, abs=1e-3)
    heading = math.atan2(frame.rotation[1, 2], frame.rotation[0, 2])
    angles = heading + scan.angle_min + scan.angle_increment * np.arange(count)
    direction = np.stack([np.cos(angles), np.sin(angles), np.full(count, 1e-9)]).astype(np.float32)
    position = torch.from_numpy(frame.position)[:, None, None]
    truth, _ = nearest(stack_scenes([room.scene]), position, torch.from_numpy(direction)[:, None])
    off = np.abs(np.array(scan.ranges) / truth[0].numpy() - 1)
    assert np.quantile(off, 0.9) < 0.03  # a beam of this small picture is 0.8 degrees wide


def test_a_scan_of_heights_leaves_the_floor_out(host: Host, peer: Peer, room: SyntheticCamera) -> None:
    frame = room.frame(1.0)
    heights: dict[str, Any] = {"scan_min_height_m": 0.1, "scan_max_height_m": 0.6}
    node = host(FakeBackend(frame.depth), **of_room(room), **heights)
    scan, _ = scan_and_image(node, peer, room)
    points = room.model.back_project(frame.depth) @ frame.rotation.T + frame.position
    inside = points[(points[..., 2] > 0.1) & (points[..., 2] < 0.6)]
    assert np.nanmin(scan.ranges) == pytest.approx(np.hypot(*(inside - frame.position)[:, :2].T).min(), rel=1e-3)


def test_the_frame_of_a_level_camera_is_its_body_s(host: Host, peer: Peer, room: SyntheticCamera) -> None:
    scan, image = scan_and_image(host(), peer, room)
    assert image.header.frame_id == "camera_optical_frame"
    assert scan.header.frame_id == "camera_frame"
    assert scan.range_max == 20.0  # the model's own


def test_a_scan_whose_frame_cannot_be_told_is_not_published(
    host: Host, peer: Peer, room: SyntheticCamera, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host(camera_pitch_rad=0.2)
    with (
        node.camera(peer) as camera,
        peer.listen(LaserScan, node.topic("~/scan")) as scans,
        peer.listen(Image, node.topic("~/depth/image")) as depths,
    ):
        for _ in range(2):
            image = image_message()
            camera.ask(image, depths, camera_to_info(room.model, image.header))
        with node.diagnostics(peer) as report:
            eventually(lambda: "no scan: set scan_frame to the frame at the camera's" in report()[1], "a warning")
        assert node.set(peer, scan_frame="level")[0].successful
        image = image_message()
        scan = camera.ask(image, scans, camera_to_info(room.model, image.header))
    assert scan.header.frame_id == "level"
    assert [msg.header.frame_id for msg in scans.messages] == ["level"]
    assert capfd.readouterr().err.count("no scan: set scan_frame") == 1


def test_nothing_is_computed_where_nobody_listens(
    host: Host, peer: Peer, room: SyntheticCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def counted(*given: Any) -> Scan:
        made.append(given)
        return scan_of(*given)

    monkeypatch.setattr("depth_anything_ros.node.scan_output.scan_of", counted)
    node = host()

    def ask(inbox: Inbox) -> Any:
        header = new_header()
        image = image_message()
        image.header = header
        camera.ask(image, inbox, camera_to_info(room.model, header))
        return answer(inbox, image)

    with node.camera(peer) as camera:
        with peer.listen(Image, node.topic("~/depth/image")) as depths:
            ask(depths)
        assert made == []
        with peer.listen(LaserScan, node.topic("~/scan")) as scans:
            ask(scans)
    assert len(made) >= 1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"scan_max_height_m": 0.5}, "scan_max_height_m is 0.5; it needs camera_height_m"),
        (
            {"scan_max_height_m": 0.1, "camera_height_m": 0.5},
            "scan_min_height_m is 0.1; it must be less than scan_max_height_m, 0.1",
        ),
    ],
)
def test_heights_that_make_no_band_are_refused(host: Host, peer: Peer, parameters: dict[str, Any], said: str) -> None:
    result = host(autostart=False).set_together(peer, **parameters)
    assert not result.successful
    assert said in result.reason
