"""`CameraModel`: intrinsics, read from a CameraInfo or given; depth becomes points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera.camera_info import CameraInfo, binning, image_center, image_size, resize_factors
from depth_anything_ros.camera.lenses import DISTORTION_MODELS, read_lens
from depth_anything_ros.camera.rays import FloatArray, Lens, rays_of
from depth_anything_ros.errors import CameraError, quoted

if TYPE_CHECKING:
    import torch

LEAST_SLOPE = 1e-3  # of a ray off the axis that can be said to be bent


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

    def rays(self, stride: int = 1) -> tuple[FloatArray, FloatArray]:
        """Return x/z and y/z of every `stride`-th pixel's undistorted ray; together they broadcast to (H, W).

        Float32, (1, W) and (H, 1) for a pinhole, (H, W) each with distortion. NaN where the lens model has no ray for
        a pixel, or none in front of the camera. Computed once for each camera and stride, and read-only.
        """
        return _rays(self, stride)

    def bend_at_edge(self) -> float:
        """Return how far the lens bends rays at the middles of the picture's sides: the largest, as a share.

        0 without a lens; infinite where a side has no ray.
        """
        if not self.distortion_model:
            return 0.0
        ray_x, ray_y = self.rays()
        row, column = (int(np.clip(round(c), 0, n - 1)) for c, n in ((self.cy, self.height), (self.cx, self.width)))
        bent = np.array([ray_x[row, 0], ray_x[row, -1], ray_y[0, column], ray_y[-1, column]], np.float64)
        straight = np.array([-self.cx, self.width - 1 - self.cx, -self.cy, self.height - 1 - self.cy])
        straight /= np.array([self.fx, self.fx, self.fy, self.fy])
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.abs(bent / straight - 1)[np.abs(straight) > LEAST_SLOPE]
        return float(np.nan_to_num(off, nan=math.inf).max(initial=0.0))

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
        self.check_size(depth.shape)
        is_array = isinstance(depth, np.ndarray)
        ray_x, ray_y = self.rays(stride) if is_array else _ray_tensors(self, stride, str(depth.device))
        z = depth[::stride, ::stride]
        if out is None:
            out = _empty_points(z)
        with np.errstate(invalid="ignore"):  # infinite depth on the axis is nowhere
            out[..., 0] = ray_x * z
            out[..., 1] = ray_y * z
            out[..., 2] = z if not self.distortion_model else z + (ray_x - ray_x)  # NaN without a ray
        return out

    def check_size(self, shape: tuple[int, ...]) -> None:
        """Raise CameraError if depth of this shape is of another size than this camera's images."""
        if tuple(shape) != (self.height, self.width):
            raise CameraError(f"depth is {tuple(shape)}, this camera's images are {(self.height, self.width)}")


def _empty_points(z: Any) -> Any:
    shape = (*z.shape, 3)
    if isinstance(z, np.ndarray):
        return np.empty(shape, np.float32)
    import torch

    return torch.empty(shape, dtype=torch.float32, device=z.device)


@lru_cache(maxsize=8)
def _ray_tensors(camera: CameraModel, stride: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    ray_x, ray_y = camera.rays(stride)
    return torch.tensor(ray_x, device=device), torch.tensor(ray_y, device=device)


@lru_cache(maxsize=8)
def _rays(camera: CameraModel, stride: int) -> tuple[FloatArray, FloatArray]:
    lens = Lens(camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion_model, camera.distortion)
    ray_x, ray_y = rays_of(lens, np.arange(0, camera.width, stride), np.arange(0, camera.height, stride))
    ray_x.flags.writeable = ray_y.flags.writeable = False  # shared by every caller
    return ray_x, ray_y
