"""The calibration file: scale and shift of cameras, by the cameras' names, in YAML.

::

    front:
      scale: 1.083
      shift_m: -0.041
      residual_m: 0.052
      inlier_share: 0.91
      samples: 8000
      model: vits_hypersim_518
      date: '2026-03-01'
"""

from __future__ import annotations

import datetime
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.io.whole_files import write_file
from depth_anything_ros.io.yaml_files import read_yaml
from depth_anything_ros.scale.fit import DepthScale, ScaleFit
from depth_anything_ros.settings import check_camera_name


@dataclass(frozen=True)
class Calibration:
    """Scale and shift of a camera with a model, and how well they fitted.

    Attributes:
        scale, shift_m: `depth_m = scale * predicted + shift_m`.
        residual_m, inlier_share, samples: as in `ScaleFit`.
        model: model key they hold for, `{encoder}_{dataset}_{input_size}`.
        date: when they were fitted, as the caller writes it.
    """

    scale: float
    shift_m: float
    residual_m: float
    inlier_share: float
    samples: int
    model: str
    date: str

    @classmethod
    def of(cls, fit: ScaleFit, model: str, date: str) -> Calibration:
        """Take over a fit."""
        return cls(fit.scale, fit.shift_m, fit.residual_m, fit.inlier_share, fit.samples, model, date)

    @property
    def depth_scale(self) -> DepthScale:
        """What to apply."""
        return DepthScale(self.scale, self.shift_m)


# Name of a number -> what it may be, in words and as a test.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "scale": ("a positive number", lambda number: number > 0),
    "shift_m": ("a number", lambda number: True),
    "residual_m": ("a number, 0 or more", lambda number: number >= 0),
    "inlier_share": ("a number from 0 to 1", lambda number: 0 <= number <= 1),
    "samples": ("a whole number, 0 or more", lambda number: number >= 0 and isinstance(number, int)),
}
NAMES = tuple(field.name for field in fields(Calibration))


def load_calibrations(path: Path) -> dict[str, Calibration]:
    """Read all cameras of a file.

    Raises:
        SettingsError: no such file, not plain YAML, or a wrong entry. It names file, camera and value.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise SettingsError(f"calibrations {path} must be a table of cameras, got {reprlib.repr(content)}")
    return {_camera(path, name): _entry(path, name, entry) for name, entry in content.items()}


def load_calibration(path: Path, camera: str, model: str) -> Calibration:
    """Read one camera's calibration for a model key.

    Raises:
        SettingsError: as `load_calibrations`; no such camera, or its calibration is for another model.
    """
    known = load_calibrations(path)
    if camera not in known:
        raise SettingsError(f"no camera {camera!r} in {path}; known: {', '.join(known) or 'none'}")
    if known[camera].model != model:
        raise SettingsError(f"camera {camera!r} in {path} was calibrated for model {known[camera].model}, not {model}")
    return known[camera]


def save_calibration(path: Path, camera: str, calibration: Calibration) -> None:
    """Add or replace one camera's; the file appears complete or not at all, and the others' stay.

    Raises:
        SettingsError: a calibration or camera name that the node would refuse, or a file there that cannot be read:
            it is left as it is. CannotWrite: the file cannot be written.
    """
    others = load_calibrations(path) if path.exists() else {}
    entry = {name: _plain(value) for name, value in asdict(calibration).items()}
    checked = {check_camera_name(camera): _entry(path, camera, entry)}
    content = {name: asdict(value) for name, value in {**others, **checked}.items()}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value


def _camera(path: Path, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise SettingsError(f"names of cameras in {path} must be text, got {reprlib.repr(name)}")
    return name


def _entry(path: Path, camera: str, entry: Any) -> Calibration:
    where = f"camera {camera!r} in {path}"
    if not isinstance(entry, Mapping) or set(entry) != set(NAMES):
        raise SettingsError(f"{where} must have {', '.join(NAMES)}, got {reprlib.repr(entry)}")
    values = dict(entry)
    for name, (allowed, holds) in _RULES.items():
        number = values[name]
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not is_number or not abs(number) <= sys.float_info.max or not holds(number):
            raise SettingsError(f"{where}: {name} must be {allowed}, got {reprlib.repr(number)}")
        values[name] = number if name == "samples" else float(number)
    if isinstance(values["date"], datetime.date):  # YAML's own reading of a date without quotes
        values["date"] = values["date"].isoformat()
    for name in ("model", "date"):
        if not isinstance(values[name], str) or not values[name]:
            raise SettingsError(f"{where}: {name} must be text, got {reprlib.repr(values[name])}")
    return Calibration(**values)
