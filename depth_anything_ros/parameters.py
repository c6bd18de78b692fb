"""ROS parameters <-> settings: one table with every parameter's description, type and range.

The defaults come from the settings; this file only says what is allowed. ROS has no "none": an
empty string or a zero stands for it where a setting is optional, and its description says so.
A node with a table of its own declares and checks it with the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from depth_anything_ros.backends import BACKENDS, PRECISIONS
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.settings import ModelSettings, NodeSettings


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it means and which values it takes.

    Attributes:
        description: shown by `ros2 param describe`.
        choices: allowed strings; empty allows any.
        bounds: lowest and highest number.
        unset: the value that stands for None, where the setting is optional.
        fixed: read once, at the start.
    """

    description: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    unset: str | float | None = None
    fixed: bool = False


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

NODE_PARAMETERS: dict[str, Parameter] = {
    "max_depth": Parameter(
        "Depth in metres at the network's full output. 0: the dataset's own (hypersim 20, vkitti 80, synthetic 10).",
        bounds=(0.0, 1000.0),
        unset=0.0,
    ),
    "image_transport": Parameter(
        "raw subscribes to image, compressed to image/compressed.", choices=("raw", "compressed"), fixed=True
    ),
    "rectified": Parameter("The images are rectified: use P of the CameraInfo instead of K and D."),
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
    "autostart": Parameter("Configure and activate at the start, without a lifecycle manager.", fixed=True),
}

PARAMETERS = {**MODEL_PARAMETERS, **NODE_PARAMETERS}


def declare(node: Node) -> None:
    """Declare every parameter of the depth node. Raises as `declare_table`."""
    declare_table(node, PARAMETERS, {**_values(ModelSettings()), **_values(NodeSettings())})


def declare_table(node: Node, table: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> None:
    """Declare the parameters of a table; the node's overrides are checked as they come in.

    Args:
        defaults: a setting for every name in the table; None where it has an `unset`.

    Raises:
        rclpy.exceptions.ParameterException: an override of the wrong type or out of range.
    """
    for name, parameter in table.items():
        default = defaults[name] if defaults[name] is not None else parameter.unset
        node.declare_parameter(name, default, _descriptor(parameter, default))


def _descriptor(parameter: Parameter, default: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=parameter.description, read_only=parameter.fixed)
    if parameter.choices:
        descriptor.additional_constraints = f"one of: {', '.join(parameter.choices)}"
    if parameter.bounds is not None and isinstance(default, int):
        first, last = (int(bound) for bound in parameter.bounds)
        descriptor.integer_range = [IntegerRange(from_value=first, to_value=last, step=1)]
    elif parameter.bounds is not None:
        lowest, highest = parameter.bounds
        descriptor.floating_point_range = [FloatingPointRange(from_value=lowest, to_value=highest, step=0.0)]
    return descriptor


def read(node: Node) -> tuple[ModelSettings, NodeSettings]:
    """Return the settings that the node's parameters say.

    Raises:
        SettingsError: see `changed`.
    """
    return changed(ModelSettings(), NodeSettings(), values_of(node, PARAMETERS))


def values_of(node: Node, table: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the values of a table's parameters."""
    return {name: node.get_parameter(name).value for name in table}


def changed(model: ModelSettings, node: NodeSettings, values: Mapping[str, Any]) -> tuple[ModelSettings, NodeSettings]:
    """Return the settings with some parameters changed; names that are not ours are ignored.

    Raises:
        SettingsError: names the parameter, the value and what is allowed.
    """
    ours = checked(PARAMETERS, values)
    model = replace(model, **{name: value for name, value in ours.items() if name in MODEL_PARAMETERS})
    node = replace(node, **{name: value for name, value in ours.items() if name in NODE_PARAMETERS})
    if node.min_range_m is not None and node.max_range_m is not None and node.min_range_m >= node.max_range_m:
        raise SettingsError(
            f"parameter min_range_m is {node.min_range_m}; it must be less than max_range_m, {node.max_range_m}"
        )
    return model, node


def checked(table: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that parameter values stand for; names that are not in the table are left out.

    Raises:
        SettingsError: names the parameter, the value and what is allowed.
    """
    return {name: _checked(name, table[name], value) for name, value in values.items() if name in table}


def _checked(name: str, parameter: Parameter, value: Any) -> Any:
    if parameter.choices and value not in parameter.choices:
        raise SettingsError(f"parameter {name} is {value!r}; allowed: {', '.join(parameter.choices)}")
    if parameter.bounds is not None and not parameter.bounds[0] <= value <= parameter.bounds[1]:
        raise SettingsError(f"parameter {name} is {value}; allowed: {parameter.bounds[0]:g} to {parameter.bounds[1]:g}")
    return None if parameter.unset is not None and value == parameter.unset else value


def to_ros(settings: ModelSettings) -> dict[str, Any]:
    """Return the parameter values that say these model settings."""
    return {name: PARAMETERS[name].unset if value is None else value for name, value in _values(settings).items()}


def _values(settings: ModelSettings | NodeSettings) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
