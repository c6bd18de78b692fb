"""What one image of a request asks for, and what follows from it: scale, focal length, points, memory.

Plain functions of a Job; who runs them when is `walk`'s matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bridge.codec import check_png_scale
from bridge.server.cameras import camera_of, seen_camera
from bridge.server.errors import InvalidValue, NotAcceptable
from bridge.server.media import PNG
from bridge.server.models import max_depth_of
from bridge.server.replies import Result, answer_bytes, encode
from bridge.server.schemas import CloudOptions, MetricOptions, Options
from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.io.image_header import ImageHeader
from depth_anything_ros.messages.rectification import Rectification
from depth_anything_ros.model.preprocess import preprocessing_for
from depth_anything_ros.model.registry import dataset_spec, network_spec
from depth_anything_ros.settings import InputLimits, ModelSettings

# /rel_depth gives the network's output as it is, a metric network's too.
UNIT_SCALE = 1.0
RAY_BYTES = 128  # for each pixel, while the rays of a lens are computed


@dataclass(frozen=True)
class Job:
    """A request that can be worked on: an image within the limits, a model, options in range."""

    image: bytes
    header: ImageHeader
    model: ModelSettings
    options: Options

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return self.header.width * self.header.height

    @property
    def is_cloud(self) -> bool:
        """Whether points are asked for."""
        return isinstance(self.options, CloudOptions)

    @property
    def has_more(self) -> bool:
        """Whether the model has more outputs than depth."""
        return len(network_spec(self.model.dataset).outputs) > 1

    @property
    def has_lens(self) -> bool:
        """Whether a ray is needed for each pixel, for points or to rectify the image."""
        if not (self.is_cloud or self.options.undistort):
            return False
        return self.options.camera_intrinsics is not None and bool(self.options.camera_intrinsics.d)

    @property
    def camera(self) -> CameraModel | None:
        """Of what the network is given, where the request describes it. Raises InvalidValue, see `seen_camera`."""
        return seen_camera(self.options, self.header.width, self.header.height)


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, uint8 BGR (H, W, 3), and their depth once there is one."""

    image: NDArray[np.uint8]
    depth: DepthMap | None = None


def check_job(job: Job, media: str, limits: InputLimits) -> None:
    """Refuse now what would otherwise be refused after the inference."""
    check = preprocessing_for(job.model.dataset, job.model.resize).network_size
    check(job.header.height, job.header.width, job.model.network_input_size, limits)
    focal_of(job)
    if media == PNG:
        spec = dataset_spec(job.model.dataset)
        if spec.kind != "metric":
            raise NotAcceptable(f"a 16-bit PNG holds metres, and dataset {job.model.dataset} has none", "Accept")
        if not spec.needs_focal:  # else no depth is the largest
            check_png_scale(scale_of(job) or UNIT_SCALE, job.options.png_scale)


def of_one_camera(jobs: list[Job | Exception], shared: Collection[str]) -> list[Job | Exception]:
    """Refuse images of another size than the first one where one camera in pixels is said for all of them."""
    name = next((name for name in ("camera_intrinsics", "focal_px") if name in shared), None)
    sizes = [(job.header.width, job.header.height) for job in jobs if isinstance(job, Job)]
    if name is None or len(set(sizes)) < 2:
        return jobs
    (width, height), *_ = sizes
    refusal = InvalidValue(
        f"{name} is in pixels of the first image, {width}x{height}, and this one has another size: send it by itself, "
        "or give fov_deg",
        name,
    )
    fits = [not isinstance(job, Job) or (job.header.width, job.header.height) == sizes[0] for job in jobs]
    return [job if is_fitting else refusal for job, is_fitting in zip(jobs, fits, strict=True)]


def memory_of(job: Job, media: str) -> int:
    """Bytes that the answer takes at most, with what it is made of."""
    size = answer_bytes(job.pixels, media, is_cloud=job.is_cloud, has_more=job.has_more)
    return size + (job.pixels * RAY_BYTES if job.has_lens else 0)


def scale_of(job: Job) -> float | None:
    """Metres at the network's full output: what was asked for, else the dataset's own.

    None where there are none: the metres follow from the camera.
    """
    if not isinstance(job.options, MetricOptions):
        return UNIT_SCALE
    return job.options.max_depth or max_depth_of(job.model.dataset)


def focal_of(job: Job) -> tuple[float, float] | None:
    """Focal lengths in pixels of the image, where the request describes its camera.

    Raises:
        InvalidValue: it does not, and the model's metres follow from them; or the lens is not known.
    """
    camera = job.camera
    if camera is None and dataset_spec(job.model.dataset).needs_focal:
        raise InvalidValue(
            f"the metres of dataset {job.model.dataset} follow from the camera's focal length: "
            "give camera_intrinsics, fov_deg or focal_px",
            "camera_intrinsics",
        )
    return None if camera is None else (camera.fx, camera.fy)


def result_of(job: Job, picture: Picture) -> Result:
    """Mark the sky as infinite, unless it is wanted filled; back-project where a cloud was asked for."""
    depth = picture.depth
    assert depth is not None
    if depth.sky is not None and job.options.sky == "inf":
        depth = replace(depth, values=np.where(depth.sky, np.float32(np.inf), depth.values))
    given = job.camera
    if given is not None and depth.kind == "scale_invariant":  # what is known counts more than an estimate
        depth = replace(depth, focal_px=(given.fx + given.fy) / 2, is_focal_estimated=False)
    camera = estimated_camera(depth) if given is None and job.is_cloud else given
    points = back_project(camera, depth) if job.is_cloud and camera is not None else None
    has_metres = isinstance(job.options, MetricOptions) and depth.kind == "metric"
    unit, max_depth = ("m", scale_of(job)) if has_metres else ("none", None)
    is_new = given is None or job.options.undistort  # the client does not know it
    return Result(depth, picture.image, points, job.options.png_scale, max_depth, unit, camera if is_new else None)


def rectified(job: Job, picture: Picture) -> Picture:
    """Take the lens's distortion out of a picture, where that is asked for."""
    if not job.options.undistort:
        return picture
    camera = camera_of(job.options, job.header.width, job.header.height)
    assert camera is not None
    # Made anew each time: its maps take 8 bytes a pixel, and clients have any number of cameras.
    return Picture(Rectification(camera, job.options.undistort_focal_px)(picture.image))


def estimated_camera(depth: DepthMap) -> CameraModel:
    """The pinhole camera of the focal length that the model estimates.

    Raises:
        InvalidValue: it found none.
    """
    height, width = depth.values.shape
    if depth.focal_px is None:
        raise InvalidValue("the model finds no focal length in this image: give fov_deg or focal_px", "fov_deg")
    return CameraModel(depth.focal_px, depth.focal_px, *image_center(width, height), width, height)


def back_project(camera: CameraModel, depth: DepthMap) -> NDArray[np.float32]:
    """Points of every pixel, float32 (H * W, 3), optical frame; not finite in the sky and without a ray."""
    with np.errstate(over="ignore", invalid="ignore"):  # absurd intrinsics give infinite points
        return camera.back_project(depth.values).reshape(-1, 3)


def finish(job: Job, picture: Picture, media: str) -> tuple[bytes, dict[str, str]]:
    """Back-project and encode; returns body and headers."""
    return encode(result_of(job, picture), media)
