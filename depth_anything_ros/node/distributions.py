"""What differs between ROS distributions, Humble to Rolling. Nothing else in the project asks which one it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError
except ModuleNotFoundError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks, UnsupportedEventTypeError

__all__ = [
    "PublisherEventCallbacks",
    "SubscriptionEventCallbacks",
    "UnsupportedEventTypeError",
    "before_parameters_are_checked",
    "fast_dds_variable",
    "uses_fast_dds",
]

# Fast DDS 3 renamed the variable and complains about the old name.
FAST_DDS_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")


def fast_dds_variable(environment: Mapping[str, str]) -> str:
    """Return the variable that names a Fast DDS profile, by ROS_DISTRO."""
    return FAST_DDS_VARIABLES[environment.get("ROS_DISTRO") in BEFORE_FAST_DDS_3]


def uses_fast_dds(environment: Mapping[str, str]) -> bool:
    """Whether the middleware is Fast DDS, every distribution's default, by RMW_IMPLEMENTATION."""
    return "fastrtps" in (environment.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp")


def before_parameters_are_checked(node: Node, change: Callable[[list[Parameter[Any]]], list[Parameter[Any]]]) -> None:
    """Let a function change parameters before rclpy checks their types. Humble has no such hook: there it is unused."""
    if hasattr(node, "add_pre_set_parameters_callback"):
        node.add_pre_set_parameters_callback(change)
