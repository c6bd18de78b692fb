"""Start the node beside a camera: `ros2 launch depth_anything_ros depth_anything.launch.py namespace:=camera`.

An argument that is left empty leaves the parameter to the parameter file, or to its default.
"""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_description_entity import LaunchDescriptionEntity
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory("depth_anything_ros")) / "config"
# Fast DDS 3 renamed the variable and complains about the old name.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
BEFORE_FAST_DDS_3 = ("humble", "iron", "jazzy")
PARAMETERS = {
    "encoder": "size of the network: vits, vitb, vitl",
    "dataset": "what the weights were trained on: hypersim (indoor), vkitti (outdoor), relative",
    "checkpoint": "file with the weights",
    "device": "auto, cpu, cuda or cuda:N",
    "image_transport": "raw or compressed",
}
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the camera and of the node"),
    DeclareLaunchArgument("image", default_value="image_raw", description="image topic, without /compressed"),
    DeclareLaunchArgument("camera_info", default_value="camera_info", description="CameraInfo topic"),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "depth_anything.yaml"), description="parameter file of the node"
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="also show image, depth and cloud in RViz"),
    DeclareLaunchArgument("frame", default_value="camera_optical_frame", description="RViz's fixed frame"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in PARAMETERS.items()),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the Fast DDS profile unless there is one, start the nodes."""
    variable = PROFILE_VARIABLES[os.environ.get("ROS_DISTRO") in BEFORE_FAST_DDS_3]
    chosen_by_user = any(name in os.environ for name in PROFILE_VARIABLES)
    environment = [] if chosen_by_user else [SetEnvironmentVariable(variable, str(CONFIG / "fastdds.xml"))]
    return LaunchDescription([*ARGUMENTS, *environment, OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the node with the arguments that were given, and RViz where it was asked for."""
    given = context.launch_configurations
    chosen = {name: ParameterValue(given[name], value_type=str) for name in PARAMETERS if given[name]}
    namespace, image = given["namespace"], given["image"]
    nodes: list[LaunchDescriptionEntity] = [
        Node(
            package="depth_anything_ros",
            executable="depth_anything_node",
            name="depth_anything",
            namespace=namespace,
            output="screen",
            parameters=[given["params_file"], chosen],
            remappings=[("image", image), ("camera_info", given["camera_info"])],
        )
    ]
    if given["rviz"].lower() in ("true", "1"):
        topics = ("depth_anything/depth/color", "depth_anything/points")
        nodes.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="depth_anything_rviz",
                namespace=namespace,
                arguments=["-d", str(CONFIG / "depth_anything.rviz"), "-f", given["frame"]],
                remappings=[("/image", image), *((f"/{topic}", topic) for topic in topics)],
            )
        )
    return nodes
