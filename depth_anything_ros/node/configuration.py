"""What the values of all parameters together mean: the settings of the model, the node and each camera.

Each camera may have its own value of a camera's parameter, `front.max_depth` beside `max_depth`. Until it is given one,
that parameter is not set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rclpy.node import Node

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.node.parameter_table import (
    Parameter,
    check_cameras,
    check_type,
    check_value,
    checked,
    declare_table,
    declare_unset,
    ros_default,
    values_of,
)
from depth_anything_ros.node.parameters import CAMERA_PARAMETERS, MODEL_PARAMETERS, NODE_PARAMETERS, PARAMETERS
from depth_anything_ros.settings import CameraSettings, ModelSettings, NodeSettings


def _values(settings: ModelSettings | CameraSettings | NodeSettings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


CAMERA_DEFAULTS = _values(CameraSettings())
DEFAULTS = {**_values(ModelSettings()), **CAMERA_DEFAULTS, **_values(NodeSettings())}


@dataclass(frozen=True)
class Configuration:
    """The settings that all parameters together give.

    Attributes:
        camera: for every camera, where it has no value of its own.
        own: camera -> its own values, by the name of the setting.
    """

    model: ModelSettings = field(default_factory=ModelSettings)
    node: NodeSettings = field(default_factory=NodeSettings)
    camera: CameraSettings = field(default_factory=CameraSettings)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_camera(self, name: str) -> CameraSettings:
        """Return the settings of one camera."""
        return replace(self.camera, **self.own.get(name, {}))


def names_of_all(cameras: Sequence[str]) -> list[str]:
    """Return the names of all parameters, those of single cameras included."""
    own = [f"{camera}.{name}" for camera in cameras if camera for name in CAMERA_PARAMETERS]
    return [*PARAMETERS, *own]


def declare(node: Node) -> None:
    """Declare every parameter of the depth node, those of its cameras included. Raises as `declare_table`.

    Raises:
        SettingsError: a camera's name.
    """
    declare_table(node, PARAMETERS, DEFAULTS)
    for camera in check_cameras("cameras", node.get_parameter("cameras").value):
        for name, parameter in CAMERA_PARAMETERS.items() if camera else ():
            declare_unset(node, f"{camera}.{name}", parameter, ros_default(parameter, CAMERA_DEFAULTS[name]))


def read(node: Node) -> Configuration:
    """Return the settings that the node's parameters give.

    Raises:
        SettingsError: see `changed`.
    """
    names = names_of_all(node.get_parameter("cameras").value)
    return changed(Configuration(), values_of(node, names))


def changed(configuration: Configuration, values: Mapping[str, Any]) -> Configuration:
    """Return the configuration with some parameters changed; names that are not ours are ignored.

    Raises:
        SettingsError: names the parameter, the value and what is allowed.
    """
    ours = checked(PARAMETERS, values)
    result = replace(
        configuration,
        model=replace(configuration.model, **_of_table(MODEL_PARAMETERS, ours)),
        node=replace(configuration.node, **_of_table(NODE_PARAMETERS, ours)),
        camera=replace(configuration.camera, **_of_table(CAMERA_PARAMETERS, ours)),
    )
    result = replace(result, own={name: _own_values(result, name, values) for name in result.node.cameras})
    for name in result.node.cameras:
        _check_together(f"{name}." if name else "", result.of_camera(name))
    return result


def _of_table(table: Mapping[str, Parameter], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in table}


def _own_values(configuration: Configuration, camera: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A camera's own values: those it had, updated by the new ones."""
    own = dict(configuration.own.get(camera, {}))
    for name, parameter in CAMERA_PARAMETERS.items():
        value = values.get(full_name := f"{camera}.{name}")
        if value is not None:
            default = ros_default(parameter, CAMERA_DEFAULTS[name])
            own[name] = check_value(full_name, parameter, check_type(full_name, type(default), value))
    return own


def _check_cloud_heights(prefix: str, camera: CameraSettings) -> None:
    lowest, highest = camera.cloud_min_height_m, camera.cloud_max_height_m
    if lowest is not None and highest is not None and lowest >= highest:
        raise SettingsError(
            f"parameter {prefix}cloud_min_height_m is {lowest}; it must be less than {prefix}cloud_max_height_m, "
            f"{highest}"
        )
    is_limited = lowest is not None or highest is not None
    if is_limited and camera.camera_height_m is None and camera.cloud_height_frame is None:
        raise SettingsError(
            f"{prefix}cloud_min_height_m and {prefix}cloud_max_height_m need {prefix}camera_height_m or "
            f"{prefix}cloud_height_frame"
        )


def _check_together(prefix: str, camera: CameraSettings) -> None:
    nearest, farthest = camera.min_range_m, camera.max_range_m
    if nearest is not None and farthest is not None and nearest >= farthest:
        raise SettingsError(
            f"parameter {prefix}min_range_m is {nearest}; it must be less than {prefix}max_range_m, {farthest}"
        )
    _check_cloud_heights(prefix, camera)
    lowest, highest = camera.scan_min_height_m, camera.scan_max_height_m
    if highest is not None and lowest >= highest:
        raise SettingsError(
            f"parameter {prefix}scan_min_height_m is {lowest}; it must be less than {prefix}scan_max_height_m, "
            f"{highest}"
        )
    if highest is not None and camera.camera_height_m is None:
        raise SettingsError(f"parameter {prefix}scan_max_height_m is {highest}; it needs {prefix}camera_height_m")
    if 0 < camera.white_level <= camera.black_level:
        raise SettingsError(
            f"parameter {prefix}white_level is {camera.white_level}; it must be more than {prefix}black_level, "
            f"{camera.black_level}"
        )
    if camera.undistort and camera.rectified:
        raise SettingsError(f"parameter {prefix}undistort is true; it is for raw images, and {prefix}rectified is true")
    if camera.alignment == "range" and camera.range_type is None:
        raise SettingsError(f"parameter {prefix}alignment is 'range'; it needs {prefix}range_type")
    if camera.alignment == "ground_plane" and camera.camera_height_m is None:
        raise SettingsError(f"parameter {prefix}alignment is 'ground_plane'; it needs {prefix}camera_height_m")


def to_ros(settings: ModelSettings) -> dict[str, Any]:
    """Return the parameter values for these model settings."""
    return {name: PARAMETERS[name].unset if value is None else value for name, value in _values(settings).items()}
