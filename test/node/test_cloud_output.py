"""The cloud: thinned to voxels, and without what is too low or too high."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness import new_header
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.messages.ranges import points_of
from depth_anything_ros.node.cloud_output import CloudOutput
from depth_anything_ros.node.configuration import Configuration, changed
from depth_anything_ros.node.transforms import Transforms
from depth_anything_ros.settings import CameraSettings

HEIGHT_M, PITCH_RAD = 0.5, 0.3
CAMERAS = {
    "pinhole": CameraModel(60.0, 60.0, 31.5, 23.5, 64, 48),
    "lens": CameraModel(60.0, 60.0, 31.5, 23.5, 64, 48, "plumb_bob", (-0.1, 0.02, 0.001, 0.0)),
}
BGR = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
DOWN = np.array([0.0, math.cos(PITCH_RAD), math.sin(PITCH_RAD)])


class Pose:
    """In the place of tf2's buffer: the optical frame, pitched down, `HEIGHT_M` above a frame as REP 103 has it."""

    def lookup_transform(self, target: str, source: str, *_: Any) -> Any:
        assert (target, source) == ("base", "camera_optical_frame")
        half = (math.pi / 2 + PITCH_RAD) / 2  # about x from z up to the optical axis, then a quarter turn about z
        x, w, quarter = -math.sin(half), math.cos(half), math.sqrt(0.5)
        rotation = SimpleNamespace(x=quarter * x, y=-quarter * x, z=-quarter * w, w=quarter * w)
        return SimpleNamespace(
            transform=SimpleNamespace(translation=SimpleNamespace(x=1.0, y=2.0, z=HEIGHT_M), rotation=rotation)
        )


def output(warnings: list[str] | None = None) -> CloudOutput:
    transforms = Transforms(None, "no TF here")  # type: ignore[arg-type]
    transforms._buffer, transforms._listener = Pose(), object()
    return CloudOutput(None, transforms, (warnings if warnings is not None else []).append)


def floor_and_wall(camera: CameraModel) -> NDArray[np.float32]:
    """Depth of a level floor below the camera, and of a wall 2 m ahead of it where that is nearer."""
    ray_x, ray_y = np.broadcast_arrays(*camera.rays())
    fall = DOWN[0] * ray_x + DOWN[1] * ray_y + DOWN[2]
    floor = np.where(fall > 0, HEIGHT_M / np.maximum(fall, 1e-9), np.inf)
    return np.minimum(floor, 2.0).astype(np.float32)


def cloud(settings: CameraSettings, camera: CameraModel, depth: NDArray[np.float32] | None = None) -> PointCloud2:
    metres = torch.from_numpy(floor_and_wall(camera) if depth is None else depth)
    made = output().make(metres, BGR, new_header(), camera, settings)
    assert made is not None
    received: PointCloud2 = deserialize_message(made.tobytes(), PointCloud2)
    return received


@pytest.mark.parametrize("by_tf", [False, True])
@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_points_below_and_above_the_limits_are_missing(camera: CameraModel, by_tf: bool) -> None:
    known = {"cloud_height_frame": "base"} if by_tf else {"camera_height_m": HEIGHT_M, "camera_pitch_rad": PITCH_RAD}
    settings = CameraSettings(cloud_min_height_m=0.1, cloud_max_height_m=0.6, **known)
    all_points = points_of(cloud(CameraSettings(), camera))
    points = points_of(cloud(settings, camera))
    heights = HEIGHT_M - all_points @ DOWN
    assert heights.min() == pytest.approx(0.0, abs=1e-5)
    assert heights.max() > 0.65
    wanted = all_points[(heights >= 0.1) & (heights <= 0.6)]
    assert 100 < len(wanted) < len(all_points) - 100
    np.testing.assert_array_equal(points, wanted)


def test_the_cloud_stays_organised_and_in_the_cameras_frame() -> None:
    settings = CameraSettings(cloud_min_height_m=0.1, camera_height_m=HEIGHT_M, camera_pitch_rad=PITCH_RAD)
    made = cloud(settings, CAMERAS["pinhole"])
    assert (made.height, made.width, made.is_dense, made.header.frame_id) == (48, 64, False, "camera_optical_frame")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_a_cloud_of_voxels_has_a_centroid_each_in_its_pixels_colour_and_no_nan(
    camera: CameraModel, stride: int
) -> None:
    depth = floor_and_wall(camera)
    depth[3:9, 5:40] = np.nan
    made = cloud(CameraSettings(cloud_voxel_m=0.05, cloud_stride=stride), camera, depth)
    assert (made.height, made.is_dense, made.row_step) == (1, True, made.width * 16)
    fields = np.frombuffer(made.data, np.float32).reshape(-1, 4)
    assert np.isfinite(fields[:, :3]).all()
    whole = camera.back_project(depth, stride=stride).reshape(-1, 3)
    cells = np.floor(whole[np.isfinite(whole).all(axis=1)] * np.float32(20))
    found = np.floor(fields[:, :3] * np.float32(20))
    assert {tuple(cell) for cell in cells} == {tuple(cell) for cell in found}
    assert len(found) < len(cells)
    b, g, r = (BGR[..., i].astype(np.uint32) for i in range(3))
    assert set(fields[:, 3].view(np.uint32)) <= set((r << 16 | g << 8 | b).ravel())


def test_a_height_that_nobody_knows_is_no_cloud_and_a_warning() -> None:
    warnings: list[str] = []
    out = output(warnings)
    out._transforms._buffer = None
    camera = CAMERAS["pinhole"]
    settings = CameraSettings(cloud_min_height_m=0.1, cloud_height_frame="base")
    assert out.make(torch.from_numpy(floor_and_wall(camera)), BGR, new_header(), camera, settings) is None
    assert warnings == ["no cloud: no TF here"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cloud_min_height_m": 0.1}, "need camera_height_m or cloud_height_frame"),
        ({"cloud_min_height_m": 0.5, "cloud_max_height_m": 0.5, "camera_height_m": 1.0}, "must be less than"),
        ({"cloud_voxel_m": -0.1}, "cloud_voxel_m"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        changed(Configuration(), given)
