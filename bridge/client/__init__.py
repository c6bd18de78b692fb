"""The bridge's client: `DepthClient`, `AsyncDepthClient`, and the JSON API as functions.

Needs neither torch nor ROS nor a web server (extra `[client]`).
"""

from bridge.client.calls import ServedDepth
from bridge.client.cameras import Undistort
from bridge.client.client import AsyncDepthClient, DepthClient
from bridge.client.errors import BridgeError
from bridge.client.functions import (
    decode_depth_map,
    decode_pointcloud,
    encode_image,
    get_health,
    predict_metric_depth,
    predict_pointcloud,
    predict_relative_depth,
)
from bridge.client.retries import RetryPolicy
from bridge.client.robot import AsyncRobotCamera, RobotCamera
from bridge.client.robot_calls import RobotFrame
from bridge.client.servers import Server, load_server

__all__ = [
    "AsyncDepthClient",
    "AsyncRobotCamera",
    "BridgeError",
    "DepthClient",
    "RetryPolicy",
    "RobotCamera",
    "RobotFrame",
    "ServedDepth",
    "Server",
    "Undistort",
    "decode_depth_map",
    "decode_pointcloud",
    "encode_image",
    "get_health",
    "load_server",
    "predict_metric_depth",
    "predict_pointcloud",
    "predict_relative_depth",
]
