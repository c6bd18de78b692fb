"""docs/recipes: the real node takes each parameter file, and does what the recipe promises."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from harness import HEIGHT, WIDTH, FakeBackend, HostedNode, Peer, depth_of, eventually, image_message, unique
from numpy.typing import NDArray
from sensor_msgs.msg import Image, LaserScan, PointCloud2

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.conversions import camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera

Host = Callable[..., HostedNode]
CONFIG = Path(__file__).parents[2] / "config"
NODE_FILES = [path for path in sorted((CONFIG / "recipes").glob("*.yaml")) if path.stem != "nav2_costmap"]
TRANSFORMS = {"/tf", "/tf_static", "/clock"}  # which the node listens to where its parameters need them

NOT_IN_EVERY_ROS = "/camera/depth_anything/get_type_description"


def recipe(name: str) -> dict[str, Any]:
    """Parameters of a recipe's file."""
    return dict(yaml.safe_load((CONFIG / f"recipes/{name}.yaml").read_text())["/**"]["ros__parameters"])


@pytest.fixture(scope="module")
def room() -> SyntheticCamera:
    """A camera in a room, with pictures of the size that the network's stand-in takes."""
    return SyntheticCamera(3, width=WIDTH, height=HEIGHT)


def mounted(room: SyntheticCamera) -> dict[str, float]:
    """What a user has to write into the file: how the camera is mounted."""
    return {"camera_pitch_rad": room.way.pitch_rad, "camera_height_m": room.way.height_m}


@pytest.mark.parametrize("file", NODE_FILES, ids=lambda path: path.stem)
def test_the_node_takes_every_parameter_of_a_recipe(file: Path, host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    parameters = recipe(file.stem)
    node = host(**parameters)
    for name, value in parameters.items():
        assert node.node.get_parameter(name).value == value
    assert "there is no parameter" not in capfd.readouterr().err


def test_the_cloud_for_nav2_has_no_floor_and_reaches_as_far_as_it_clears(
    host: Host, peer: Peer, room: SyntheticCamera
) -> None:
    frame, parameters = room.frame(1.0), recipe("nav2") | mounted(room)
    parameters["max_range_m"] = float(np.quantile(frame.depth, 0.8))  # the room is smaller than the recipe's range
    node = host(FakeBackend(frame.depth), **parameters)
    with node.camera(peer) as camera, peer.listen(PointCloud2, node.topic("~/points")) as clouds:
        image = image_message()
        cloud = camera.ask(image, clouds, camera_to_info(room.model, image.header))
    points = xyz(cloud)
    heights = (points @ frame.rotation.T + frame.position)[:, 2]
    assert len(points) > 20
    assert heights.min() > parameters["cloud_min_height_m"] - 0.01
    assert heights.max() < parameters["cloud_max_height_m"] + 0.01
    assert points[:, 2].max() == pytest.approx(parameters["max_range_m"], rel=0.02), "rays that clear"
    costmap = yaml.safe_load((CONFIG / "recipes/nav2_costmap.yaml").read_text())
    source = costmap["local_costmap"]["local_costmap"]["ros__parameters"]["voxel_layer"]["depth_anything"]
    assert source["obstacle_max_range"] < recipe("nav2")["max_range_m"] < source["raytrace_max_range"]
    assert source["min_obstacle_height"] == recipe("nav2")["cloud_min_height_m"]


def xyz(cloud: PointCloud2) -> NDArray[np.float32]:
    """Finite points (N, 3)."""
    data = np.frombuffer(bytes(cloud.data), np.uint8).reshape(-1, cloud.point_step)
    points = np.ascontiguousarray(data[:, :12]).view(np.float32)
    return points[np.isfinite(points).all(axis=1)]


def test_the_scan_comes_in_the_level_frame(host: Host, peer: Peer, room: SyntheticCamera) -> None:
    frame = room.frame(1.0)
    node = host(FakeBackend(frame.depth), **(recipe("scan") | mounted(room)))
    with node.camera(peer) as camera, peer.listen(LaserScan, node.topic("~/scan")) as scans:
        image = image_message()
        scan = camera.ask(image, scans, camera_to_info(room.model, image.header))
    assert scan.header.frame_id == "camera_level"
    assert np.isfinite(scan.ranges).any()


def test_the_bundled_model_sees_true_obstacles_and_the_recipes_picture_shows_them(
    host: Host, peer: Peer, tmp_path: Path
) -> None:
    """One node with both recipes, on a real network; `make screenshots` keeps the picture."""
    room = SyntheticCamera(5_200_010, width=640, height=480)
    frame, both = room.frame(1.0), recipe("scan") | recipe("nav2") | mounted(room)
    node = host(load=lambda settings: DepthEstimator.load("vitt", "synthetic", device="cpu", backend="torch"), **both)
    with (
        node.camera(peer) as camera,
        peer.listen(PointCloud2, node.topic("~/points")) as clouds,
        peer.listen(LaserScan, node.topic("~/scan")) as scans,
    ):
        image = image_message(frame.image_bgr)
        points = xyz(camera.ask(image, clouds, camera_to_info(room.model, image.header)))
        eventually(lambda: len(scans) > 0, "a scan")
    x, y, z = points.T
    u = (room.model.fx * x / z + room.model.cx).round().astype(int)
    v = (room.model.fy * y / z + room.model.cy).round().astype(int)
    inside = (u >= 0) & (u < 640) & (v >= 0) & (v < 480)
    truth = np.minimum(frame.depth[v[inside], u[inside]], both["max_range_m"])
    assert inside.mean() > 0.95
    assert np.median(np.abs(z[inside] / truth - 1)) < 0.1
    folder = Path(os.environ.get("PAGE_SCREENSHOTS", tmp_path)) / "recipes"
    folder.mkdir(exist_ok=True)
    picture = np.hstack([frame.image_bgr, from_above(points, scans.messages[0])])
    assert cv2.imwrite(str(folder / "nav2_and_scan.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


def from_above(points: NDArray[np.float32], scan: LaserScan) -> NDArray[np.uint8]:
    """Draw a cloud in blue and a scan in red, 480x480: the camera is at the bottom, looks up, a metre is 75 pixels."""
    picture = np.full((480, 480, 3), 255, np.uint8)
    for metre in range(1, 7):
        cv2.circle(picture, (240, 470), 75 * metre, (225, 225, 225), 1)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(scan.ranges))
    ranges = np.array(scan.ranges)
    beams = np.stack([-ranges * np.sin(angles), np.zeros_like(ranges), ranges * np.cos(angles)], axis=1)
    for found, color, radius in ((points, (200, 120, 40), 1), (beams[np.isfinite(ranges)], (40, 40, 220), 2)):
        for x, _, z in found:
            cv2.circle(picture, (int(240 + 75 * x), int(470 - 75 * z)), radius, color, -1)
    cv2.circle(picture, (240, 470), 5, (0, 0, 0), -1)
    return picture


def test_depth_for_rgbd_is_registered_and_has_the_images_own_stamp(host: Host, peer: Peer) -> None:
    node = host(FakeBackend(2.0), **recipe("rgbd"))
    with node.camera(peer) as camera, peer.listen(Image, node.topic("~/depth/image")) as depths:
        image = image_message()
        depth = camera.ask(image, depths)
    assert (depth.header, depth.width, depth.height) == (image.header, image.width, image.height)
    assert depth.encoding == "16UC1"
    assert set(np.frombuffer(depth.data, np.uint16)) == {2000}


def test_nodes_of_two_robots_do_not_hear_each_other(host: Host, peer: Peer) -> None:
    one, other = (host(FakeBackend(metres), namespace=unique("robot")) for metres in (1.0, 3.0))
    with (
        one.camera(peer) as camera,
        peer.listen(Image, one.topic("~/depth/image")) as own,
        peer.listen(Image, other.topic("~/depth/image")) as others,
    ):
        depth = camera.ask(image_message(), own)
    assert np.allclose(depth_of(depth), 1.0)
    assert len(others) == 0
    assert other.backend.calls == 0


# SROS2


def in_policy(kind: str, way: str) -> set[str]:
    """Names that config/sros2_policy.xml allows."""
    root = ET.parse(CONFIG / "sros2_policy.xml").getroot()
    [profile] = root.iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/camera", "depth_anything")
    return {
        name.text if name.text.startswith("/") else f"/camera/{name.text}"
        for group in profile.iter(f"{kind}s")
        if group.get(way) == "ALLOW"
        for name in group.iter(kind)
        if name.text
    }


def test_the_sros2_policy_allows_what_the_node_does_and_no_more(host: Host) -> None:
    node = host(namespace="/camera", range_type="LaserScan", range_extrinsics=[0.0] * 6).node
    own = node.get_name(), node.get_namespace()

    def graph() -> dict[tuple[str, str], set[str]]:
        return {
            ("topic", "publish"): {name for name, _ in node.get_publisher_names_and_types_by_node(*own)},
            ("topic", "subscribe"): {name for name, _ in node.get_subscriber_names_and_types_by_node(*own)},
            ("service", "reply"): {name for name, _ in node.get_service_names_and_types_by_node(*own)},
        }

    eventually(lambda: all(graph().values()), "the node in its own graph")
    found = graph()
    found["topic", "subscribe"] |= TRANSFORMS
    for (kind, way), names in found.items():
        allowed = in_policy(kind, way)
        assert names <= allowed
        assert allowed - names <= {NOT_IN_EVERY_ROS}
