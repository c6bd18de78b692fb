"""docs/recipes: the real node takes each parameter file, and does what the recipe promises."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from harness import HEIGHT, WIDTH, FakeBackend, HostedNode, Peer, depth_of, eventually, image_message, unique
from recipes import CONFIG, mounted, recipe, xyz
from sensor_msgs.msg import Image, LaserScan, PointCloud2

from depth_anything_ros.node.conversions import camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera

Host = Callable[..., HostedNode]
NODE_FILES = [path for path in sorted((CONFIG / "recipes").glob("*.yaml")) if path.stem != "nav2_costmap"]
TRANSFORMS = {"/tf", "/tf_static", "/clock"}  # which the node listens to where its parameters need them

NOT_IN_EVERY_ROS = "/camera/depth_anything/get_type_description"


@pytest.fixture(scope="module")
def room() -> SyntheticCamera:
    """A camera in a room, with pictures of the size that the network's stand-in takes."""
    return SyntheticCamera(3, width=WIDTH, height=HEIGHT)


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


def test_the_scan_comes_in_the_level_frame(host: Host, peer: Peer, room: SyntheticCamera) -> None:
    frame = room.frame(1.0)
    node = host(FakeBackend(frame.depth), **(recipe("scan") | mounted(room)))
    with node.camera(peer) as camera, peer.listen(LaserScan, node.topic("~/scan")) as scans:
        image = image_message()
        scan = camera.ask(image, scans, camera_to_info(room.model, image.header))
    assert scan.header.frame_id == "camera_level"
    assert np.isfinite(scan.ranges).any()


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
