"""CameraInfo messages of real drivers: each is read, and its rays are those of the lens's own formula."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorded_bags import camera_info, header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.camera_infos import CameraInfos, fields_for

RECORDED = yaml.safe_load((Path(__file__).parents[1] / "data/camera_infos.yaml").read_text())
USABLE = [one for one in RECORDED if "error" not in one]
MAX_OFF_PX = 0.1


def message(one: dict[str, Any]) -> Any:
    fx, fy, cx, cy = one["k"]
    pfx, pfy, pcx, pcy = one.get("p", one["k"])
    return camera_info(
        1,
        header=header(1, one["frame_id"]),
        width=one["size"][0],
        height=one["size"][1],
        distortion_model=one["distortion_model"],
        d=np.array(one["d"], np.float64),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1]),
        r=np.array(one.get("r", np.eye(3).ravel()), np.float64),
        p=np.array([pfx, 0, pcx, 0, 0, pfy, pcy, 0, 0, 0, 1, 0]),
    )


def ray_of(camera: CameraModel, u: int, v: int) -> tuple[float, float]:
    """x/z and y/z of one pixel: that of a picture of one pixel, cut out there."""
    x, y = replace(camera, cx=camera.cx - u, cy=camera.cy - v, width=1, height=1).rays()
    return float(x[0, 0]), float(y[0, 0])


def name_of(one: dict[str, Any]) -> str:
    return str(one["name"])


def test_there_are_many_and_of_every_lens() -> None:
    assert len(RECORDED) >= 24
    assert {one["means"] for one in USABLE} == {"", "plumb_bob", "rational_polynomial", "equidistant"}


@pytest.mark.parametrize("one", USABLE, ids=name_of)
def test_a_drivers_camera_has_the_rays_of_its_lens(one: dict[str, Any]) -> None:
    infos = CameraInfos("/camera_info")
    infos.add(message(one))
    width, height = one["size"]
    _, camera = infos.match(header(1, one["frame_id"]), width, height, rectified=False)
    assert camera.distortion_model == one["means"]
    for sample in one["rays"]:
        x, y = ray_of(camera, *sample["pixel"])
        if sample["ray"] is None:
            assert math.isnan(x)
            continue
        expected_x, expected_y = sample["ray"]
        # A pixel spans less of the ray's slope than 1 / f in the middle, and more towards a fisheye's rim.
        pixel = (1 + expected_x**2 + expected_y**2) / min(camera.fx, camera.fy)
        assert math.hypot(x - expected_x, y - expected_y) < MAX_OFF_PX * pixel


@pytest.mark.parametrize("one", USABLE, ids=name_of)
def test_what_is_published_for_it_reads_as_the_same_camera(one: dict[str, Any]) -> None:
    info = message(one)
    camera = CameraModel.from_camera_info(info)
    published = fields_for(info, camera)
    assert published["distortion_model"] in ("", "plumb_bob", "rational_polynomial", "equidistant")
    assert any(published["r"])
    again = camera_info(1, **{name: published[name] for name in ("width", "height", "distortion_model", "d", "k")})
    assert CameraModel.from_camera_info(again) == camera


@pytest.mark.parametrize("one", [one for one in RECORDED if "error" in one], ids=name_of)
def test_a_driver_that_is_not_ready_is_told_as_such(one: dict[str, Any]) -> None:
    with pytest.raises(CameraError, match=one["error"]):
        CameraModel.from_camera_info(message(one))
