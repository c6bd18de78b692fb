"""One camera's scale and shift: as configured, or as fitted to evidence frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError
from depth_anything_ros.messages.stamps import moment_s
from depth_anything_ros.node.range_input import RangeInput
from depth_anything_ros.scale.alignment import Alignment, AlignmentState
from depth_anything_ros.scale.calibration_run import CalibrationRun
from depth_anything_ros.scale.fit import DepthScale, Fit, ScaleFit, fit_factor, fit_inverse, fit_scale
from depth_anything_ros.scale.ground_plane import fit_ground_plane, ground_settings
from depth_anything_ros.scale.range_samples import Pairs
from depth_anything_ros.scale.sample_pool import SamplePool
from depth_anything_ros.settings import AlignmentSettings, CameraSettings, FitSettings

# A single beam gives one reading a frame. Gathering the readings that a fit needs may take so long.
LONGEST_WINDOW_S = 60.0
RELATIVE_REFUSAL = "relative depth has no scale that lasts: use alignment"


@dataclass(frozen=True)
class Estimate:
    """A model's depth of one image.

    Attributes:
        depth: float32 (H, W), any device: metres, or depth without a unit; +Inf in the sky.
        model: its key and the hash of its weights; another one restarts the alignment.
        camera: the image's camera, None where it is not known.
        is_camera_estimated: its focal length is the model's estimate.
        raw_camera: of an image that was rectified here, that of what came.
    """

    depth: Tensor
    model: tuple[str, str]
    kind: Kind
    header: Header
    camera: CameraModel | None
    is_camera_estimated: bool = False
    raw_camera: CameraModel | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The depth in host memory."""
        values: NDArray[np.float32] = self.depth.cpu().numpy()
        return values


class Scaling:
    """The scaling of one camera. Call `apply` from the worker thread; everything else may be called by any thread.

    Args:
        range_input: the camera's range sensor, None without one.
    """

    def __init__(self, range_input: RangeInput | None = None) -> None:
        self._range_input = range_input
        self._alignment: Alignment | None = None
        self._made_of: tuple[object, ...] = ()
        self._pool = SamplePool(0.0)
        self._used: dict[str, Any] = {}  # purpose -> the range message that served it last
        self._run: CalibrationRun | None = None
        self._lock = threading.Lock()

    @property
    def state(self) -> AlignmentState | None:
        """The state of the alignment; None without one."""
        alignment = self._alignment
        return alignment.state if alignment is not None else None

    def is_wanted(self, kind: Kind, settings: CameraSettings) -> bool:
        """Whether depth of a kind has metres, may get them by alignment, or is being calibrated."""
        if settings.alignment != "none" or configured_scale(kind, settings) is not None:
            return True
        return kind != "relative" and self.is_calibrating

    def apply(self, estimate: Estimate, settings: CameraSettings) -> Tensor | None:
        """Return metres, float32 (H, W) on the estimate's device; None while depth without a unit has no scale."""
        configured = configured_scale(estimate.kind, settings)
        self._calibrate(estimate, settings)
        if settings.alignment == "none":
            self._alignment, self._made_of = None, ()
            return None if configured is None else configured.apply(estimate.depth)
        alignment = self._current_alignment(estimate, configured, settings)
        applied = alignment.update(self._evidence(estimate, settings), moment_s(estimate.header))
        return None if applied is None else applied.apply(estimate.depth)

    def _current_alignment(
        self, estimate: Estimate, configured: DepthScale | None, settings: CameraSettings
    ) -> Alignment:
        smoothing = AlignmentSettings(settings.alignment_time_constant_s, settings.alignment_hold_s)
        source = (settings.alignment, settings.alignment_window_s)
        seen = (estimate.model, settings.max_depth, settings.undistort, settings.undistort_focal_px)
        made_of = (*source, *seen, configured, smoothing)
        if self._alignment is None or made_of != self._made_of:
            self._made_of = made_of
            self._alignment = Alignment(estimate.kind, configured, smoothing)
            self._pool = _pool_over(settings.alignment_window_s)
        return self._alignment

    def _evidence(self, estimate: Estimate, settings: CameraSettings) -> Fit | FitRefused | None:
        """Return the fit of this frame, or why there is none; None where the last reading still is the latest."""
        try:
            if settings.alignment == "ground_plane":
                return ground_fit(estimate, settings)
            pairs = self._read_range(estimate, settings, "alignment")
            if pairs is None:
                return None
            # Without a unit, depth has another scale in every picture: what was read in others says nothing.
            if estimate.kind == "relative":
                return fit_inverse(*pairs)
            if estimate.kind == "scale_invariant":
                return fit_factor(*pairs)
            self._pool.add(moment_s(estimate.header), *pairs)
            return fit_scale(*self._pool.pairs(), shift_m=settings.shift_m)
        except FitRefused as refused:
            return refused
        except InputError as error:
            return FitRefused(str(error))

    def _read_range(self, estimate: Estimate, settings: CameraSettings, purpose: str) -> Pairs | None:
        """Return the pairs of the picture's reading; None where it served that purpose before.

        Raises:
            NoReading: none belongs to the picture. FitRefused: it cannot be found in the picture.
        """
        if self._range_input is None:
            raise FitRefused("there is no range sensor: set range_type")
        camera = known_camera(estimate)
        msg = self._range_input.nearest(estimate.header, settings.range_window_s)
        # Depth without a unit has another scale in every picture, so each picture needs the reading.
        if msg is self._used.get(purpose) and estimate.kind == "metric":
            return None
        self._used[purpose] = msg
        depth, kind, header = estimate.values, estimate.kind, estimate.header
        return self._range_input.compare(msg, depth, kind, header, camera, settings, raw_camera=estimate.raw_camera)

    # Calibration

    @property
    def is_calibrating(self) -> bool:
        """Whether a calibration needs frames, even if nobody subscribes."""
        return self._run is not None

    def calibrate(self, done: Callable[[ScaleFit | FitRefused], None]) -> None:
        """Collect the evidence of the next frames, then call `done` from any thread. Cancels a run under way."""
        self._replace_run(CalibrationRun(done), "another calibration was started")

    def give_up(self, why: str) -> None:
        """Cancel a calibration under way, if there is one."""
        self._replace_run(None, why)

    def _replace_run(self, run: CalibrationRun | None, why: str) -> None:
        with self._lock:
            given_up, self._run = self._run, run
        if given_up is not None:
            given_up.give_up(why)

    def skip(self, why: str) -> None:
        """Note why a frame's depth has no metres: a calibration under way learns nothing from it."""
        if (run := self._run) is not None:
            run.add_problem(why)

    def check_time(self) -> None:
        """Finish a calibration whose time is over with what it has."""
        run = self._run
        if run is not None and run.is_overdue:
            self._end(run)

    def _calibrate(self, estimate: Estimate, settings: CameraSettings) -> None:
        run = self._run
        if run is None:
            return
        if run.is_of_another(estimate.model, estimate.kind):
            self.give_up("the model was changed")
            return
        try:
            if estimate.kind == "relative":
                raise FitRefused(RELATIVE_REFUSAL)
            if self._range_input is None:
                run.add_fit(ground_fit(estimate, settings))
            elif (pairs := self._read_range(estimate, settings, "calibration")) is not None:
                run.add_pairs(pairs)
        except InputError as error:
            run.add_problem(str(error))
        if run.has_enough:
            self._end(run)

    def _end(self, run: CalibrationRun) -> None:
        with self._lock:
            if self._run is not run:
                return
            self._run = None
        run.finish()


def configured_scale(kind: Kind, settings: CameraSettings) -> DepthScale | None:
    """Return the scale and shift that the settings give depth of a kind; None where it has no metres."""
    if kind == "metric":
        return DepthScale(settings.scale, settings.shift_m)
    if kind == "scale_invariant" and settings.metres_per_unit is not None:
        return DepthScale(settings.metres_per_unit, 0.0)
    return None


def _pool_over(window_s: float) -> SamplePool:
    return SamplePool(window_s, min_pairs=FitSettings.min_samples, longest_s=max(window_s, LONGEST_WINDOW_S))


def known_camera(estimate: Estimate) -> CameraModel:
    """Return the image's camera. Raises FitRefused if it is not known."""
    if estimate.camera is None:
        raise FitRefused("no CameraInfo: readings cannot be found in the picture")
    return estimate.camera


def ground_fit(estimate: Estimate, settings: CameraSettings) -> ScaleFit:
    """Fit the scale of depth to the ground. Raises FitRefused."""
    if estimate.kind == "relative":
        raise FitRefused("relative depth is aligned by a range sensor, not by the ground plane")
    if settings.camera_height_m is None:
        raise FitRefused("neither range_type nor camera_height_m is set")
    if estimate.is_camera_estimated:
        raise FitRefused("no CameraInfo: the ground's scale follows from the focal length, which is an estimate")
    return fit_ground_plane(
        estimate.values,
        known_camera(estimate),
        settings.camera_height_m,
        ground_settings(estimate.kind),
        pitch_rad=settings.camera_pitch_rad,
        roll_rad=settings.camera_roll_rad,
    )
