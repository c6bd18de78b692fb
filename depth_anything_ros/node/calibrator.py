"""The service ~/calibrate: finds scale and shift of every camera, keeps them in a file and sets them as parameters.

How a fit is made is in `scale/`; this file asks for one and applies it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import FitRefused, InputError, SettingsError
from depth_anything_ros.node.camera_pipeline import CameraPipeline
from depth_anything_ros.scale.calibrations import Calibration, load_calibration, save_calibration
from depth_anything_ros.scale.fit import DepthScale, ScaleFit

# The parameters that a calibration sets for each kind of depth, and their values without one.
UNSET: Mapping[Kind, Mapping[str, float]] = {
    "metric": {"scale": 1.0, "shift_m": 0.0},
    "scale_invariant": {"metres_per_unit": 0.0},
    "relative": {},
}


@dataclass(frozen=True)
class _Set:
    """The parameters set for a camera, the model that they were fitted to, and its kind of depth."""

    model_key: str
    kind: Kind
    values: Mapping[str, float]


class Calibrator:
    """Belongs to the executor's thread.

    Args:
        node: whose parameters in `UNSET` are set.
        cameras: its cameras.
        file: where calibrations are kept, None for nowhere.
    """

    def __init__(self, node: Node, cameras: Sequence[CameraPipeline], file: str | None) -> None:
        self._node = node
        self._cameras = cameras
        self._file = None if file is None else Path(file).expanduser()
        self._set: dict[str, _Set] = {}

    async def run(self, model_key: str, kind: Kind) -> tuple[bool, str]:
        """Fit every camera to its range sensor or the ground over the next frames. Returns success and the message."""
        under_way = [(camera, self._calibration_of(camera)) for camera in self._cameras]
        found = [(camera, await calibration or FitRefused("no result")) for camera, calibration in under_way]
        texts = [f"{camera.title}: {describe_fit(fit)}" for camera, fit in found]
        fitted = [(camera, fit) for camera, fit in found if isinstance(fit, ScaleFit)]
        problems = [self._set_scale(camera, fit, model_key, kind) for camera, fit in fitted]
        problems += [self._save(camera, fit, model_key) for camera, fit in fitted]
        texts += filter(None, problems)
        return len(fitted) == len(found) and not any(problems), "; ".join(texts)

    def follow(self, model_key: str, kind: Kind) -> None:
        """Apply the file's calibrations for a new model. Values that a user has set stay."""
        for camera in self._cameras:
            ours = self._set.get(camera.name)
            if ours is not None and ours.model_key != model_key and self._has(camera, ours.values):
                self._warn(f"{camera.title}: its scale was fitted to {ours.model_key}, not to {model_key}: taken back")
                self._set_parameters(camera, UNSET[ours.kind])
                del self._set[camera.name]
            if camera.name not in self._set and self._file is not None and self._has(camera, UNSET[kind]):
                self._load(camera, self._file, model_key, kind)

    def _has(self, camera: CameraPipeline, values: Mapping[str, float]) -> bool:
        """Whether these parameters of a camera have these values."""
        return all((getattr(camera.settings, name) or 0.0) == value for name, value in values.items())

    def _calibration_of(self, camera: CameraPipeline) -> Future[ScaleFit | FitRefused]:
        ended: Future[ScaleFit | FitRefused] = Future(executor=self._node.executor)
        camera.scaling.calibrate(ended.set_result)
        return ended

    def _load(self, camera: CameraPipeline, file: Path, model_key: str, kind: Kind) -> None:
        try:
            found = load_calibration(file, camera.title, model_key).depth_scale
            problem = self._set_scale(camera, found, model_key, kind)
        except SettingsError as error:
            problem = str(error)
        if problem:
            self._warn(f"{camera.title} is not calibrated: {problem}")

    def _set_scale(self, camera: CameraPipeline, found: DepthScale, model_key: str, kind: Kind) -> str:
        """Set what a calibration found. Returns why that failed; empty if it did not."""
        if kind == "scale_invariant" and found.shift_m != 0:
            return f"depth up to a factor has no shift, and shift_m is {found.shift_m:g}"
        values = dict(zip(UNSET[kind], found.numbers, strict=False))
        problem = self._set_parameters(camera, values)
        if not problem:
            self._set[camera.name] = _Set(model_key, kind, values)
        return problem

    def _set_parameters(self, camera: CameraPipeline, values: Mapping[str, float]) -> str:
        """Set a camera's parameters. Returns why that failed; empty if it did not."""
        prefix = f"{camera.name}." if camera.name else ""
        result = self._node.set_parameters_atomically(
            [Parameter(prefix + name, value=value) for name, value in values.items()]
        )
        return "" if result.successful else str(result.reason)

    def _save(self, camera: CameraPipeline, fit: ScaleFit, model_key: str) -> str:
        """Save a camera's calibration. Returns why that failed; empty if it did not."""
        try:
            if self._file is not None:
                today = datetime.date.today().isoformat()
                save_calibration(self._file, camera.title, Calibration.of(fit, model_key, today))
        except InputError as error:
            return str(error)
        return ""

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text)


def describe_fit(fit: ScaleFit | FitRefused) -> str:
    """Say what a calibration found."""
    if not isinstance(fit, ScaleFit):
        return f"refused, {fit}"
    text = f"scale {fit.scale:.4f}, shift {fit.shift_m:+.3f} m, residual {fit.residual_m:.3f} m"
    return f"{text}, {fit.inlier_share:.0%} of {fit.samples} samples agree{f' ({fit.remark})' if fit.remark else ''}"
