"""Rectified pictures: straight is straight, nothing is made up at the rim, and walls are where they are."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.rectification import (
    Rectification,
    _maps,
    rectification_of,
    why_rectify,
    widest_pinhole,
)
from depth_anything_ros.synthetic.camera import SyntheticCamera

BARREL = CameraModel(300.0, 305.0, 322.0, 236.0, 640, 480, "plumb_bob", (-0.28, 0.07, 0.0004, -0.0003, 0.0))
PINCUSHION = CameraModel(500.0, 500.0, 319.5, 239.5, 640, 480, "plumb_bob", (0.12, 0.02, 0.0, 0.0, 0.0))
FISHEYE = CameraModel(280.0, 280.0, 319.5, 239.5, 640, 480, "equidistant", (-0.02, 0.004, -0.002, 0.0003))
PINHOLE = CameraModel(500.0, 500.0, 319.5, 239.5, 640, 480)
CAMERAS = {"barrel": BARREL, "pincushion": PINCUSHION, "fisheye": FISHEYE, "pinhole": PINHOLE}


@pytest.mark.parametrize("name", CAMERAS)
def test_the_view_is_the_largest_without_holes(name: str) -> None:
    camera = CAMERAS[name]
    pinhole = widest_pinhole(camera)
    assert (pinhole.width, pinhole.height, pinhole.cx, pinhole.cy) == (640, 480, camera.cx, camera.cy)
    assert pinhole.distortion_model == ""
    assert pinhole.fx / pinhole.fy == pytest.approx(camera.fx / camera.fy)
    whole = np.stack(_maps(camera, pinhole))
    size = np.array([640, 480])[:, None, None]
    assert whole.min() >= -0.51
    assert (whole <= size - 1 + 0.51).all(), "no pixel from outside the picture"
    wider = CameraModel(0.98 * pinhole.fx, 0.98 * pinhole.fy, pinhole.cx, pinhole.cy, 640, 480)
    beyond = np.stack(_maps(camera, wider))
    assert ((beyond < -0.5) | (beyond > size - 0.5)).any(), "a wider view would have holes"


def test_a_pinholes_picture_stays_as_it_is() -> None:
    rectification = Rectification(PINHOLE)
    assert rectification.camera.fx == pytest.approx(PINHOLE.fx, rel=2e-3)  # half a pixel at the rim
    ramp = np.broadcast_to((np.arange(640) * 0.3).astype(np.uint8)[None, :, None], (480, 640, 3)).copy()
    assert np.abs(rectification(ramp).astype(int) - ramp).max() <= 1
    assert rectification_of(PINHOLE) is rectification_of(PINHOLE), "made once for a camera"


def test_walls_are_where_they_are_within_a_hundredth() -> None:
    camera = SyntheticCamera(3, distortion="plumb_bob")
    frame, model = camera.frame(), camera.model
    rectification = Rectification(model)
    maps = _maps(model, rectification.camera)
    depth: NDArray[np.float32] = np.asarray(cv2.remap(frame.depth, *maps, cv2.INTER_NEAREST), np.float32)
    points = rectification.camera.back_project(depth)
    # The same pixels of the raw picture, through the lens model.
    u, v = (np.rint(each).astype(int) for each in maps)
    expected = model.back_project(frame.depth)[v.clip(0, model.height - 1), u.clip(0, model.width - 1)]
    off = np.linalg.norm(points - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.isfinite(off).mean() > 0.99
    assert np.nanpercentile(off, 99) <= 0.01


def test_straight_lines_become_straight() -> None:
    """Points of a line in space, drawn where the lens shows them, are on one line in the rectified picture."""
    rectification = Rectification(BARREL)
    picture = np.zeros((480, 640, 3), np.uint8)
    rays = np.stack([np.linspace(-0.6, 0.6, 4000), np.full(4000, 0.35), np.ones(4000)], axis=-1)
    K = np.array([[BARREL.fx, 0, BARREL.cx], [0, BARREL.fy, BARREL.cy], [0, 0, 1]])
    pixels, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, np.array(BARREL.distortion))
    for u, v in np.rint(np.asarray(pixels).reshape(-1, 2)).astype(int):
        if 0 <= u < 640 and 0 <= v < 480:
            picture[v, u] = 255
    rows, columns = np.nonzero(rectification(picture)[..., 0] > 60)
    line = np.polyfit(columns, rows, 1)
    assert np.abs(np.polyval(line, columns) - rows).max() <= 2.0
    assert math.isclose(line[0], 0.0, abs_tol=0.01)


def test_a_lens_that_cannot_be_rectified_says_so() -> None:
    absurd = CameraModel(300.0, 300.0, 5000.0, 239.5, 640, 480, "plumb_bob", (-0.2, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(CameraError, match="no view of this lens"):
        Rectification(absurd)


def test_a_lens_that_bends_much_is_told_from_one_that_does_not() -> None:
    """For metres that follow from a focal length."""
    mild = replace(PINHOLE, distortion_model="plumb_bob", distortion=(-0.05, 0.0, 0.0, 0.0, 0.0))
    assert (why_rectify(PINHOLE), why_rectify(mild)) == ("", "")
    at_edge = 320 / 280  # the angle of the ray there, in radians, but for the coefficients
    assert FISHEYE.bend_at_edge() == pytest.approx(math.tan(at_edge) / at_edge - 1, rel=0.2)
    for camera in (BARREL, FISHEYE):
        assert "metres follow from the focal length of a pinhole, and this lens bends rays by" in why_rectify(camera)
    nowhere = replace(FISHEYE, fx=100.0, fy=100.0)  # its rim looks to the side and back
    assert "bends rays out of the picture" in why_rectify(nowhere)
