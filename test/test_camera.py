"""CameraModel: what a CameraInfo says, and where the points go, against cv2's own projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bridge.client.photo_cameras import Cameras
from depth_anything_ros.camera import CameraModel, image_size
from depth_anything_ros.errors import CameraError
from depth_anything_ros.offline.given_camera import GivenCamera

PINHOLE = CameraModel(50.0, 60.0, 31.5, 23.25, 64, 48)
# Each lens model with a mild lens that has a ray for every pixel.
LENSES: dict[str, tuple[str, tuple[float, ...]]] = {
    "plumb_bob": ("plumb_bob", (-0.12, 0.03, 0.001, -0.002, 0.004)),
    "plumb_bob, pincushion": ("plumb_bob", (0.2, 0.05, 0.0, 0.0, 0.0)),
    "plumb_bob of 4": ("plumb_bob", (-0.1, 0.01, 0.003, 0.001)),
    "rational_polynomial": ("rational_polynomial", (0.3, -0.1, 0.001, 0.0005, 0.01, 0.5, -0.05, 0.02)),
    "thin prism": ("rational_polynomial", (0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0, 0.01, 0.002, -0.01, 0.001)),
    "tilted": ("rational_polynomial", (0.1, 0.0, 0.0, 0.0, 0.0, 0.2, *(0.0,) * 6, 0.02, -0.03)),
    "equidistant": ("equidistant", (0.05, -0.01, 0.003, -0.0005)),
    "ideal fisheye": ("equidistant", (0.0, 0.0, 0.0, 0.0)),
}
each_lens = pytest.mark.parametrize("lens", LENSES)


def with_lens(lens: str) -> CameraModel:
    model, coefficients = LENSES[lens]
    return replace(PINHOLE, distortion_model=model, distortion=coefficients)


def matrix(camera: CameraModel) -> NDArray[np.float64]:
    return np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])


def project(camera: CameraModel, points: NDArray[Any]) -> NDArray[np.float64]:
    """Points (..., 3) -> pixels (..., 2), as cv2 sees them through this lens."""
    K, D, zero = matrix(camera), np.array(camera.distortion), np.zeros(3)
    flat = points.reshape(-1, 1, 3).astype(np.float64)
    if camera.distortion_model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(flat, zero, zero, K, D)
    else:
        pixels, _ = cv2.projectPoints(flat, zero, zero, K, D)
    return np.asarray(pixels, np.float64).reshape(*points.shape[:-1], 2)


def pixel_grid(camera: CameraModel) -> NDArray[np.float64]:
    """(H, W, 2): u and v of every pixel."""
    return np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).astype(np.float64)


def slanted_plane(camera: CameraModel) -> NDArray[np.float32]:
    grid = pixel_grid(camera)
    return np.asarray(1.5 + 0.02 * grid[..., 0] + 0.03 * grid[..., 1], np.float32)


# ---- pinhole


def test_pinhole_points_are_the_closed_form() -> None:
    depth = slanted_plane(PINHOLE)
    points = PINHOLE.back_project(depth)
    u, v = np.moveaxis(pixel_grid(PINHOLE), -1, 0)
    expected = np.stack([(u - 31.5) / 50 * depth, (v - 23.25) / 60 * depth, depth], axis=-1)
    assert points.shape == (48, 64, 3)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, expected, rtol=1e-5, atol=1e-6)


finite = st.floats(-1e4, 1e4)
focal = st.floats(1.0, 1e4)


@given(fx=focal, fy=focal, cx=finite, cy=finite, z=st.floats(0.01, 1000))
def test_pinhole_points_project_back_onto_their_pixels(fx: float, fy: float, cx: float, cy: float, z: float) -> None:
    camera = CameraModel(fx, fy, cx, cy, 7, 5)
    x, y, depth = np.moveaxis(camera.back_project(np.full((5, 7), z, np.float32)).astype(np.float64), -1, 0)
    pixels = np.stack([fx * x / depth + cx, fy * y / depth + cy], axis=-1)
    np.testing.assert_allclose(pixels, pixel_grid(camera), atol=1e-5 * (1 + abs(cx) + abs(cy)))


def test_axes_are_those_of_the_optical_frame() -> None:
    points = PINHOLE.back_project(np.ones((48, 64), np.float32))
    assert points[0, 0, 0] < 0 < points[0, 63, 0]  # x to the right
    assert points[0, 0, 1] < 0 < points[47, 0, 1]  # y down
    assert (points[..., 2] == 1).all()  # z along the axis, not the length of the ray


@pytest.mark.parametrize("lens", ["", *LENSES])
@pytest.mark.parametrize("stride", [1, 2, 3, 7, 100])
def test_stride_takes_every_nth_row_and_column(lens: str, stride: int) -> None:
    camera = with_lens(lens) if lens else PINHOLE
    depth = slanted_plane(camera)
    expected = camera.back_project(depth)[::stride, ::stride]
    points = camera.back_project(depth, stride=stride)
    if lens:  # inverted for these pixels alone
        np.testing.assert_allclose(points, expected, rtol=0, atol=3e-4)
    else:
        np.testing.assert_array_equal(points, expected)
    assert points.shape == (math.ceil(48 / stride), math.ceil(64 / stride), 3)


@pytest.mark.parametrize("lens", ["", *LENSES])
@pytest.mark.parametrize("stride", [1, 4])
def test_torch_and_numpy_agree(lens: str, stride: int) -> None:
    camera = with_lens(lens) if lens else PINHOLE
    depth = slanted_plane(camera)
    points = camera.back_project(torch.from_numpy(depth), stride=stride)
    assert isinstance(points, torch.Tensor)
    assert points.dtype == torch.float32
    np.testing.assert_allclose(points.numpy(), camera.back_project(depth, stride=stride), rtol=1e-6)


def test_points_are_written_into_a_strided_buffer() -> None:
    cloud = np.zeros((48, 64, 4), np.float32)  # x, y, z, rgb
    depth = slanted_plane(PINHOLE)
    out = cloud[..., :3]
    assert PINHOLE.back_project(depth, out=out) is out
    np.testing.assert_array_equal(cloud[..., :3], PINHOLE.back_project(depth))
    assert (cloud[..., 3] == 0).all()
    tensor = torch.zeros(48, 64, 4)
    PINHOLE.back_project(torch.from_numpy(depth), out=tensor[..., :3])
    np.testing.assert_allclose(tensor.numpy(), cloud, rtol=1e-6)


def test_depth_of_other_types_gives_float32_points() -> None:
    for dtype in (np.float16, np.float64):
        assert PINHOLE.back_project(np.ones((48, 64), dtype)).dtype == np.float32
    assert PINHOLE.back_project(torch.ones(48, 64, dtype=torch.float16)).dtype == torch.float32


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("camera", [PINHOLE, replace(PINHOLE, cx=6.0, cy=5.0)], ids=["beside", "on the axis"])
def test_pixels_without_depth_give_no_finite_point_and_no_warning(camera: CameraModel, missing: float) -> None:
    depth = np.ones((48, 64), np.float32)
    depth[5, 6] = missing
    points = camera.back_project(depth)
    assert not np.isfinite(points[5, 6]).any()
    points[5, 6] = 0
    assert np.isfinite(points).all()


@pytest.mark.parametrize("shape", [(64, 48), (48, 63), (48,), (1, 48, 64)])
def test_depth_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CameraError, match=r"this camera's images are \(48, 64\)"):
        PINHOLE.back_project(np.ones(shape, np.float32))


# ---- a field of view


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (500, 500), (641, 3)])
def test_a_field_of_view_spans_the_longer_side_from_edge_to_edge(width: int, height: int) -> None:
    camera = CameraModel.from_fov(60.0, width, height)
    edge, middle = (max(width, height) - 0.5), max(camera.cx, camera.cy)
    assert math.degrees(2 * math.atan((edge - middle) / camera.fx)) == pytest.approx(60.0)
    assert camera == CameraModel(camera.fx, camera.fx, (width - 1) / 2, (height - 1) / 2, width, height)


def test_a_portrait_picture_has_the_focal_length_of_the_same_camera_in_landscape() -> None:
    assert CameraModel.from_fov(70.0, 480, 640).fx == CameraModel.from_fov(70.0, 640, 480).fx


def test_predict_and_the_client_guess_the_same_camera_of_a_portrait_picture() -> None:
    guessed = CameraModel.from_fov(60.0, 480, 640)
    assert GivenCamera(fov_deg=60.0).of_picture(480, 640).model == Cameras(None, None).of(480, 640) == guessed


@pytest.mark.parametrize("fov_deg", [0.0, -1.0, 5e-324, 180.0, math.nan, math.inf])
def test_an_impossible_field_of_view_is_refused(fov_deg: float) -> None:
    with pytest.raises(CameraError, match="between 0 and 180 degrees"):
        CameraModel.from_fov(fov_deg, 640, 480)


# ---- lenses


@each_lens
def test_points_seen_through_the_lens_fall_on_their_pixels(lens: str) -> None:
    camera = with_lens(lens)
    points = camera.back_project(slanted_plane(camera))
    assert np.isfinite(points).all()
    np.testing.assert_array_equal(points[..., 2], slanted_plane(camera))
    np.testing.assert_allclose(project(camera, points), pixel_grid(camera), atol=0.01)


@each_lens
def test_the_lens_changes_the_points(lens: str) -> None:
    camera = with_lens(lens)
    depth = slanted_plane(camera)
    assert np.abs(camera.back_project(depth) - PINHOLE.back_project(depth)).max() > 0.005


coefficient = st.floats(-0.3, 0.3)
small = st.floats(-0.01, 0.01)


@given(k1=coefficient, k2=coefficient, p1=small, p2=small, k3=coefficient, f=st.floats(15, 200))
def test_any_ray_that_is_given_is_right(k1: float, k2: float, p1: float, p2: float, k3: float, f: float) -> None:
    camera = CameraModel(f, f, 15.5, 11.5, 32, 24, "plumb_bob", (k1, k2, p1, p2, k3))
    ray_x, ray_y = camera.rays()
    given_one = np.isfinite(ray_x)
    np.testing.assert_array_equal(given_one, np.isfinite(ray_y))
    rays = np.stack([ray_x, ray_y, np.ones_like(ray_x)], axis=-1)
    off_px = np.linalg.norm(project(camera, rays) - pixel_grid(camera), axis=-1)
    assert (off_px[given_one] < 0.15).all()


def test_pixels_that_the_lens_model_cannot_reach_have_no_ray() -> None:
    """r (1 + k1 r^2) grows up to r = 1 / sqrt(-3 k1) only; pixels further out are seen by no ray."""
    k1 = -0.3
    camera = CameraModel(30.0, 30.0, 31.5, 23.5, 64, 48, "plumb_bob", (k1, 0.0, 0.0, 0.0))
    turning = 1 / math.sqrt(-3 * k1)
    furthest_px = 30.0 * turning * (1 + k1 * turning**2)
    radius_px = np.hypot(*np.moveaxis(pixel_grid(camera) - (31.5, 23.5), -1, 0))
    ray_x, ray_y = camera.rays()
    assert np.isnan(ray_x[radius_px > furthest_px + 0.2]).all()
    assert np.isfinite(ray_x[radius_px < furthest_px - 1.0]).all()
    assert np.nanmax(np.hypot(ray_x, ray_y)) < turning * 1.05, "the ray must be the one on this side of the turn"


def test_pixels_without_a_ray_give_points_of_nan_and_never_wrong_ones() -> None:
    camera = CameraModel(30.0, 30.0, 31.5, 23.5, 64, 48, "plumb_bob", (-0.3, 0.0, 0.0, 0.0))
    blind = np.isnan(camera.rays()[0])
    assert blind.any()
    depth = np.ones((48, 64), np.float32)
    for points in (camera.back_project(depth), camera.back_project(torch.from_numpy(depth)).numpy()):
        assert np.isnan(points[blind]).all()
        assert np.isfinite(points[~blind]).all()


def test_a_fisheye_pixel_behind_the_image_plane_has_no_ray() -> None:
    camera = CameraModel(20.0, 20.0, 49.5, 49.5, 100, 100, "equidistant", (0.0,) * 4)
    angle = np.hypot(*np.moveaxis(pixel_grid(camera) - 49.5, -1, 0)) / 20  # theta = r / f
    ray_x, ray_y = camera.rays()
    assert np.isnan(ray_x[angle > math.radians(89.5)]).all()
    seen = angle < math.radians(85)
    np.testing.assert_allclose(np.hypot(ray_x, ray_y)[seen], np.tan(angle[seen]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("strip", [1, 64, 200, 64 * 47])
def test_rays_are_the_same_however_many_pixels_are_computed_at_a_time(
    strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = with_lens("tilted")
    expected = camera.rays()
    monkeypatch.setattr("depth_anything_ros.camera.rays.CHUNK_PIXELS", strip)
    cut = replace(camera, cx=camera.cx + 1e-9).rays()  # another camera, which was not worked out yet
    np.testing.assert_allclose(cut, expected, atol=1e-6)


WIDE = CameraModel(403.98, 404.71, 871.2, 597.4, 1640, 1232, "equidistant", (0.175653, -0.031772, 0.000362, -0.000719))


def angle_of(camera: CameraModel, pixel: tuple[float, float]) -> float:
    """theta of a fisheye's pixel, in radians, by bisection up to 90 degrees; infinite beyond."""
    theta_d = math.hypot((pixel[0] - camera.cx) / camera.fx, (pixel[1] - camera.cy) / camera.fy)

    def distorted(theta: float) -> float:
        return float(theta * (1 + sum(k * theta ** (2 * i + 2) for i, k in enumerate(camera.distortion))))

    low, high = 0.0, math.pi / 2
    if theta_d > distorted(high):
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if distorted(middle) < theta_d else (low, middle)
    return low


@pytest.mark.parametrize("u", [871, 1000, 1300, 1500, 1520, 1560, 1600, 1639])
def test_a_wide_fisheye_has_a_ray_wherever_it_looks_ahead(u: int) -> None:
    """Its polynomial grows up to 90 degrees, where theta_d is 1.91, more than pi / 2."""
    ray_x, ray_y = (ray[597, u] for ray in WIDE.rays())
    angle = angle_of(WIDE, (u, 597))
    assert math.hypot(ray_x, ray_y) == pytest.approx(math.tan(angle), rel=1e-3, abs=1e-4)


def test_a_wide_fisheye_loses_no_pixel_below_89_degrees_and_has_none_behind() -> None:
    theta_d = np.hypot((np.arange(1640) - WIDE.cx) / WIDE.fx, ((np.arange(1232) - WIDE.cy) / WIDE.fy)[:, None])
    missing = np.isnan(WIDE.rays()[0])
    assert not missing[theta_d < 1.894].any()  # theta_d of 89 degrees
    assert missing[theta_d > 1.9144].all()  # theta_d of 90 degrees
    assert missing.mean() == pytest.approx(0.176, abs=0.001)  # 0.378 where theta_d ends at pi / 2


def test_a_fisheye_polynomial_that_folds_back_ends_where_it_stops_to_grow() -> None:
    camera = CameraModel(30.0, 30.0, 49.5, 49.5, 100, 100, "equidistant", (-0.3, 0.0, 0.0, 0.0))
    turning = 1 / math.sqrt(3 * 0.3)
    furthest_px = 30.0 * turning * (1 - 0.3 * turning**2)
    radius_px = np.hypot(*np.moveaxis(pixel_grid(camera) - 49.5, -1, 0))
    ray_x, ray_y = camera.rays()
    assert np.isnan(ray_x[radius_px > furthest_px]).all()
    assert np.isfinite(ray_x[radius_px < furthest_px]).all()
    assert np.nanmax(np.arctan(np.hypot(ray_x, ray_y))) <= turning + 1e-6


@pytest.mark.parametrize("lens", ["", *LENSES])
def test_rays_are_worked_out_once_and_cannot_be_changed(lens: str) -> None:
    camera = with_lens(lens) if lens else PINHOLE
    ray_x, ray_y = camera.rays()
    again = replace(camera).rays()  # an equal camera, as every message brings a new one
    assert ray_x is again[0]
    assert ray_y is again[1]
    assert ray_x.dtype == ray_y.dtype == np.float32
    assert np.broadcast_shapes(ray_x.shape, ray_y.shape) == (48, 64)
    for ray in (ray_x, ray_y):
        with pytest.raises(ValueError, match="read-only"):
            ray[0, 0] = 1


# ---- numbers that are no camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fx": math.nan}, "finite"),
        ({"cy": math.inf}, "finite"),
        ({"distortion_model": "plumb_bob", "distortion": (math.nan, 0, 0, 0)}, "finite"),
        ({"fx": 0.0}, "focal lengths must be positive, got fx=0"),
        ({"fy": -3.0}, "fy=-3"),
        ({"width": 0}, "image size must be positive, got 0x48"),
        ({"height": -1}, "got 64x-1"),
        ({"distortion_model": "kannala"}, "unknown distortion model 'kannala'; known: plumb_bob, rational_polynomial"),
        ({"distortion_model": "plumb_bob", "distortion": (0.1,)}, r"takes \(0, 4, 5\) coefficients, got 1"),
        ({"distortion_model": "equidistant", "distortion": (0.1,) * 5}, r"takes \(4,\) coefficients, got 5"),
        ({"distortion": (0.1,)}, r"'' takes \(0,\) coefficients, got 1"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CameraError, match=message):
        replace(PINHOLE, **change)


@pytest.mark.parametrize(("model", "count"), [("plumb_bob", 0), ("plumb_bob", 5), ("rational_polynomial", 14)])
def test_a_lens_that_does_nothing_is_a_pinhole(model: str, count: int) -> None:
    depth = slanted_plane(PINHOLE)
    camera = replace(PINHOLE, distortion_model=model, distortion=(0.0,) * count)
    np.testing.assert_allclose(camera.back_project(depth), PINHOLE.back_project(depth), rtol=1e-5, atol=1e-6)


# ---- CameraInfo


@dataclass
class Roi:
    x_offset: int = 0
    y_offset: int = 0
    width: int = 0
    height: int = 0


@dataclass
class Info:
    """The fields of sensor_msgs/CameraInfo that are read."""

    width: int = 640
    height: int = 480
    distortion_model: str = "plumb_bob"
    d: Sequence[float] = (0.0,) * 5
    k: Sequence[float] = (500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0)
    p: Sequence[float] = (450.0, 0.0, 310.0, -45.0, 0.0, 455.0, 235.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    binning_x: int = 0
    binning_y: int = 0
    roi: Roi = field(default_factory=Roi)


def test_k_and_d_describe_a_raw_image() -> None:
    info = Info(d=(-0.1, 0.01, 0.0, 0.0, 0.0))
    expected = CameraModel(500, 510, 320, 240, 640, 480, "plumb_bob", (-0.1, 0.01, 0.0, 0.0, 0.0))
    assert CameraModel.from_camera_info(info) == expected


def test_p_describes_a_rectified_image_and_has_no_distortion() -> None:
    info = Info(d=(-0.1, 0.01, 0.0, 0.0, 0.0))
    assert CameraModel.from_camera_info(info, rectified=True) == CameraModel(450, 455, 310, 235, 640, 480)


def test_k_describes_a_rectified_image_where_p_is_left_out_and_there_is_no_distortion() -> None:
    no_p = Info(p=(0.0,) * 12)
    assert CameraModel.from_camera_info(no_p, rectified=True) == CameraModel(500, 510, 320, 240, 640, 480)
    with pytest.raises(CameraError, match=r"uncalibrated: P\[0\]"):
        CameraModel.from_camera_info(replace(no_p, d=(-0.1, 0.01, 0.0, 0.0, 0.0)), rectified=True)


@pytest.mark.parametrize("model", ["plumb_bob", "", "some_other"])
def test_coefficients_that_are_all_zero_are_no_distortion(model: str) -> None:
    for d in ((), (0.0,) * 5):
        assert CameraModel.from_camera_info(Info(distortion_model=model, d=d)).distortion_model == ""
    with pytest.raises(CameraError, match="distortion model"):
        CameraModel.from_camera_info(Info(distortion_model="some_other", d=(0.1,)))


def test_fisheye_coefficients_that_are_all_zero_are_still_a_fisheye() -> None:
    info = Info(distortion_model="equidistant", d=(0.0,) * 4)
    assert CameraModel.from_camera_info(info).distortion_model == "equidistant"
    assert CameraModel.from_camera_info(info, rectified=True).distortion_model == ""
    assert CameraModel.from_camera_info(replace(info, d=())).distortion_model == ""


RADIAL = (-0.3, 0.1, 0.001, 0.002)
RATIONAL = (0.5, -0.1, 0.001, 0.002, 0.03, 0.8, -0.2, 0.1)


@pytest.mark.parametrize(
    ("name", "d", "model", "read"),
    [
        ("plumb_bob", (*RADIAL, 0.03, 0.0, 0.0, 0.0), "plumb_bob", (*RADIAL, 0.03)),
        ("plumb_bob", (*RADIAL, 0.0, 0.0, 0.0, 0.0), "plumb_bob", RADIAL),
        ("plumb_bob", RATIONAL, "rational_polynomial", RATIONAL),
        ("plumb_bob", (-0.3, 0.1), "plumb_bob", (-0.3, 0.1, 0.0, 0.0)),
        ("rational_polynomial", (*RADIAL, 0.03), "rational_polynomial", (*RADIAL, 0.03, 0.0, 0.0, 0.0)),
        ("rational_polynomial", (*RATIONAL, 0.0), "rational_polynomial", RATIONAL),
        ("", (*RADIAL, 0.03), "plumb_bob", (*RADIAL, 0.03)),
        ("", RATIONAL, "rational_polynomial", RATIONAL),
        ("radtan", RADIAL, "plumb_bob", RADIAL),
        ("Radial-Tangential", RADIAL, "plumb_bob", RADIAL),
        ("PLUMB BOB", RADIAL, "plumb_bob", RADIAL),
        ("fisheye", (0.1, 0.01, 0.0, 0.0), "equidistant", (0.1, 0.01, 0.0, 0.0)),
        ("FISHEYE", (0.1, 0.01), "equidistant", (0.1, 0.01, 0.0, 0.0)),
        ("equidistant", (0.1, 0.01, 0.0, 0.02, 0.0), "equidistant", (0.1, 0.01, 0.0, 0.02)),
        ("fisheye", (0.0,) * 4, "equidistant", (0.0,) * 4),
        ("none", (), "", ()),
    ],
)
def test_a_lens_is_read_under_the_names_and_counts_that_drivers_use(
    name: str, d: tuple[float, ...], model: str, read: tuple[float, ...]
) -> None:
    camera = CameraModel.from_camera_info(Info(distortion_model=name, d=d))
    assert (camera.distortion_model, camera.distortion) == (model, read)


@pytest.mark.parametrize(("name", "d"), [("", RADIAL), ("fisheye", (0.1,) * 5), ("rational_polynomial", (0.1,) * 15)])
def test_coefficients_without_a_plain_meaning_are_refused(name: str, d: tuple[float, ...]) -> None:
    with pytest.raises(CameraError, match="coefficients"):
        CameraModel.from_camera_info(Info(distortion_model=name, d=d))


def test_a_size_of_zero_is_that_of_the_image() -> None:
    info = Info(width=0, height=0)
    assert CameraModel.from_camera_info(info, size=(320, 240)) == CameraModel(500, 510, 320, 240, 320, 240)
    with pytest.raises(CameraError, match="image size must be positive, got 0x0"):
        CameraModel.from_camera_info(info)


@pytest.mark.parametrize(("rectified", "name"), [(False, "K"), (True, "P")])
def test_uncalibrated_camera_is_refused_as_such(rectified: bool, name: str) -> None:
    info = Info(k=(0.0,) * 9, p=(0.0,) * 12)
    with pytest.raises(CameraError, match=rf"uncalibrated: {name}\[0\] of its CameraInfo is 0"):
        CameraModel.from_camera_info(info, rectified=rectified)


@pytest.mark.parametrize("rectified", [False, True])
def test_nan_in_a_camera_info_is_refused(rectified: bool) -> None:
    info = Info(k=(math.nan,) * 9, p=(500.0, 0.0, math.nan, *(1.0,) * 9))
    with pytest.raises(CameraError, match="finite"):
        CameraModel.from_camera_info(info, rectified=rectified)
    with pytest.raises(CameraError, match="finite"):
        CameraModel.from_camera_info(Info(d=(0.0, math.nan, 0.0, 0.0, 0.0)))


def test_region_of_interest_shifts_and_binning_divides() -> None:
    info = Info(binning_x=2, binning_y=4, roi=Roi(100, 40, 200, 160))
    assert image_size(info) == (100, 40)
    assert CameraModel.from_camera_info(info) == CameraModel(250, 127.5, 110, 50, 100, 40)


def test_binning_zero_means_one_and_roi_zero_means_all() -> None:
    assert CameraModel.from_camera_info(Info(binning_x=1, binning_y=1, roi=Roi(0, 0, 640, 480))) == (
        CameraModel.from_camera_info(Info())
    )


@given(left=st.integers(0, 300), top=st.integers(0, 200), binning=st.sampled_from([1, 2, 4]), column=st.integers(0, 60))
def test_a_cut_out_sees_each_point_where_the_whole_image_does(left: int, top: int, binning: int, column: int) -> None:
    whole = CameraModel.from_camera_info(Info())
    cut = CameraModel.from_camera_info(Info(binning_x=binning, binning_y=binning, roi=Roi(left, top, 256, 256)))
    ray_x, ray_y = cut.rays()
    whole_x, whole_y = whole.rays()
    np.testing.assert_allclose(ray_x[0, column], whole_x[0, left + column * binning], atol=1e-6)
    np.testing.assert_allclose(ray_y[column, 0], whole_y[top + column * binning, 0], atol=1e-6)


# ---- another size


def test_intrinsics_scale_with_the_image() -> None:
    # A principal point in the middle of the image stays there: (64 - 1) / 2 becomes (128 - 1) / 2.
    assert PINHOLE.scaled_to(128, 96) == CameraModel(100, 120, 63.5, 47, 128, 96)
    assert PINHOLE.scaled_to(32, 24) == CameraModel(25, 30, 15.5, 11.375, 32, 24)
    assert PINHOLE.scaled_to(64, 48) is PINHOLE


def test_scaling_keeps_the_lens() -> None:
    scaled = with_lens("plumb_bob").scaled_to(128, 96)
    assert scaled.distortion == LENSES["plumb_bob"][1]
    # Four pixels meet where one was: their mean ray is the one's.
    fine = scaled.rays()[0].reshape(48, 2, 64, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(fine, with_lens("plumb_bob").rays()[0], atol=1e-4)


@pytest.mark.parametrize(("width", "height"), [(32, 24), (43, 32), (96, 72), (100, 75), (1, 1)])
def test_rounding_of_a_side_is_forgiven(width: int, height: int) -> None:
    scaled = PINHOLE.scaled_to(width, height)
    assert (scaled.width, scaled.height) == (width, height)


@pytest.mark.parametrize(("width", "height"), [(63, 48), (65, 48), (64, 47), (65, 49)])
def test_a_pixel_more_or_less_is_a_rounded_crop_and_no_scale(width: int, height: int) -> None:
    assert PINHOLE.scaled_to(width, height) == replace(PINHOLE, width=width, height=height)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (48, 64), (64, 40), (128, 98), (0, 0), (-64, -48)])
def test_a_cropped_image_is_refused(width: int, height: int) -> None:
    with pytest.raises(CameraError, match=f"the image is {width}x{height}, but its CameraInfo describes 64x48"):
        PINHOLE.scaled_to(width, height)
