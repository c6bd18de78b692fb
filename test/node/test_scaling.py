"""What a range sensor's messages do to one camera's scale, without a node."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField, Range
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.messages.rectification import pinhole_of
from depth_anything_ros.node.conversions import depth_to_image
from depth_anything_ros.node.range_input import RangeInput
from depth_anything_ros.node.scaling import Estimate, Scaling
from depth_anything_ros.node.transforms import Transforms
from depth_anything_ros.scale.fit import ScaleFit
from depth_anything_ros.settings import CameraSettings

CAMERA = CameraModel.from_fov(60.0, 64, 48)
FORWARD = (0.0, 0.0, 0.0, math.pi / 2, -math.pi / 2, 0.0)
FRAMES = 24


class Sensor(RangeInput):
    """A range input whose messages come from a function of time, not from a topic."""

    def __init__(self, message: Callable[[float], Any]) -> None:
        self.topic = "/range"
        self._transforms = Transforms(None, "without TF")  # type: ignore[arg-type]
        self._message = message

    def nearest(self, header: Header, window_s: float) -> Any:
        return self._message(header.stamp.sec + header.stamp.nanosec / 1e9)


def frames(rate_hz: float) -> list[Estimate]:
    """A wall that comes nearer, from 4 m on, seen at half its depth."""
    made = []
    for i in range(FRAMES):
        header = Header(frame_id="camera", stamp=Time(sec=int(i / rate_hz), nanosec=int(i / rate_hz % 1 * 1e9)))
        depth = torch.full((48, 64), (4.0 - 0.05 * i) / 2)
        made.append(Estimate(depth, ("vits_hypersim_518", "0"), "metric", header, CAMERA))
    return made


def beam(field_of_view: float, max_range: float, rate_hz: float) -> Sensor:
    def at(time_s: float) -> Range:
        reading = 4.0 - 0.05 * time_s * rate_hz
        return Range(field_of_view=field_of_view, min_range=0.0, max_range=max_range, range=reading)

    return Sensor(at)


@pytest.mark.parametrize(
    ("field_of_view", "max_range"), [(0.0, 0.0), (0.0, 40.0), (math.radians(0.5), 0.0), (math.radians(2), 12.0)]
)
@pytest.mark.parametrize("rate_hz", [0.5, 2.0, 10.0])
def test_a_single_beams_readings_tell_the_scale_however_slow_the_network_is(
    field_of_view: float, max_range: float, rate_hz: float
) -> None:
    scaling = Scaling(beam(field_of_view, max_range, rate_hz))
    settings = CameraSettings(alignment="range", range_type="Range", range_extrinsics=FORWARD)
    for estimate in frames(rate_hz):
        depth = scaling.apply(estimate, settings)
    assert scaling.state is not None
    assert scaling.state.name == "aligned"
    assert depth is not None
    np.testing.assert_allclose(depth.numpy(), 2 * estimate.depth.numpy(), rtol=0.01)


def absurd_cloud(**changes: int) -> PointCloud2:
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    sizes = {"height": 1, "width": 1, "point_step": 12, "row_step": 12} | changes
    return PointCloud2(fields=fields, data=bytes(12), **sizes)


@pytest.mark.parametrize(
    "changes",
    [
        {"point_step": 2**31},
        {"point_step": 2**32 - 1, "row_step": 2**32 - 1},
        {"width": 2**32 - 1, "height": 2**32 - 1},
        {"height": 2**31, "row_step": 0},
    ],
)
def test_a_cloud_of_absurd_sizes_costs_the_reading_and_not_the_depth(changes: dict[str, int]) -> None:
    scaling = Scaling(Sensor(lambda _: absurd_cloud(**changes)))
    settings = CameraSettings(alignment="range", range_type="PointCloud2", range_extrinsics=FORWARD, scale=1.5)
    estimate = frames(2.0)[0]
    depth = scaling.apply(estimate, settings)
    assert depth is not None
    np.testing.assert_allclose(depth.numpy(), 1.5 * estimate.depth.numpy())
    assert scaling.state is not None
    assert "does not fit into rows" in scaling.state.reason


def test_whatever_a_message_breaks_is_a_refused_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> NDArray[Any]:
        raise OverflowError("Python int too large to convert to C long")

    monkeypatch.setattr("depth_anything_ros.node.range_input.compare", breaks)
    results: list[Any] = []
    scaling = Scaling(beam(0.0, 0.0, 2.0))
    scaling.calibrate(results.append)
    settings = CameraSettings(alignment="range", range_type="Range", range_extrinsics=FORWARD)
    assert scaling.apply(frames(2.0)[0], settings) is not None
    assert scaling.state is not None
    assert scaling.state.reason == (
        "a message on /range cannot be read: OverflowError: Python int too large to convert to C long"
    )
    scaling.give_up("the test ends")
    assert not isinstance(results[0], ScaleFit)


@pytest.mark.parametrize("frame_id", ["camera", "/camera"])
def test_a_sensor_in_the_cameras_frame_needs_no_extrinsics(frame_id: str) -> None:
    points = CAMERA.back_project(frames(2.0)[0].depth.numpy() * 2)
    names = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    cloud = PointCloud2(
        header=Header(frame_id=frame_id), fields=names, height=48, width=64, point_step=12, row_step=768
    )
    cloud.data = points.tobytes()
    scaling = Scaling(Sensor(lambda _: cloud))
    depth = scaling.apply(frames(2.0)[0], CameraSettings(alignment="range", range_type="PointCloud2"))
    assert depth is not None
    np.testing.assert_allclose(depth.numpy(), points[..., 2], rtol=1e-3)


def slanted_wall(camera: CameraModel) -> NDArray[np.float32]:
    """Depth of a wall that runs away to the right, as a camera sees it: z = 3 + 0.9 x."""
    ray_x, _ = np.broadcast_arrays(*camera.rays())
    return np.asarray(3.0 / (1 - 0.9 * ray_x), np.float32)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_depth_cameras_pixels_are_found_in_the_picture_that_was_rectified(factor: int) -> None:
    """It is registered to the raw picture, at any size: pixel by pixel the wall would be somewhere else."""
    raw = replace(CAMERA, distortion_model="plumb_bob", distortion=(-0.3, 0.08, 0.0, 0.0, 0.0))
    pinhole = pinhole_of(raw)
    registered = slanted_wall(raw.scaled_to(raw.width * factor, raw.height * factor))
    scaling = Scaling(Sensor(lambda _: depth_to_image(registered, Header(frame_id="camera"))))
    header = frames(2.0)[0].header
    depth = torch.from_numpy(slanted_wall(pinhole) / 2)
    estimate = Estimate(depth, ("vits_hypersim_518", "0"), "metric", header, pinhole, raw_camera=raw)
    found = scaling.apply(estimate, CameraSettings(alignment="range", range_type="Image"))
    assert found is not None
    np.testing.assert_allclose(found.numpy(), slanted_wall(pinhole), rtol=5e-3)
    assert scaling.state is not None
    assert scaling.state.residual_m == pytest.approx(0.0, abs=0.05)
    assert scaling.state.inlier_share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("frame", "any_frame", "is_used"), [("", False, True), ("depth", False, False), ("depth", True, True)]
)
def test_a_depth_image_of_another_frame_is_not_taken_for_one_that_is_registered(
    frame: str, any_frame: bool, is_used: bool
) -> None:
    wall = slanted_wall(CAMERA)
    scaling = Scaling(Sensor(lambda _: depth_to_image(wall, Header(frame_id=frame))))
    header = frames(2.0)[0].header
    estimate = Estimate(torch.from_numpy(wall / 2), ("vits_hypersim_518", "0"), "metric", header, CAMERA)
    settings = CameraSettings(alignment="range", range_type="Image", camera_info_any_frame=any_frame)
    assert scaling.apply(estimate, settings) is not None
    assert scaling.state is not None
    assert (scaling.state.name == "aligned") == is_used
    if not is_used:
        assert "depth images on /range are of frame 'depth', the images of 'camera'" in scaling.state.reason


def test_a_frame_id_of_a_megabyte_is_shortened_in_the_reason() -> None:
    class Refuses:
        def lookup_transform(self, target: str, source: str, *_: Any) -> Any:
            raise LookupError(f"{source!r} passed to lookupTransform does not exist\n")

    sensor = beam(0.0, 0.0, 2.0)
    sensor._message = lambda _: Range(header=Header(frame_id="x" * 1_000_000), range=2.0)
    sensor._transforms._buffer, sensor._transforms._listener = Refuses(), object()
    scaling = Scaling(sensor)
    scaling.apply(frames(2.0)[0], CameraSettings(alignment="range", range_type="Range"))
    assert scaling.state is not None
    assert scaling.state.reason.startswith("no transform from 'xxx")
    assert len(scaling.state.reason) < 2500
