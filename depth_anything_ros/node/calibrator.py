"""The cameras' scale and shift: found on demand, kept in a file, and set as parameters for everybody to see."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future

from depth_anything_ros.errors import FitRefused, InputError, SettingsError
from depth_anything_ros.node.camera_stream import CameraStream
from depth_anything_ros.scale.alignment import AS_PREDICTED
from depth_anything_ros.scale.calibrations import Calibration, load_calibration, save_calibration
from depth_anything_ros.scale.fit import DepthScale, ScaleFit


@dataclass(frozen=True)
class _Set:
    """What was set for a camera, and the key of the model that it was fitted to."""

    model_key: str
    numbers: tuple[float, float]


class Calibrator:
    """Belongs to the executor's thread.

    Args:
        node: whose parameters `scale` and `shift_m` are set.
        streams: its cameras.
        file: where calibrations are kept, None for nowhere.
    """

    def __init__(self, node: Node, streams: Sequence[CameraStream], file: str | None) -> None:
        self._node = node
        self._streams = streams
        self._file = None if file is None else Path(file).expanduser()
        self._set: dict[str, _Set] = {}

    async def run(self, model_key: str) -> tuple[bool, str]:
        """Fit every camera to what its range sensor or the ground says about the next frames; say what came out."""
        under_way = [(stream, self._calibration_of(stream)) for stream in self._streams]
        found = [(stream, await calibration or FitRefused("no result")) for stream, calibration in under_way]
        texts = [f"{stream.title}: {describe_fit(fit)}" for stream, fit in found]
        fitted = [(stream, fit) for stream, fit in found if isinstance(fit, ScaleFit)]
        problems = [self._set_scale(stream, fit, model_key) for stream, fit in fitted]
        problems += [self._save(stream, fit, model_key) for stream, fit in fitted]
        texts += filter(None, problems)
        return len(fitted) == len(found) and not any(problems), "; ".join(texts)

    def follow(self, model_key: str) -> None:
        """Take over the file's calibrations for a model that is new. What was set by hand stays as it is."""
        for stream in self._streams:
            ours = self._set.get(stream.name)
            current = (stream.settings.scale, stream.settings.shift_m)
            if current != (AS_PREDICTED.numbers if ours is None else ours.numbers):
                continue
            if ours is not None and ours.model_key != model_key:
                self._warn(f"{stream.title}: its scale was fitted to {ours.model_key} and is given up")
                self._set_scale(stream, AS_PREDICTED, model_key)
                del self._set[stream.name]
            if stream.name not in self._set and self._file is not None:
                self._load(stream, self._file, model_key)

    def _calibration_of(self, stream: CameraStream) -> Future[ScaleFit | FitRefused]:
        ended: Future[ScaleFit | FitRefused] = Future(executor=self._node.executor)
        stream.scaling.calibrate(ended.set_result)
        return ended

    def _load(self, stream: CameraStream, file: Path, model_key: str) -> None:
        try:
            problem = self._set_scale(stream, load_calibration(file, stream.title, model_key).depth_scale, model_key)
        except SettingsError as error:
            problem = str(error)
        if problem:
            self._warn(f"{stream.title} is not calibrated: {problem}")

    def _set_scale(self, stream: CameraStream, found: DepthScale, model_key: str) -> str:
        """Set a camera's parameters. Returns what was wrong with that; empty if nothing."""
        prefix = f"{stream.name}." if stream.name else ""
        values = {"scale": found.scale, "shift_m": found.shift_m}
        result = self._node.set_parameters_atomically(
            [Parameter(prefix + name, value=value) for name, value in values.items()]
        )
        if result.successful:
            self._set[stream.name] = _Set(model_key, found.numbers)
        return "" if result.successful else str(result.reason)

    def _save(self, stream: CameraStream, fit: ScaleFit, model_key: str) -> str:
        """Write a camera's calibration down. Returns what was wrong with that; empty if nothing."""
        try:
            if self._file is not None:
                today = datetime.date.today().isoformat()
                save_calibration(self._file, stream.title, Calibration.of(fit, model_key, today))
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
