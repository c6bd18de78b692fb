"""How a table of parameters is declared, read and checked, for any node. The depth node's table is in `parameters`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from depth_anything_ros.errors import SettingsError, quoted
from depth_anything_ros.node.distributions import before_parameters_are_checked
from depth_anything_ros.settings import check_camera_name

OTHER_PARAMETERS = ("qos_overrides.",)  # declared with their topics
NULLS = ("null", "~")  # rcl reads YAML's null as text


@dataclass(frozen=True)
class Parameter:
    """One parameter: what it means and which values it takes.

    Attributes:
        description: shown by `ros2 param describe`.
        choices: allowed strings; empty allows any.
        numbers: length of an array of numbers, which is not set unless it is given.
        bounds: lowest and highest number, beside `unset`.
        is_cameras: names of cameras, see `check_cameras`.
        unset: the value that stands for None, where the setting is optional.
        fixed: read once, at the start.
    """

    description: str
    choices: tuple[str, ...] = ()
    numbers: int = 0
    is_cameras: bool = False
    bounds: tuple[float, float] | None = None
    unset: str | float | None = None
    fixed: bool = False


def declare_table(node: Node, table: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> None:
    """Declare the parameters of a table; the node's overrides are checked as they come in.

    A whole number is taken where a fraction is meant, at the start and later. "null" is taken for no value, as
    `ros2 param dump` writes it.

    Args:
        defaults: a setting for every name in the table; None where it has an `unset`.

    Raises:
        rclpy.exceptions.ParameterException: an override of the wrong type or out of range.
    """
    for name, parameter in table.items():
        default = ros_default(parameter, defaults[name])
        if default is None:
            declare_unset(node, name, parameter, default)
        elif isinstance(default, float) and type(given := overrides_of(node).get(name)) is int:
            node.declare_parameter(name, float(given), _descriptor(parameter, default), ignore_override=True)
        else:
            node.declare_parameter(name, default, _descriptor(parameter, default))
    fractions = [name for name in table if isinstance(ros_default(table[name], defaults[name]), float)]
    _accept_whole_numbers(node, fractions)


def overrides_of(node: Node) -> dict[str, Any]:
    """Return the parameter values that a node was given at its start, declared or not."""
    # rclpy has no public way to ask for them.
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def _accept_whole_numbers(node: Node, names: Collection[str]) -> None:
    """Let `ros2 param set NODE max_range_m 8` pass."""

    def convert(changes: list[RosParameter[Any]]) -> list[RosParameter[Any]]:
        return [
            RosParameter(change.name, value=float(change.value))
            if change.name in names and change.type_ == RosParameter.Type.INTEGER
            else change
            for change in changes
        ]

    before_parameters_are_checked(node, convert)


def declare_unset(node: Node, name: str, parameter: Parameter, default: Any) -> None:
    """Declare a parameter without a value, of any type: of a fixed one without a value, rclpy cannot be asked."""
    descriptor = _descriptor(parameter, default)
    descriptor.dynamic_typing = True
    is_null = overrides_of(node).get(name) in NULLS
    node.declare_parameter(name, None, descriptor, ignore_override=is_null)


def ros_default(parameter: Parameter, default: Any) -> Any:
    """The value that says a setting; None for an array, which ROS knows only with its length."""
    return parameter.unset if default is None else default


def allowed_values(parameter: Parameter) -> str:
    """Return which values a parameter takes; empty where its description already says it."""
    if parameter.choices:
        return f"Allowed: {', '.join(choice or 'empty' for choice in parameter.choices)}."
    if parameter.bounds is not None:
        return f"Allowed: {parameter.bounds[0]:.10g} to {parameter.bounds[1]:.10g}."
    return ""


def _descriptor(parameter: Parameter, default: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=parameter.description, read_only=parameter.fixed)
    if parameter.choices:
        descriptor.additional_constraints = f"one of: {', '.join(parameter.choices)}"
    if parameter.bounds is not None:
        lowest, highest = parameter.bounds
        if isinstance(parameter.unset, (int, float)):
            lowest = min(lowest, parameter.unset)  # rclpy compares it, too
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(lowest), to_value=int(highest), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=lowest, to_value=highest, step=0.0)]
    return descriptor


def warn_of_unknown(node: Node, known: Collection[str]) -> None:
    """Log every parameter given at the start that the node does not have, with the name that is most like it."""
    for name in overrides_of(node):
        if not node.has_parameter(name) and not name.startswith(OTHER_PARAMETERS):
            near = get_close_matches(name, known, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            node.get_logger().warning(f"there is no parameter {quoted(name)}; its value has no effect{hint}")


def values_of(node: Node, names: Iterable[str]) -> dict[str, Any]:
    """Return the values of those parameters that are set."""
    found = {name: node.get_parameter_or(name) for name in names}
    return {name: parameter.value for name, parameter in found.items() if parameter.type_ != RosParameter.Type.NOT_SET}


def check_type(name: str, kind: type, value: Any) -> Any:
    """Return a value of the type that a parameter has: rclpy takes any for one that has no value yet."""
    if kind is float and type(value) is int:
        return float(value)
    if kind is not type(None) and type(value) is not kind:
        raise SettingsError(f"parameter {name} is {quoted(value)}; allowed: a value of type {kind.__name__}")
    return value


def check_cameras(parameter: str, names: Any) -> tuple[str, ...]:
    """Return the names of cameras; one empty name stands for the only camera of a node, which needs none.

    Raises:
        SettingsError: one that cannot be such a name, or is there twice.
    """
    if tuple(names) == ("",):
        return ("",)
    for name in names:
        try:
            check_camera_name(name)
        except SettingsError as error:
            raise SettingsError(f"parameter {parameter}: {error}") from error
    if not names or len(set(names)) < len(names):
        raise SettingsError(f"parameter {parameter} is {quoted(list(names))}; allowed: one or more names, each once")
    return tuple(names)


def checked(table: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that parameter values stand for; names that are not in the table are left out.

    Raises:
        SettingsError: names the parameter, the value and what is allowed.
    """
    return {name: check_value(name, table[name], value) for name, value in values.items() if name in table}


def check_value(name: str, parameter: Parameter, value: Any) -> Any:
    """Return the setting that one value stands for. Raises as `checked`."""
    if parameter.is_cameras:
        return check_cameras(name, value)
    if parameter.numbers:
        return _check_numbers(name, parameter.numbers, value)
    if parameter.unset is not None and value == parameter.unset:
        return None
    if parameter.choices and value not in parameter.choices:
        raise SettingsError(f"parameter {name} is {quoted(value)}; allowed: {', '.join(parameter.choices)}")
    if parameter.bounds is not None and not parameter.bounds[0] <= value <= parameter.bounds[1]:
        raise SettingsError(f"parameter {name} is {value}; allowed: {parameter.bounds[0]:g} to {parameter.bounds[1]:g}")
    return value


def _check_numbers(name: str, count: int, value: Any) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):  # no array, or not of numbers
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise SettingsError(f"parameter {name} is {quoted(value)}; allowed: {count} finite numbers")
    return numbers
