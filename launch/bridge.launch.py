"""Start the REST bridge beside the node: `ros2 launch depth_anything_ros bridge.launch.py port:=8000`.

The bridge is a process of its own. With `ros:=true` it joins the graph as the node `depth_bridge` and shows the cameras
of the depth nodes. An argument that is left empty leaves the setting to the configuration file, the environment
(`DEPTH_BRIDGE_*`) or its default. Keys belong in a key file: an argument here would be seen in the process list.
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.launch_description_entity import LaunchDescriptionEntity

from depth_anything_ros.node.distributions import FAST_DDS_VARIABLES, fast_dds_variable, uses_fast_dds

PACKAGE = "depth_anything_ros"
CONFIG = Path(get_package_share_directory(PACKAGE)) / "config" / "bridge.yaml"
PROGRAM = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / "depth_anything_bridge"
SETTINGS = {
    "host": "address to listen on; by default 0.0.0.0 with keys, 127.0.0.1 without",
    "port": "port to listen on",
    "workers": "worker processes",
    "api_keys_file": "file of `name sha256` lines, see `depth_anything_bridge make-key`",
    "preload": "models to load at start, such as vits:hypersim:518",
    "checkpoint": "file with the weights of the default model",
    "ros_node": "depth nodes to show, separated by commas; empty shows all",
}
ARGUMENTS = [
    DeclareLaunchArgument("config", default_value=str(CONFIG), description="configuration file of the bridge"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in SETTINGS.items()),
    DeclareLaunchArgument("ros", default_value="false", choices=["true", "false"], description="show cameras"),
    DeclareLaunchArgument("namespace", default_value="", description="of the node depth_bridge, with ros:=true"),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="true: time from /clock, with ros:=true"),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the bridge."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start_bridge)])


def start_bridge(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the command line from the arguments that were given."""
    given = context.launch_configurations
    names = [name for name in ("config", *SETTINGS) if given[name]]
    options = [f"--{name.replace('_', '-')}={given[name]}" for name in names]
    if given["ros"] == "true":
        space = ["-r", f"__ns:=/{given['namespace'].strip('/')}"] if given["namespace"] else []
        options += ["--ros", "--ros-args", *space, "-p", f"use_sim_time:={given['use_sim_time']}"]
    command, environment = [str(PROGRAM), *options], fast_dds_profile()
    return [ExecuteProcess(cmd=command, additional_env=environment, name="depth_anything_bridge", output="screen")]


def fast_dds_profile() -> dict[str, str]:
    """Shared memory for large messages, as the node's launch file sets it, unless the user chose a profile."""
    if any(name in os.environ for name in FAST_DDS_VARIABLES) or not uses_fast_dds(os.environ):
        return {}
    is_alone = os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    profile = CONFIG.with_name("fastdds_localhost.xml" if is_alone else "fastdds.xml")
    return {fast_dds_variable(os.environ): str(profile)}
