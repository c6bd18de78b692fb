"""Pictures for docs/recipes of what the real node gives, with the bundled model. `make screenshots` keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from harness import HostedNode, Peer, answer, eventually, image_message, new_header
from numpy.typing import NDArray
from recipes import Array, Picture, floor_plan, from_above, from_aside, mounted, put_on_plan, recipe, xyz
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.conversions import bgr_to_image, camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera, camera_rays, expose, render
from depth_anything_ros.synthetic.ray_caster import stack_scenes

Start = Callable[..., HostedNode]
Keep = Callable[[str, Picture], None]
SIZE = (480, 640)
SCALE_PX = 75.0  # of a metre on a plan
ORANGE, BLUE = (40, 130, 240), (200, 120, 40)  # BGR
BLACK: Picture = np.zeros((1, 3), np.uint8)
MAX_BYTES = 150_000


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Write a picture below docs/, or where nobody asked for pictures below a folder of the test."""

    def write(name: str, picture: Picture) -> None:
        file = Path(os.environ.get("PAGE_SCREENSHOTS", tmp_path)) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        assert file.stat().st_size < MAX_BYTES

    return write


@pytest.fixture
def room() -> SyntheticCamera:
    """A furnished room that no training saw."""
    return SyntheticCamera(5_200_010, width=SIZE[1], height=SIZE[0])


@pytest.fixture
def start(host: Start) -> Start:
    """Start the node with the bundled model."""

    def with_model(**parameters: Any) -> HostedNode:
        return host(
            load=lambda _: DepthEstimator.load("vitt", "synthetic", device="cpu", backend="torch"), **parameters
        )

    return with_model


def picture_of(
    scene: SyntheticCamera, model: CameraModel, position: Array, rotation: Array
) -> tuple[Picture, NDArray[np.float32]]:
    """Return what a camera sees of a room that stands anywhere in it: picture and depth."""
    colors, depth = render(stack_scenes([scene.scene]), position, rotation, camera_rays(model))
    shape = (model.height, model.width)
    return expose(colors.reshape(3, *shape), torch.Generator().manual_seed(1)).numpy(), depth.reshape(shape).numpy()


def wall_distance(points: Array, room: SyntheticCamera) -> Array:
    """Metres from world points (N, 3) to the nearest wall."""
    x, y, _ = points.T
    width, length, _ = room.scene.size
    return np.asarray(np.min(np.abs([x, width - x, y, length - y]), axis=0))


def test_the_bundled_model_sees_true_obstacles_and_the_recipes_picture_shows_them(
    start: Start, peer: Peer, room: SyntheticCamera, keep: Keep
) -> None:
    frame, both = room.frame(1.0), recipe("scan") | recipe("nav2") | mounted(room)
    node = start(**both)
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
    keep("recipes/nav2_and_scan.jpg", np.hstack([frame.image_bgr, from_above(points, scans.messages[0])]))


def test_rgbd_consumers_get_a_coloured_cloud_from_colour_depth_and_one_camera_info(
    start: Start, peer: Peer, room: SyntheticCamera, keep: Keep
) -> None:
    frame, node = room.frame(1.0), start(**recipe("rgbd"))
    with (
        node.camera(peer) as camera,
        peer.listen(Image, node.topic("~/depth/image")) as depths,
        peer.listen(CameraInfo, node.topic("~/depth/camera_info")) as infos,
    ):
        image = image_message(frame.image_bgr)
        msg = camera.ask(image, depths, camera_to_info(room.model, image.header))
        info = answer(infos, image)
    depth = np.frombuffer(msg.data, np.uint16).reshape(SIZE).astype(np.float32) / 1000
    v, u = np.nonzero(depth)
    z = depth[v, u]
    points = np.stack([(u - info.p[2]) * z / info.p[0], (v - info.p[6]) * z / info.p[5], z], axis=1, dtype=np.float32)
    assert np.median(np.abs(z / frame.depth[v, u] - 1)) < 0.1
    near = 255 * (1 - np.clip(depth / np.quantile(z, 0.98), 0, 1))
    colored = cv2.applyColorMap(near.astype(np.uint8), cv2.COLORMAP_INFERNO)
    aside = from_aside(points, frame.image_bgr[v, u], SIZE, yaw_rad=0.3, aside_m=1.3)
    keep("recipes/rgbd.jpg", shrunk(np.hstack([frame.image_bgr, colored, aside]), 1260, 315))


def test_octomap_gets_one_point_for_each_voxel(start: Start, peer: Peer, room: SyntheticCamera, keep: Keep) -> None:
    parameters = recipe("octomap")
    frame, node = room.frame(1.0), start(**parameters)
    with node.camera(peer) as camera, peer.listen(PointCloud2, node.topic("~/points")) as clouds:
        image = image_message(frame.image_bgr)
        points = xyz(camera.ask(image, clouds, camera_to_info(room.model, image.header)))
    side = parameters["cloud_voxel_m"]
    voxels = np.unique(np.floor(points / side), axis=0)
    assert len(voxels) > 0.98 * len(points) > 1000, "one point a voxel"
    world = points @ frame.rotation.T + frame.position
    low = world[world[:, 2] < 1.8]  # without the ceiling, which would hide everything
    heights = np.clip(low[:, 2:] / 1.8 * 255, 0, 255).astype(np.uint8)
    plan = floor_plan(room.scene.size, SCALE_PX)
    put_on_plan(plan, low, cv2.applyColorMap(heights, cv2.COLORMAP_TURBO)[:, 0], SCALE_PX, round(side * SCALE_PX / 2))
    put_on_plan(plan, frame.position[None], BLACK, SCALE_PX, 4)
    keep("recipes/octomap.jpg", beside(frame.image_bgr, plan))


def test_clouds_of_two_cameras_meet_in_one_frame(start: Start, peer: Peer, room: SyntheticCamera, keep: Keep) -> None:
    frame, names = room.frame(1.0), ("front", "left")
    to_the_left = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    rotations = (frame.rotation, to_the_left @ frame.rotation)
    node = start(cameras=list(names), max_range_m=8.0, edge_filter=True)
    plan, shown = floor_plan(room.scene.size, SCALE_PX), []
    for name, rotation, color in zip(names, rotations, (ORANGE, BLUE), strict=True):
        seen, depth = picture_of(room, room.model, frame.position, rotation)
        with node.camera(peer, name=name) as camera, peer.listen(PointCloud2, node.topic(f"~/{name}/points")) as clouds:
            image = image_message(seen)
            points = xyz(camera.ask(image, clouds, camera_to_info(room.model, image.header)))
        assert np.median(points[:, 2]) == pytest.approx(np.median(depth), rel=0.1)
        world = points[::7] @ rotation.T + frame.position
        band = world[(world[:, 2] > 0.1) & (world[:, 2] < 1.8)]
        put_on_plan(plan, band, all_of(color, band), SCALE_PX)
        shown.append(cv2.copyMakeBorder(seen[8:-8, 8:-8], 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=color))
    put_on_plan(plan, frame.position[None], BLACK, SCALE_PX, 4)
    keep("recipes/two_cameras.jpg", beside(shrunk(np.vstack(shown), 320, 480), plan))


def test_walls_seen_through_a_fisheye_are_straight(start: Start, peer: Peer, room: SyntheticCamera, keep: Keep) -> None:
    pose, (height, width) = room.frame(1.0), SIZE
    lens = CameraModel(380, 380, 319.5, 239.5, width, height, distortion_model="equidistant", distortion=(0, 0, 0, 0))
    seen, _ = picture_of(room, lens, pose.position, pose.rotation)
    # The bundled model's metres hold for the focal length that it was trained with.
    node = start(undistort=True, undistort_focal_px=room.model.fx, edge_filter=True, color_max_m=6.0)
    with (
        node.camera(peer) as camera,
        peer.listen(PointCloud2, node.topic("~/points")) as clouds,
        peer.listen(Image, node.topic("~/depth/color")) as colors,
    ):
        header = new_header()
        image = bgr_to_image(seen, header)
        points = xyz(camera.ask(image, clouds, camera_to_info(lens, header)))
        color = answer(colors, image)
    world = points @ pose.rotation.T + pose.position
    band = world[(world[:, 2] > 1.6) & (world[:, 2] < room.scene.size[2] - 0.2)]  # above furniture
    assert np.median(wall_distance(band, room)) < 0.2
    plan = floor_plan(room.scene.size, SCALE_PX)
    put_on_plan(plan, band[::3], all_of(BLUE, band[::3]), SCALE_PX)
    put_on_plan(plan, pose.position[None], BLACK, SCALE_PX, 4)
    shown = np.frombuffer(color.data, np.uint8).reshape(*SIZE, 3)
    keep("undistorted.jpg", beside(shrunk(np.hstack([seen, shown]), 960, 360), plan))


def beside(picture: Picture, plan: Picture) -> Picture:
    """Return a picture and a plan of the same height beside each other."""
    height = len(picture)
    return np.hstack([picture, shrunk(plan, round(plan.shape[1] * height / len(plan)), height)])


def shrunk(picture: NDArray[Any], width: int, height: int) -> Picture:
    """Return a picture of another size."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def all_of(color: tuple[int, int, int], points: Array) -> Picture:
    """Return one colour for every point."""
    return np.full((len(points), 3), color, np.uint8)
