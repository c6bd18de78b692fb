"""The stage after the network: what its depth means for one camera.

Marks the sky, finds the image's CameraInfo, makes metres by the focal length and the configured or fitted scale,
filters them, and marks what is out of range. Sky is +Inf from the start: its filling is no measurement, so no scale is
fitted to it and no filter remembers it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.errors import CameraError
from depth_anything_ros.estimator import DepthEstimator, DepthTensors
from depth_anything_ros.filters.temporal import TemporalFilter
from depth_anything_ros.messages.camera_infos import CameraInfos
from depth_anything_ros.messages.rectification import rectification_of, why_rectify
from depth_anything_ros.messages.stamps import moment_s
from depth_anything_ros.node.conversions import pinhole_info
from depth_anything_ros.node.frame import CameraOfImage, Frame, FrameDepth
from depth_anything_ros.node.health import CameraHealth
from depth_anything_ros.node.range_input import RangeInput
from depth_anything_ros.node.scaling import RELATIVE_REFUSAL, Estimate, Scaling
from depth_anything_ros.scale.lasting_factor import LASTING_FACTOR
from depth_anything_ros.settings import ENDLESS_COLOR_MAX_M, CameraSettings

RAW_DEPTH = (
    "the images are raw, so ~/depth/image is distorted as they are. ~/points is right, but depth_image_proc, rtabmap "
    "and depthimage_to_laserscan take rectified depth: for them, give this node image_rect and rectified:=true"
)

ESTIMATED_FOCAL = "the cloud is made with a focal length that the model estimates from the picture"


class CameraStage:
    """One camera's. `process` belongs to the worker; the rest may be called by any thread.

    Args:
        camera_infos: where CameraInfo messages are found.
        health: is told what is wrong, and what the alignment does.
        range_input: the camera's range sensor, None where it has none.

    Attributes:
        scaling: what makes metres of the model's depth.
    """

    def __init__(self, camera_infos: CameraInfos, health: CameraHealth, range_input: RangeInput | None = None) -> None:
        self.scaling = Scaling(range_input)
        self._camera_infos = camera_infos
        self._health = health
        self._range_input = range_input
        self._filter: TemporalFilter | None = None
        self._filter_made_of: tuple[object, ...] = ()

    def destroy(self) -> None:
        """Stop listening to the range sensor."""
        self._health.alignment = None
        if self._range_input is not None:
            self._range_input.destroy()

    def rectified(self, frame: Frame, settings: CameraSettings) -> Frame:
        """Return the frame without its lens's distortion, and the pinhole camera that is true for it.

        Raises:
            CameraError: no CameraInfo fits the image, or its lens cannot be rectified.
        """
        height, width = frame.image_bgr.shape[:2]
        any_frame = settings.camera_info_any_frame
        try:
            _, camera = self._camera_infos.match(frame.header, width, height, rectified=False, any_frame=any_frame)
        except CameraError as error:
            raise CameraError(f"the image cannot be rectified, and undistort is set: {error}") from error
        with frame.watch.time("conversion"):
            rectification = rectification_of(camera, settings.undistort_focal_px)
            picture = rectification(frame.image_bgr)
        pinhole = rectification.camera
        info = pinhole_info(pinhole, frame.header)
        return replace(frame, image_bgr=picture, camera=CameraOfImage(pinhole, info, raw=camera))

    def process(
        self, frame: Frame, found: DepthTensors, estimator: DepthEstimator, settings: CameraSettings
    ) -> FrameDepth:
        """Turn the model's outputs for one image, on any device, into what is published."""
        depth = found.depth if found.sky is None else torch.where(found.sky, torch.inf, found.depth)
        said = FrameDepth(
            relative=depth if estimator.kind == "relative" else None,
            scale_invariant=depth if estimator.kind == "scale_invariant" else None,
            sky=found.sky,
            confidence=found.confidence,
            camera=frame.camera,
        )
        if not self.scaling.is_wanted(estimator.kind, settings):
            self._health.alignment, self._health.focal_estimate_px = None, None
            self.scaling.skip(RELATIVE_REFUSAL)
            return said
        without = f"no metres, for {estimator.key} needs a focal length: " if estimator.needs_focal else ""
        camera = frame.camera or self._match_camera(frame.header, found, settings, without)
        if estimator.needs_focal and camera is None:
            self._health.alignment, self._health.focal_estimate_px = None, None
            self.scaling.skip(f"{estimator.key} needs a focal length, and no CameraInfo fits the image")
            return replace(said, scale_invariant=depth)
        model, is_estimated = (None, False) if camera is None else (camera.model, camera.is_estimated)
        if estimator.needs_focal and model is not None and (why := why_rectify(model)):
            self._health.warn(f"{why}: set undistort")
        self._health.focal_estimate_px = model.fx if model is not None and is_estimated else None
        depth = _times(depth, _unit(estimator, depth, model, settings), is_shared=estimator.kind != "metric")
        version = estimator.key, estimator.sha256
        raw_camera = None if camera is None else camera.raw
        estimate = Estimate(depth, version, estimator.kind, frame.header, model, is_estimated, raw_camera)
        with frame.watch.time("scale"):
            metres = self.scaling.apply(estimate, settings)
            self._health.alignment = self.scaling.state
        if metres is None:
            return said
        with frame.watch.time("filter"):
            metres = clip_range(self._smoothed(metres, estimate, settings), settings)
        if estimator.kind == "scale_invariant" and not self._is_aligned():
            self._health.warn(f"metres_per_unit is {settings.metres_per_unit:g}: {LASTING_FACTOR}")
        return replace(
            said, metres=metres, camera=camera, full_scale_m=_full_scale_m(estimator), residual_m=self._residual_m()
        )

    def _match_camera(
        self, header: Header, found: DepthTensors, settings: CameraSettings, without: str
    ) -> CameraOfImage | None:
        """Return the image's camera: its CameraInfo's, else with the focal length that the model estimates.

        Where that is not known either, one warning says why there is none, after what it means (`without`).
        """
        height, width = found.depth.shape
        try:
            info, model = self._camera_infos.match(
                header, width, height, rectified=settings.rectified, any_frame=settings.camera_info_any_frame
            )
        except CameraError as error:
            estimated = _estimated_camera(found)
            if estimated is None:
                self._health.warn(f"{without}{error}")
                return None
            self._health.warn(f"{ESTIMATED_FOCAL}: {error}")
            return CameraOfImage(estimated)
        if not settings.rectified and is_distorted(info):
            self._health.remark(RAW_DEPTH)
        return CameraOfImage(model, info)

    def _is_aligned(self) -> bool:
        return self.scaling.state is not None and self.scaling.state.name == "aligned"

    def _residual_m(self) -> float | None:
        if self.scaling.state is None:
            return None
        residual_m = self.scaling.state.residual_m
        return math.nan if residual_m is None else residual_m

    def _smoothed(self, metres: Tensor, estimate: Estimate, settings: CameraSettings) -> Tensor:
        time_constant_s = settings.temporal_filter_s
        if time_constant_s is None:
            self._filter = None
            return metres
        made_of = (time_constant_s, estimate.model, *_configured(settings))
        if self._filter is None or self._filter_made_of != made_of:
            self._filter, self._filter_made_of = TemporalFilter(time_constant_s), made_of
        return self._filter(metres, moment_s(estimate.header))


def _estimated_camera(found: DepthTensors) -> CameraModel | None:
    """The pinhole camera of the focal length that the model estimates, its principal point in the middle."""
    focal_px = math.nan if found.focal_px is None else float(found.focal_px)
    if not 0 < focal_px < math.inf:
        return None
    height, width = found.depth.shape
    return CameraModel(focal_px, focal_px, *image_center(width, height), width, height)


def _configured(settings: CameraSettings) -> tuple[float | None, ...]:
    """What makes metres; another value makes what the filter remembers wrong."""
    return settings.max_depth, settings.scale, settings.shift_m, settings.metres_per_unit


def _unit(estimator: DepthEstimator, depth: Tensor, camera: CameraModel | None, settings: CameraSettings) -> float:
    """The factor for the network's depth (H, W) of this camera."""
    height, width = depth.shape
    focal_px = None if camera is None else (camera.fx, camera.fy)
    return estimator.scale(height, width, settings.max_depth, focal_px)


def _times(depth: Tensor, factor: float, *, is_shared: bool) -> Tensor:
    """Multiply depth in its own memory, unless something else of the frame is in it, too."""
    with torch.inference_mode():  # the estimator's tensors are of this mode
        return depth * factor if is_shared else depth.mul_(factor)


def _full_scale_m(estimator: DepthEstimator) -> float:
    has_end = estimator.kind == "metric" and not estimator.needs_focal
    return estimator.max_depth if has_end else ENDLESS_COLOR_MAX_M


def is_distorted(info: CameraInfo) -> bool:
    """Whether rectifying the images of a CameraInfo would change them: by the lens, or by P that is not K."""
    k, p = (np.array(matrix, np.float64) for matrix in (info.k, info.p))
    has_another_p = p[0] != 0 and not np.allclose(p.reshape(3, 4)[:, :3], k.reshape(3, 3))
    return any(info.d) or has_another_p


def clip_range(depth: Tensor, settings: CameraSettings) -> Tensor:
    """Mark depth outside the range: -Inf where it is too close, +Inf where it is beyond (REP 117)."""
    if settings.min_range_m is not None:
        depth = torch.where(depth < settings.min_range_m, -torch.inf, depth)
    if settings.max_range_m is not None:
        depth = torch.where(depth > settings.max_range_m, torch.inf, depth)
    return depth
