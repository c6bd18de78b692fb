"""ROS parameters <-> settings: one table with every parameter's description, type and range.

The defaults come from the settings; this file only says what is allowed. ROS has no "none": an
empty string or a zero stands for it where a setting is optional, and its description says so.
Each camera may have its own value of a camera's parameter, `front.max_depth` beside `max_depth`; until it
is given one, that parameter is not set. A node with a table of its own declares and checks it with the same
functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rclpy.node import Node

from depth_anything_ros.backends.protocol import BACKENDS, PRECISIONS
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.node.parameter_table import (
    Parameter,
    _checked,
    _checked_cameras,
    _declare_unset,
    _of_type,
    _ros_default,
    checked,
    declare_table,
    values_of,
)
from depth_anything_ros.settings import CameraSettings, ModelSettings, NodeSettings

MODEL_PARAMETERS: dict[str, Parameter] = {
    "encoder": Parameter("Size of the network; vitt is for demonstrations only.", choices=tuple(ENCODERS)),
    "dataset": Parameter(
        "What the weights were trained on: hypersim (indoor, metric), vkitti (outdoor, metric), "
        "relative (inverse depth without a unit, published on ~/relative/image only), synthetic (vitt only).",
        choices=tuple(DATASETS),
    ),
    "checkpoint": Parameter(
        "File with the weights (.pth or .safetensors). Empty: search DEPTH_ANYTHING_CHECKPOINTS and the cache, "
        "then download. A .onnx file of `depth_anything export` runs in ONNX Runtime. "
        "'untrained': random weights, for trials of everything but the depth.",
        unset="",
    ),
    "input_size": Parameter(
        "Short side of the image given to the network, in pixels; vitt takes up to 224.", bounds=(14, 2072)
    ),
    "device": Parameter("auto (CUDA where there is one), cpu, cuda or cuda:N."),
    "precision": Parameter(
        "auto is fp16 on CUDA, or bf16 where fp16 overflows; on a CPU fp32, or bf16 where OpenVINO finds that it "
        "costs next to nothing.",
        choices=PRECISIONS,
    ),
    "backend": Parameter(
        "What runs the network. auto is torch on CUDA; on a CPU openvino where it is installed and agrees with torch.",
        choices=BACKENDS,
    ),
    "compile": Parameter(
        "Let torch.compile rewrite the network: takes minutes for each image size, and a C++ compiler."
    ),
    "download": Parameter("Download missing official weights from the Hugging Face Hub."),
    "accept_license": Parameter("Agree to the CC-BY-NC-4.0 licence of the Base and Large weights when downloading."),
}

ALIGNMENTS = ("none", "range", "ground_plane")
RANGE_TYPES = ("LaserScan", "PointCloud2", "Range", "Image")

CAMERA_PARAMETERS: dict[str, Parameter] = {
    "max_depth": Parameter(
        "Depth in metres at the network's full output. 0: the dataset's own (hypersim 20, vkitti 80, synthetic 10).",
        bounds=(0.0, 1000.0),
        unset=0.0,
    ),
    "warm_up_width": Parameter(
        "Width of the images to come: what is compiled for a size is compiled before the first. 0: at the first.",
        bounds=(0, 16384),
    ),
    "warm_up_height": Parameter("Height of the images to come, as warm_up_width.", bounds=(0, 16384)),
    "image_transport": Parameter(
        "raw subscribes to image, compressed to image/compressed.", choices=("raw", "compressed"), fixed=True
    ),
    "rectified": Parameter("The images are rectified: use P of the CameraInfo instead of K and D."),
    "camera_info_any_frame": Parameter(
        "Use CameraInfo of another frame_id where there is none of the image's; without it there is no cloud then."
    ),
    "process_every_frame": Parameter("Queue frames instead of taking the latest, for recorded data.", fixed=True),
    "queue_size": Parameter(
        "Frames that wait at most with process_every_frame; the oldest goes first.", bounds=(1, 10_000), fixed=True
    ),
    "depth_encoding": Parameter(
        "32FC1: metres. 16UC1: millimetres, 0 for invalid, nothing beyond 65.535 m.", choices=("32FC1", "16UC1")
    ),
    "min_range_m": Parameter(
        "Nearer depth is -Inf in the image and missing in the cloud. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0
    ),
    "max_range_m": Parameter(
        "Farther depth is +Inf in the image and missing in the cloud. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0
    ),
    "cloud_stride": Parameter("The cloud takes every n-th row and column.", bounds=(1, 64)),
    "cloud_rate_hz": Parameter("At most this many clouds a second. 0: no limit.", bounds=(0.0, 1000.0), unset=0.0),
    "color_max_m": Parameter(
        "Depth at the far end of the colour picture. 0: max_depth.", bounds=(0.0, 1000.0), unset=0.0
    ),
    "stale_after_s": Parameter(
        "Images or CameraInfo that have not come for so many seconds are reported as stale.", bounds=(0.1, 3600.0)
    ),
    "jpeg_quality": Parameter("Quality of the compressed colour picture.", bounds=(1, 100)),
    "scale": Parameter("What metric depth is multiplied by.", bounds=(0.01, 100.0)),
    "shift_m": Parameter("What is added to metric depth after that, in metres.", bounds=(-100.0, 100.0)),
    "alignment": Parameter(
        "What tells scale and shift frame by frame: nothing, a range sensor on the topic range, or the ground below a "
        "camera of known height.",
        choices=ALIGNMENTS,
    ),
    "alignment_time_constant_s": Parameter(
        "Time constant of the smoothing of scale and shift. 0: none.", bounds=(0.0, 3600.0)
    ),
    "alignment_hold_s": Parameter(
        "For so long the last scale and shift are kept without new readings; then the configured ones hold.",
        bounds=(0.0, 3600.0),
    ),
    "alignment_window_s": Parameter(
        "For so long a range sensor's readings are used together: the fewer it has, the longer.", bounds=(0.0, 3600.0)
    ),
    "range_type": Parameter(
        "Type of the messages on the topic range; Image: depth registered to the camera. Empty: no range sensor.",
        choices=("", *RANGE_TYPES),
        unset="",
        fixed=True,
    ),
    "range_extrinsics": Parameter(
        "[x, y, z, roll, pitch, yaw] of the range sensor in the camera's optical frame, metres and radians. "
        "Not set: TF is asked.",
        numbers=6,
        fixed=True,
    ),
    "range_window_s": Parameter(
        "A reading belongs to an image whose stamp is at most so many seconds from its own.", bounds=(0.0, 60.0)
    ),
    "camera_height_m": Parameter(
        "Height of the camera's optical centre above the ground. 0: unknown.", bounds=(0.0, 100.0), unset=0.0
    ),
    "camera_pitch_rad": Parameter("Pitch the camera is mounted with; positive looks down.", bounds=(-1.5, 1.5)),
    "camera_roll_rad": Parameter(
        "Roll the camera is mounted with; positive is clockwise, seen from behind.", bounds=(-3.2, 3.2)
    ),
    "temporal_filter_s": Parameter(
        "Time constant of the smoothing of depth over time. 0: none.", bounds=(0.0, 60.0), unset=0.0
    ),
    "edge_filter": Parameter("Leave points out of the cloud that hang between a foreground and its background."),
}

NODE_PARAMETERS: dict[str, Parameter] = {
    "cameras": Parameter(
        "Names of the cameras; each has its topics below its name and may have its own value of any camera's "
        "parameter, such as front.max_depth. One empty name: one camera, without a name.",
        fixed=True,
    ),
    "autostart": Parameter("Configure and activate at the start, without a lifecycle manager.", fixed=True),
    "cpu_fallback": Parameter("Go on with the CPU where the device fails again and again."),
    "stuck_after_s": Parameter(
        "An inference that takes longer than so many seconds is reported as stuck.", bounds=(0.1, 3600.0)
    ),
    "snapshot_folder": Parameter(
        "Folder for snapshots. Empty: depth_anything_snapshots in the ROS home.", unset="", fixed=True
    ),
    "calibration_file": Parameter(
        "YAML file with the cameras' scale and shift: read at the start, written by ~/calibrate. Empty: none.",
        unset="",
        fixed=True,
    ),
}

CAMERA_DEFAULTS = {field.name: getattr(CameraSettings(), field.name) for field in fields(CameraSettings)}
# These make no other model, so the one that runs says nothing about them.
HOW_TO_FETCH = ("download", "accept_license")
PARAMETERS = {**MODEL_PARAMETERS, **CAMERA_PARAMETERS, **NODE_PARAMETERS}


@dataclass(frozen=True)
class Configuration:
    """What all parameters together say.

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


def declare(node: Node) -> None:
    """Declare every parameter of the depth node, those of its cameras included. Raises as `declare_table`.

    Raises:
        SettingsError: a camera's name.
    """
    declare_table(node, PARAMETERS, {**_values(ModelSettings()), **CAMERA_DEFAULTS, **_values(NodeSettings())})
    for camera in _checked_cameras(node.get_parameter("cameras").value):
        for name, parameter in CAMERA_PARAMETERS.items() if camera else ():
            _declare_unset(node, f"{camera}.{name}", parameter, _ros_default(parameter, CAMERA_DEFAULTS[name]))


def read(node: Node) -> Configuration:
    """Return what the node's parameters say.

    Raises:
        SettingsError: see `changed`.
    """
    values = values_of(node, PARAMETERS)
    own = [f"{camera}.{name}" for camera in values["cameras"] for name in CAMERA_PARAMETERS]
    return changed(Configuration(), {**values, **values_of(node, own)})


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
    """What a camera has for itself: what it had, and what the values say."""
    own = dict(configuration.own.get(camera, {}))
    for name, parameter in CAMERA_PARAMETERS.items():
        value = values.get(full_name := f"{camera}.{name}")
        if value is not None:
            default = _ros_default(parameter, CAMERA_DEFAULTS[name])
            own[name] = _checked(full_name, parameter, _of_type(full_name, type(default), value))
    return own


def _check_together(prefix: str, camera: CameraSettings) -> None:
    nearest, farthest = camera.min_range_m, camera.max_range_m
    if nearest is not None and farthest is not None and nearest >= farthest:
        raise SettingsError(
            f"parameter {prefix}min_range_m is {nearest}; it must be less than {prefix}max_range_m, {farthest}"
        )
    if camera.alignment == "range" and camera.range_type is None:
        raise SettingsError(f"parameter {prefix}alignment is 'range'; it needs {prefix}range_type")
    if camera.alignment == "ground_plane" and camera.camera_height_m is None:
        raise SettingsError(f"parameter {prefix}alignment is 'ground_plane'; it needs {prefix}camera_height_m")


def to_ros(settings: ModelSettings) -> dict[str, Any]:
    """Return the parameter values that say these model settings."""
    return {name: PARAMETERS[name].unset if value is None else value for name, value in _values(settings).items()}


def _values(settings: ModelSettings | CameraSettings | NodeSettings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
