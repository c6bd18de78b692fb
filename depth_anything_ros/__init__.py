"""Depth Anything for robots: an inference core, a ROS 2 node and a REST bridge on top of it.

The three names that most programs need are here; they are loaded on first use, so importing this package
imports neither torch nor OpenCV nor rclpy. Everything else lives in its own module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from depth_anything_ros.version import __version__

if TYPE_CHECKING:
    from depth_anything_ros.camera import CameraModel
    from depth_anything_ros.depth_map import DepthMap
    from depth_anything_ros.estimator import DepthEstimator

__all__ = ["CameraModel", "DepthEstimator", "DepthMap", "__version__"]

_MODULES = {"CameraModel": "camera", "DepthEstimator": "estimator", "DepthMap": "depth_map"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
