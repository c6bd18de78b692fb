"""Camera models: what a CameraInfo means, and how depth becomes points. Which CameraInfo counts is in `messages/`.

Points are in the camera's optical frame (REP 103: x right, y down, z along the optical axis), in metres. Depth may be a
NumPy array, or a torch tensor on any device. Importing this module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import CameraError, quoted

if TYPE_CHECKING:
    import torch

FloatArray = NDArray[np.float32]

# Distortion model -> numbers of coefficients that OpenCV takes for it (0: an ideal pinhole).
DISTORTION_MODELS: dict[str, tuple[int, ...]] = {
    "": (0,),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (0, 8, 12, 14),
    "equidistant": (4,),  # all zero is an ideal fisheye, not a pinhole
}
# Other names of these models in drivers and calibration tools, in lower case with underscores.
LENS_ALIASES = {
    "radtan": "plumb_bob",  # Kalibr
    "radial_tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "rational": "rational_polynomial",
    "fisheye": "equidistant",  # OpenCV
    "equi": "equidistant",  # Kalibr
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
    "none": "",
    "pinhole": "",
}
# A pixel has no ray if its undistorted ray, distorted again, lands further away than this.
MAX_ROUND_TRIP_PX = 0.1
# A ray this close to the image plane (89.4 degrees off the axis) is dropped, too: its Z depth says nothing.
MAX_RAY_SLOPE = 100.0
# The inversion of a lens model ends at this precision: after few steps for most pixels, after many at the edges.
PRECISION_PX = 1e-4
MAX_ITERATIONS = 100
STRIP_PIXELS = 32_768  # rays are computed for so many pixels at a time
FISHEYE_STEPS = 4096  # of the table that inverts a fisheye's polynomial


class RegionOfInterest(Protocol):
    """The part of sensor_msgs/RegionOfInterest that is read."""

    x_offset: int
    y_offset: int
    width: int
    height: int


class CameraInfo(Protocol):
    """The part of sensor_msgs/CameraInfo (ROS 2 field names) that is read."""

    width: int
    height: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: Any  # RegionOfInterest; generated message classes do not satisfy nested protocols


def image_center(width: int, height: int) -> tuple[float, float]:
    """Return (u, v) of the middle of a picture: (W - 1) / 2 and (H - 1) / 2, as `CameraModel` counts pixels."""
    return (width - 1) / 2, (height - 1) / 2


def binning(info: CameraInfo) -> tuple[int, int]:
    """Return (binning_x, binning_y), with 1 for 0 (sensor_msgs/CameraInfo)."""
    return max(1, info.binning_x), max(1, info.binning_y)


def image_size(info: CameraInfo, actual: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Return (width, height) of the image a CameraInfo describes, after region of interest and binning.

    Args:
        actual: (width, height) of the image, used where the message leaves its own at 0.
    """
    binning_x, binning_y = binning(info)
    width, height = (info.roi.width or info.width) // binning_x, (info.roi.height or info.height) // binning_y
    return width or actual[0], height or actual[1]


def read_lens(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """Return the distortion model and coefficients that a CameraInfo's `distortion_model` and D mean.

    Drivers use other names (`LENS_ALIASES`), leave out zeros at the end or add some, and call polynomials of any length
    `plumb_bob`. All that can be read, because OpenCV's order of coefficients is the same for all polynomial models.
    All zeros are an ideal pinhole, except for `equidistant`, where they are an ideal fisheye. What has no plain meaning
    is returned unchanged, and `CameraModel` refuses it.
    """
    numbers = tuple(float(number) for number in d)
    plain_name = name.strip().lower().replace("-", "_").replace(" ", "_")
    model = plain_name if plain_name in DISTORTION_MODELS else LENS_ALIASES.get(plain_name, name)
    if not any(numbers) and not (model == "equidistant" and numbers):
        return "", ()
    used = max(i + 1 for i, number in enumerate((1.0, *numbers)) if number) - 1  # without zeros at the end
    if model == "" and len(numbers) >= 5:
        model = "plumb_bob"
    if model == "plumb_bob" and used > 5:
        model = "rational_polynomial"
    counts = DISTORTION_MODELS.get(model, ())
    if len(numbers) in counts:
        return model, numbers
    count = min((count for count in counts if count >= used), default=len(numbers))
    return model, (*numbers, *(0.0,) * count)[:count]


def resize_factors(described: tuple[int, int], actual: tuple[int, int]) -> tuple[float, float]:
    """Return the factors in x and y by which an image was resized from one (width, height) to another.

    A difference of one pixel is rounded binning, not a resize: the factors are 1.

    Raises:
        CameraError: the sizes do not differ by a single factor (within a pixel). Then the image was cropped, and its
            intrinsics are not known.
    """
    (width, height), (actual_width, actual_height) = described, actual
    if abs(actual_width - width) <= 1 and abs(actual_height - height) <= 1:
        return 1.0, 1.0
    if actual_width <= 0 or abs(actual_height - height * actual_width / width) >= 1.0:
        raise CameraError(
            f"the image is {actual_width}x{actual_height}, but its CameraInfo describes {width}x{height}: "
            "not the same picture at another scale"
        )
    return actual_width / width, actual_height / height


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one image: pinhole, optionally with lens distortion.

    Pixels are `(u, v)`, column and row, with the *centre* of the top left pixel at (0, 0), as in ROS and OpenCV.
    The picture spans -0.5 to W - 0.5, so its middle is ((W - 1) / 2, (H - 1) / 2), not (W / 2, H / 2).

    Attributes:
        fx, fy: focal lengths in pixels, positive.
        cx, cy: principal point in pixels.
        width, height: size of the image that these numbers describe, in pixels.
        distortion_model: `""` (none), `plumb_bob`, `rational_polynomial` or `equidistant`.
        distortion: its coefficients D in OpenCV's order.

    Raises:
        CameraError: a number is not finite, a focal length or size is not positive, the distortion model is unknown,
            or it does not take that many coefficients.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        intrinsics = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(math.isfinite(number) for number in intrinsics):
            raise CameraError(f"camera intrinsics must be finite numbers, got {intrinsics}")
        if self.fx <= 0 or self.fy <= 0:
            raise CameraError(f"focal lengths must be positive, got fx={self.fx}, fy={self.fy}")
        if self.width <= 0 or self.height <= 0:
            raise CameraError(f"image size must be positive, got {self.width}x{self.height}")
        if self.distortion_model not in DISTORTION_MODELS:
            known = ", ".join(name for name in DISTORTION_MODELS if name)
            raise CameraError(f"unknown distortion model {quoted(self.distortion_model)}; known: {known}")
        if len(self.distortion) not in DISTORTION_MODELS[self.distortion_model]:
            raise CameraError(
                f"distortion model {self.distortion_model!r} takes "
                f"{DISTORTION_MODELS[self.distortion_model]} coefficients, got {len(self.distortion)}"
            )

    @classmethod
    def from_fov(cls, fov_deg: float, width: int, height: int) -> CameraModel:
        """Make an ideal pinhole camera of a field of view, its principal point in the middle of the picture.

        Args:
            fov_deg: angle that the picture's *longer* side spans, in degrees, from outer edge to outer edge. So a
                portrait and a landscape picture of the same camera have the same focal length.
            width, height: of the picture, in pixels.

        Raises:
            CameraError: a field of view that is not between 0 and 180 degrees, or a size that is not positive.
        """
        # Of the picture, one focal length away; so small a field of view that it rounds to 0 makes no camera.
        half_width = math.tan(math.radians(fov_deg) / 2) if 0 < fov_deg < 180 else 0.0
        if half_width == 0:
            raise CameraError(f"the field of view must be between 0 and 180 degrees, got {fov_deg:g}")
        focal_px = max(width, height) / 2 / half_width
        return cls(focal_px, focal_px, *image_center(width, height), width, height)

    @classmethod
    def from_camera_info(
        cls, info: CameraInfo, *, rectified: bool = False, size: tuple[int, int] = (0, 0)
    ) -> CameraModel:
        """Read a CameraInfo: K and D for a raw image, P for a rectified one (K where P is all zero and D is none).

        Region of interest and binning are applied, so the result describes the image as it is
        sent: `fx / binning_x`, `(cx - x_offset) / binning_x` (sensor_msgs/CameraInfo, REP 104). R is not applied:
        rays of a raw image are in the camera's own frame, those of a rectified image in the rectified frame.

        Args:
            rectified: read P instead of K and D.
            size: (width, height) of the image, for a CameraInfo that leaves its own at 0.

        Raises:
            CameraError: uncalibrated (`K[0] == 0`, or `P[0] == 0` for a rectified image), or a
                number that `CameraModel` refuses.
        """
        lens = read_lens(info.distortion_model, info.d)
        is_p_left_out = not any(info.p) and info.k[0] != 0 and lens == ("", ())
        columns, matrix = (4, info.p) if rectified and not is_p_left_out else (3, info.k)
        fx, cx, fy, cy = (float(matrix[i]) for i in (0, 2, columns + 1, columns + 2))
        if fx == 0.0:
            raise CameraError(f"the camera is uncalibrated: {'K' if columns == 3 else 'P'}[0] of its CameraInfo is 0")
        distortion_model, distortion = ("", ()) if rectified else lens
        binning_x, binning_y = binning(info)
        width, height = image_size(info, size)
        return cls(
            fx=fx / binning_x,
            fy=fy / binning_y,
            cx=(cx - info.roi.x_offset) / binning_x,
            cy=(cy - info.roi.y_offset) / binning_y,
            width=width,
            height=height,
            distortion_model=distortion_model,
            distortion=distortion,
        )

    def scaled_to(self, width: int, height: int) -> CameraModel:
        """Return the camera of the same picture resized to `width` x `height` pixels.

        The outer edges of both pictures coincide, so a coordinate c becomes (c + 0.5) * factor - 0.5.

        Raises:
            CameraError: as `resize_factors`.
        """
        if (width, height) == (self.width, self.height):
            return self
        factor_x, factor_y = resize_factors((self.width, self.height), (width, height))
        return replace(
            self,
            fx=self.fx * factor_x,
            fy=self.fy * factor_y,
            cx=(self.cx + 0.5) * factor_x - 0.5,
            cy=(self.cy + 0.5) * factor_y - 0.5,
            width=width,
            height=height,
        )

    def rays(self) -> tuple[FloatArray, FloatArray]:
        """Return x/z and y/z of every pixel's undistorted ray; together they broadcast to (H, W).

        Float32, (1, W) and (H, 1) for a pinhole, (H, W) each with distortion. NaN where the lens model has no ray for
        a pixel, or none in front of the camera. Computed once for each camera, and read-only.
        """
        return _rays(self)

    @overload
    def back_project(
        self, depth: NDArray[np.floating[Any]], *, stride: int = 1, out: FloatArray | None = None
    ) -> FloatArray: ...

    @overload
    def back_project(
        self, depth: torch.Tensor, *, stride: int = 1, out: torch.Tensor | None = None
    ) -> torch.Tensor: ...

    def back_project(self, depth: Any, *, stride: int = 1, out: Any = None) -> Any:
        """Turn depth into points: `(x, y, z) = depth * (ray_x, ray_y, 1)`.

        Args:
            depth: (H, W), metres along the optical axis; a NumPy array or a torch tensor.
            stride: take every `stride`-th row and column only, starting with the first.
            out: float32 (ceil(H/stride), ceil(W/stride), 3) to write into, strided views included.

        Returns:
            float32 (ceil(H/stride), ceil(W/stride), 3), metres, optical frame, of the kind and on
            the device of `depth`. NaN and infinite depth give non-finite points.

        Raises:
            CameraError: `depth` has another size than this camera's images.
        """
        if tuple(depth.shape) != (self.height, self.width):
            raise CameraError(f"depth is {tuple(depth.shape)}, this camera's images are {(self.height, self.width)}")
        ray_x, ray_y = self.rays() if isinstance(depth, np.ndarray) else _ray_tensors(self, str(depth.device))
        z = depth[::stride, ::stride]
        if out is None:
            out = _empty_points(z)
        with np.errstate(invalid="ignore"):  # infinite depth on the axis is nowhere
            out[..., 0] = ray_x[:: min(stride, ray_x.shape[0]), ::stride] * z
            out[..., 1] = ray_y[::stride, :: min(stride, ray_y.shape[1])] * z
        out[..., 2] = z if not self.distortion_model else z + (ray_x - ray_x)[::stride, ::stride]  # NaN without a ray
        return out


def _empty_points(z: Any) -> Any:
    shape = (*z.shape, 3)
    if isinstance(z, np.ndarray):
        return np.empty(shape, np.float32)
    import torch

    return torch.empty(shape, dtype=torch.float32, device=z.device)


@lru_cache(maxsize=8)
def _ray_tensors(camera: CameraModel, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    ray_x, ray_y = camera.rays()
    return torch.tensor(ray_x, device=device), torch.tensor(ray_y, device=device)


@lru_cache(maxsize=8)
def _rays(camera: CameraModel) -> tuple[FloatArray, FloatArray]:
    u, v = np.arange(camera.width), np.arange(camera.height)
    if not camera.distortion_model:
        with np.errstate(over="ignore"):  # of absurd focal lengths: such rays are infinite
            ray_x = ((u - camera.cx) / camera.fx).astype(np.float32)[None, :]
            ray_y = ((v - camera.cy) / camera.fy).astype(np.float32)[:, None]
    else:
        ray_x, ray_y = _undistorted_rays(camera, u, v)
    ray_x.flags.writeable = ray_y.flags.writeable = False  # shared by every caller
    return ray_x, ray_y


def _undistorted_rays(camera: CameraModel, u: NDArray[Any], v: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Invert the lens model for each pixel. A pixel that it cannot invert gets NaN instead of a wrong ray."""
    if camera.distortion_model == "equidistant":
        return _fisheye_rays(camera, u, v)
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float64)
    D = np.array(camera.distortion, np.float64)
    ray_x, ray_y = np.empty((2, v.size, u.size), np.float32)
    rows = max(1, STRIP_PIXELS // u.size)  # in strips: OpenCV also makes a Jacobian, 400 bytes a pixel
    for strip in (slice(first, first + rows) for first in range(0, v.size, rows)):
        rays = _polynomial_rays(np.stack(np.meshgrid(u, v[strip]), axis=-1).astype(np.float64), K, D)
        ray_x[strip], ray_y[strip] = rays[..., 0], rays[..., 1]
    return ray_x, ray_y


def _polynomial_rays(grid: NDArray[np.float64], K: NDArray[np.float64], D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rays (h, w, 2) of pixels (h, w, 2) through a polynomial lens, each checked by distorting it again."""
    pixels = grid.reshape(-1, 1, 2)
    rays = _undistort_points(pixels, K, D)
    directions = cv2.convertPointsToHomogeneous(rays)
    again, _ = cv2.projectPoints(directions, np.zeros(3), np.zeros(3), K, D)
    with np.errstate(invalid="ignore", over="ignore"):
        off_px = np.linalg.norm(again - pixels, axis=-1)
        good = (off_px <= MAX_ROUND_TRIP_PX) & (np.linalg.norm(rays, axis=-1) <= MAX_RAY_SLOPE)
    rays[~good] = np.nan
    return np.asarray(rays.reshape(grid.shape), np.float64)


def _fisheye_rays(camera: CameraModel, u: NDArray[Any], v: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Invert the equidistant model (Kannala and Brandt 2006), `theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)`.

    theta is the angle off the axis, theta_d the pixel's distance from the principal point in focal lengths. OpenCV's
    inversion ends at theta_d = pi / 2. But it is theta that must stay below pi / 2; theta_d of a wide lens is larger.
    """
    k1, k2, k3, k4 = camera.distortion
    distorted = np.polynomial.Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])
    widest = _first_positive_root(distorted.deriv(), math.atan(MAX_RAY_SLOPE))  # beyond it, the polynomial folds back
    x, y = (u - camera.cx) / camera.fx, ((v - camera.cy) / camera.fy)[:, None]
    theta_d = np.hypot(x, y)
    angles = np.linspace(0.0, widest, FISHEYE_STEPS)
    theta = np.interp(theta_d, distorted(angles), angles, right=np.nan)  # to 1e-7 with so many steps
    scale = np.divide(np.tan(theta), theta_d, out=np.ones_like(theta_d), where=theta_d > 0)
    return (x * scale).astype(np.float32), (y * scale).astype(np.float32)


def _first_positive_root(polynomial: np.polynomial.Polynomial, limit: float) -> float:
    """Return the smallest real root between 0 and `limit`; `limit` without one."""
    roots = polynomial.roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return float(min(real, default=limit)) if real.size and real.min() < limit else limit


def _undistort_points(pixels: Any, K: Any, D: Any) -> Any:
    stop = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, MAX_ITERATIONS, PRECISION_PX)
    # OpenCV 4 takes the stopping rule in a function of its own, OpenCV 5 in the plain one.
    if hasattr(cv2, "undistortPointsIter"):
        return cv2.undistortPointsIter(pixels, K, D, np.eye(3), np.eye(3), stop)
    return cv2.undistortPoints(pixels, K, D, R=np.eye(3), P=np.eye(3), criteria=stop)
