"""Start the node beside a camera: `ros2 launch depth_anything_ros depth_anything.launch.py namespace:=camera`.

With `cameras:=front,left`, one node serves several; each has its topics below its name: `front/image_raw`. An
argument that is left empty leaves the parameter to the parameter file, or to its default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
    "backend": "what runs the network: auto, torch, openvino, onnxruntime",
    "precision": "auto, fp32, bf16 or fp16",
    "image_transport": "raw or compressed",
}
TOPICS = ("image", "camera_info", "range")  # that the node takes in; the arguments of the same name say from where
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the camera and of the node"),
    DeclareLaunchArgument("image", default_value="image_raw", description="image topic, without /compressed"),
    DeclareLaunchArgument("camera_info", default_value="camera_info", description="CameraInfo topic"),
    DeclareLaunchArgument("range", default_value="range", description="the range sensor's topic, with range_type"),
    DeclareLaunchArgument(
        "cameras", default_value="", description="names of several cameras, front,left; their topics are below these"
    ),
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
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    chosen = {name: ParameterValue(given[name], value_type=str) for name in PARAMETERS if given[name]}
    if cameras:
        chosen["cameras"] = ParameterValue(cameras, value_type=list[str])
    nodes: list[LaunchDescriptionEntity] = [
        Node(
            package="depth_anything_ros",
            executable="depth_anything_node",
            name="depth_anything",
            namespace=given["namespace"],
            output="screen",
            parameters=[given["params_file"], chosen],
            remappings=[
                (below(camera, topic), below(camera, given[topic])) for camera in cameras or [""] for topic in TOPICS
            ],
        )
    ]
    if given["rviz"].lower() in ("true", "1"):
        nodes.append(rviz(given, cameras[0] if cameras else ""))
    return nodes


def below(camera: str, topic: str) -> str:
    """Return a camera's topic; absolute names and those of a camera without a name stay as they are."""
    return f"{camera}/{topic}" if camera and not topic.startswith("/") else topic


def rviz(given: Mapping[str, str], camera: str) -> Node:
    """Return RViz with one camera's picture, depth and cloud."""
    outputs = [
        (f"/depth_anything/{topic}", f"depth_anything/{below(camera, topic)}") for topic in ("depth/color", "points")
    ]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="depth_anything_rviz",
        namespace=given["namespace"],
        arguments=["-d", str(CONFIG / "depth_anything.rviz"), "-f", given["frame"]],
        remappings=[("/image", below(camera, given["image"])), *outputs],
    )
