"""Where pixels look: x/z and y/z of their rays, by inverting the lens model once for a whole picture.

No lens model has an inverse in closed form. OpenCV inverts a polynomial one pixel by pixel, which takes a second for
two megapixels. But rays change smoothly from pixel to pixel: OpenCV inverts the nodes of a coarse grid, a cubic
interpolation gives the rays between them, and each is checked by distorting it again. What is not exact is inverted by
OpenCV, too. What no inversion finds is NaN, rather than a wrong ray.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]

# A pixel has no ray if its undistorted ray, distorted again, lands further away than this.
MAX_ROUND_TRIP_PX = 0.1
# A ray this close to the image plane (89.4 degrees off the axis) is dropped, too: its Z depth says nothing.
MAX_RAY_SLOPE = 100.0
# OpenCV's inversion of a lens model ends at this precision: after few steps for most pixels, after many at the edges.
PRECISION_PX = 1e-4
MAX_ITERATIONS = 100
NODE_PX = 8.0  # from one node of the coarse grid to the next
WINDOW = 4  # nodes that a cubic goes through
MAX_INTERPOLATION_PX = 2e-3  # of an interpolated ray, distorted again; float32 rounds to a quarter of it
CHUNK_PIXELS = 32_768  # for OpenCV, which also makes a Jacobian, 400 bytes a pixel
MAX_THREADS = 8
STRIP_ROWS = 16  # of a fisheye, computed at a time
FISHEYE_STEPS = 4096  # of the table that inverts a fisheye's polynomial


class Lens(NamedTuple):
    """What decides where a pixel looks: as in `CameraModel`, of which it is a part."""

    fx: float
    fy: float
    cx: float
    cy: float
    model: str
    coefficients: tuple[float, ...]

    def matrices(self) -> tuple[Array, Array]:
        """Return K (3, 3) and D, as OpenCV takes them."""
        K = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)
        return K, np.array(self.coefficients, np.float64)

    @property
    def is_tilted(self) -> bool:
        """Whether the sensor is not parallel to the lens."""
        return any(self.coefficients[12:])

    def invert(self, pixels: Array) -> Array:
        """Return the rays (N, 2) of pixels (N, 1, 2) through a polynomial lens; NaN for none."""
        if not len(pixels):
            return np.empty((0, 2))
        K, D = self.matrices()
        with np.errstate(all="ignore"):  # of pixels without a ray
            rays = _undistort_points(pixels, K, D)
            directions = cv2.convertPointsToHomogeneous(rays)
            again, _ = cv2.projectPoints(directions, np.zeros(3), np.zeros(3), K, D)
            off_px = np.linalg.norm(again - pixels, axis=-1)
            good = (off_px <= MAX_ROUND_TRIP_PX) & (np.linalg.norm(rays, axis=-1) <= MAX_RAY_SLOPE)
        rays[~good] = np.nan
        return np.asarray(rays[:, 0], np.float64)


def rays_of(lens: Lens, u: NDArray[Any], v: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return x/z and y/z of the rays of columns u (W,) and rows v (H,); together they broadcast to (H, W).

    Float32, (1, W) and (H, 1) for a pinhole, (H, W) each with distortion. NaN where the lens model has no ray for a
    pixel, or none in front of the camera.
    """
    if not lens.model:
        with np.errstate(over="ignore"):  # of absurd focal lengths: such rays are infinite
            ray_x = ((u - lens.cx) / lens.fx).astype(np.float32)[None, :]
            ray_y = ((v - lens.cy) / lens.fy).astype(np.float32)[:, None]
        return ray_x, ray_y
    return _fisheye(lens, u, v) if lens.model == "equidistant" else _polynomial(lens, u, v)


# Polynomial lenses


def _polynomial(lens: Lens, u: NDArray[Any], v: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    ray_x, ray_y = np.full((2, v.size, u.size), np.nan, np.float32)
    is_found = np.zeros((v.size, u.size), np.bool_)
    if not lens.is_tilted and max(u[-1] - u[0], v[-1] - v[0]) > NODE_PX:
        nodes = _Nodes(lens, u, v)
        for rows in nodes.strips:
            ray_x[rows], ray_y[rows] = nodes.rays(rows)
            is_found[rows] = _is_exact(lens, u, v[rows], ray_x[rows], ray_y[rows]) | nodes.blind(rows)
    row, column = np.nonzero(~is_found)
    ray_x[row, column], ray_y[row, column] = _by_opencv(lens, u[column], v[row])
    return ray_x, ray_y


class _Nodes:
    """Rays at nodes `NODE_PX` apart, the first and the last at the ends of u (W,) and v (H,); cubic between them.

    Attributes:
        strips: rows with the same nodes around them.
    """

    def __init__(self, lens: Lens, u: NDArray[Any], v: NDArray[Any]) -> None:
        (at_u, left, weights_u), (at_v, self._top, self._weights_v) = _windows(u), _windows(v)
        nodes_u, nodes_v = np.meshgrid(at_u, at_v)
        nodes = _by_opencv(lens, nodes_u.ravel(), nodes_v.ravel()).reshape(2, *nodes_u.shape)
        # Along u at once, for the few rows of nodes: (2, node rows, W).
        self._lines = np.sum([weights_u[:, i] * nodes[..., left + i] for i in range(WINDOW)], axis=0)
        is_blind = np.isnan(nodes[0])
        self._blind_lines = np.all([is_blind[:, left + i] for i in range(WINDOW)], axis=0)
        starts = np.flatnonzero(np.diff(self._top, prepend=-1))
        self.strips = [slice(*ends) for ends in zip(starts, [*starts[1:], v.size], strict=True)]

    def rays(self, rows: slice) -> Any:
        """Return x/z and y/z (2, h, W) of one of the strips."""
        top = self._top[rows.start]
        return self._weights_v[rows] @ self._lines[:, top : top + WINDOW]

    def blind(self, rows: slice) -> NDArray[np.bool_]:
        """Return which columns (W,) of a strip have no ray at any node around them, and so none themselves."""
        top = self._top[rows.start]
        return np.asarray(self._blind_lines[top : top + WINDOW].all(axis=0))


def _windows(pixels: NDArray[Any]) -> tuple[Array, NDArray[np.intp], Array]:
    """Return where the nodes of a line of pixels (N,) are, each pixel's first node, and the weights (N, 4) of its four.

    The weights are Lagrange's: exact for cubics, wherever the pixel is between or beside its nodes.
    """
    span = max(float(pixels[-1] - pixels[0]), 1.0)
    count = max(math.ceil(span / NODE_PX) + 1, WINDOW)
    place = (pixels - pixels[0]) * ((count - 1) / span)  # in nodes
    first = np.clip(np.floor(place).astype(np.intp) - 1, 0, count - WINDOW)
    t = place - first
    weights = [math.prod((t - k) / (i - k) for k in range(WINDOW) if k != i) for i in range(WINDOW)]
    return np.linspace(0, span, count) + pixels[0], first, np.stack(weights, axis=-1)


def _is_exact(lens: Lens, u: NDArray[Any], v: NDArray[Any], x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
    """Return where rays (h, W), distorted again, land on their pixels; in float32, which is enough to tell."""
    with np.errstate(all="ignore"):  # of NaN
        moved_x, moved_y = _distorted(lens.coefficients, x, y)
        off_x = moved_x * np.float32(lens.fx) - (u - lens.cx).astype(np.float32)
        off_y = moved_y * np.float32(lens.fy) - (v - lens.cy).astype(np.float32)[:, None]
        is_exact = off_x * off_x + off_y * off_y <= MAX_INTERPOLATION_PX**2
        return np.asarray(is_exact & (x * x + y * y <= MAX_RAY_SLOPE**2))


def _distorted(coefficients: tuple[float, ...], x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where rays land, in focal lengths from the principal point: OpenCV's model without the sensor's tilt."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (*coefficients, *(0.0,) * 12)[:12]
    xx, yy, xy2 = x * x, y * y, 2 * x * y
    r2 = xx + yy
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial /= 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    moved_x = x * radial + p1 * xy2 + p2 * (r2 + 2 * xx)
    moved_y = y * radial + p1 * (r2 + 2 * yy) + p2 * xy2
    if s1 or s2 or s3 or s4:
        moved_x, moved_y = moved_x + r2 * (s1 + s2 * r2), moved_y + r2 * (s3 + s4 * r2)
    return moved_x, moved_y


def _by_opencv(lens: Lens, u: NDArray[Any], v: NDArray[Any]) -> Array:
    """Return x/z and y/z (2, N) of pixels (N,), each checked by distorting it again. All cores work on it."""
    pixels = np.stack([u, v], axis=-1).astype(np.float64).reshape(-1, 1, 2)
    chunks = np.array_split(pixels, math.ceil(len(pixels) / CHUNK_PIXELS) or 1)
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as threads:
        rays: Array = np.concatenate(list(threads.map(lens.invert, chunks))).T
    return rays


def _undistort_points(pixels: Array, K: Array, D: Array) -> Any:
    stop = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, MAX_ITERATIONS, PRECISION_PX)
    # OpenCV 4 takes the stopping rule in a function of its own, OpenCV 5 in the plain one.
    if hasattr(cv2, "undistortPointsIter"):
        return cv2.undistortPointsIter(pixels, K, D, np.eye(3), np.eye(3), stop)
    return cv2.undistortPoints(pixels, K, D, R=np.eye(3), P=np.eye(3), criteria=stop)


# Fisheye lenses


def _fisheye(lens: Lens, u: NDArray[Any], v: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Invert the equidistant model (Kannala and Brandt 2006), `theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8)`.

    theta is the angle off the axis, theta_d the pixel's distance from the principal point in focal lengths. OpenCV's
    inversion ends at theta_d = pi / 2. But it is theta that must stay below pi / 2; theta_d of a wide lens is larger.
    """
    k1, k2, k3, k4 = lens.coefficients
    distorted = np.polynomial.Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])
    widest = _first_positive_root(distorted.deriv(), math.atan(MAX_RAY_SLOPE))  # beyond it, the polynomial folds back
    angles = np.linspace(0.0, widest, FISHEYE_STEPS)
    radii = distorted(angles)

    ray_x, ray_y = np.empty((2, v.size, u.size), np.float32)
    for first in range(0, v.size, STRIP_ROWS):
        rows = slice(first, first + STRIP_ROWS)
        x, y = (u - lens.cx) / lens.fx, ((v[rows] - lens.cy) / lens.fy)[:, None]
        theta_d = np.hypot(x, y)
        theta = np.interp(theta_d, radii, angles, right=np.nan)  # to 1e-7 with so many steps
        scale = np.divide(np.tan(theta), theta_d, out=np.ones_like(theta_d), where=theta_d > 0)
        ray_x[rows], ray_y[rows] = x * scale, y * scale
    return ray_x, ray_y


def _first_positive_root(polynomial: np.polynomial.Polynomial, limit: float) -> float:
    """Return the smallest real root between 0 and `limit`; `limit` without one."""
    roots = polynomial.roots()
    real = roots.real[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)]
    return float(min(real, default=limit)) if real.size and real.min() < limit else limit
