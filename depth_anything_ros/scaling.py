"""What makes one camera's depth right: its scale and shift, as configured or as evidence has it, frame by frame."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.alignment import Alignment, AlignmentState
from depth_anything_ros.calibration_run import CalibrationRun
from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError
from depth_anything_ros.ground_plane import fit_ground_plane
from depth_anything_ros.range_input import RangeInput
from depth_anything_ros.range_samples import Pairs
from depth_anything_ros.sample_pool import SamplePool
from depth_anything_ros.scale_fit import DepthScale, Fit, fit_inverse, fit_scale
from depth_anything_ros.settings import AlignmentSettings, CameraSettings
from depth_anything_ros.stamps import stamp_s

NO_CAMERA = FitRefused("no CameraInfo: readings cannot be found in the picture")


class Scaling:
    """One camera's. `apply` belongs to the worker; everything else to the executor's thread.

    Args:
        range_input: the camera's range sensor, None where it has none.
    """

    def __init__(self, range_input: RangeInput | None = None) -> None:
        self._range_input = range_input
        self._alignment: Alignment | None = None
        self._made_of: tuple[object, ...] = ()
        self._pool = SamplePool(0.0)
        self._run: CalibrationRun | None = None
        self._lock = threading.Lock()

    @property
    def state(self) -> AlignmentState | None:
        """What the alignment does; None without one."""
        return self._alignment.state if self._alignment is not None else None

    @property
    def is_calibrating(self) -> bool:
        """Whether frames are wanted for a calibration, whoever listens."""
        return self._run is not None

    def apply(
        self,
        depth: Tensor,
        model: object,
        kind: Kind,
        header: Header,
        camera: CameraModel | None,
        settings: CameraSettings,
    ) -> Tensor | None:
        """Make metres of what a model said.

        Args:
            depth: float32 (H, W), any device: metres, or relative depth.
            model: another one starts the alignment anew.

        Returns:
            Metres, float32 (H, W); None where relative depth has no scale.
        """
        configured = DepthScale(settings.scale, settings.shift_m)
        self._calibrate(depth, kind, header, camera, settings)
        if settings.alignment == "none":
            self._alignment, self._made_of = None, ()
            return configured.apply(depth) if kind == "metric" else None
        alignment = self._current_alignment(model, kind, configured, settings)
        applied = alignment.update(self._evidence(depth, kind, header, camera, settings), stamp_s(header))
        return None if applied is None else applied.apply(depth)

    def _current_alignment(
        self, model: object, kind: Kind, configured: DepthScale, settings: CameraSettings
    ) -> Alignment:
        smoothing = AlignmentSettings(settings.alignment_time_constant_s, settings.alignment_hold_s)
        made_of = (model, kind, configured, smoothing, settings.alignment, settings.alignment_window_s)
        if self._alignment is None or made_of != self._made_of:
            self._made_of = made_of
            self._alignment = Alignment(kind, configured, smoothing)
            # Relative depth has another scale and shift in every picture, so readings of others say nothing.
            self._pool = SamplePool(settings.alignment_window_s if kind == "metric" else 0.0)
        return self._alignment

    def _evidence(
        self, depth: Tensor, kind: Kind, header: Header, camera: CameraModel | None, settings: CameraSettings
    ) -> Fit | FitRefused | None:
        """What this frame says about the scale; None where no reading was due."""
        if camera is None:
            return NO_CAMERA
        values: NDArray[np.float32] = depth.cpu().numpy()
        try:
            if settings.alignment == "ground_plane":
                return ground_fit(values, kind, camera, settings)
            pairs = self._read_range(values, kind, header, camera, settings)
            if pairs is None:
                return None
            self._pool.add(stamp_s(header), *pairs)
            return fit_scale(*self._pool.pairs()) if kind == "metric" else fit_inverse(*self._pool.pairs())
        except FitRefused as refused:
            return refused
        except InputError as error:
            return FitRefused(str(error))

    def _read_range(
        self, values: NDArray[np.float32], kind: Kind, header: Header, camera: CameraModel, settings: CameraSettings
    ) -> Pairs | None:
        if self._range_input is None:
            raise FitRefused("there is no range sensor: set range_type")
        return self._range_input.pairs(values, kind, header, camera, settings)

    # Calibration

    def calibrate(self, done: Callable[[CalibrationRun], None]) -> None:
        """Collect the next frames' evidence, then call `done`, in whatever thread. A run under way is given up."""
        with self._lock:
            given_up, self._run = self._run, CalibrationRun(done)
        if given_up is not None:
            given_up.give_up("another calibration was begun")

    def check_time(self) -> None:
        """End a calibration whose time is over, with what it has."""
        run = self._run
        if run is not None and run.is_overdue:
            self._end(run)

    def _calibrate(
        self, depth: Tensor, kind: Kind, header: Header, camera: CameraModel | None, settings: CameraSettings
    ) -> None:
        run = self._run
        if run is None:
            return
        try:
            if kind == "relative":
                raise FitRefused("relative depth has no scale that lasts: use alignment")
            if camera is None:
                raise NO_CAMERA
            values: NDArray[np.float32] = depth.cpu().numpy()
            if self._range_input is None:
                run.add_fit(ground_fit(values, kind, camera, settings))
            elif (pairs := self._read_range(values, kind, header, camera, settings)) is not None:
                run.add_pairs(stamp_s(header), pairs)
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


def ground_fit(values: NDArray[np.float32], kind: Kind, camera: CameraModel, settings: CameraSettings) -> Fit:
    """Fit the scale of metric depth (H, W) to the ground. Raises FitRefused."""
    if kind == "relative":
        raise FitRefused("relative depth has no ground plane: use a range sensor")
    if settings.camera_height_m is None:
        raise FitRefused("the camera's height is not known: set camera_height_m")
    return fit_ground_plane(
        values,
        camera,
        settings.camera_height_m,
        pitch_rad=settings.camera_pitch_rad,
        roll_rad=settings.camera_roll_rad,
    )
