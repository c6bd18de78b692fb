"""Start the node beside a camera: `ros2 launch depth_anything_ros depth_anything.launch.py namespace:=camera`.

With `cameras:=front,left`, one node serves several. Each has its topics below its name: `front/image_raw`. An empty
argument leaves the parameter to the parameter file, or to its default. `ros2 launch -s` lists all arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.launch_description_entity import LaunchDescriptionEntity
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from depth_anything_ros.node.distributions import FAST_DDS_VARIABLES, fast_dds_variable, uses_fast_dds

CONFIG = Path(get_package_share_directory("depth_anything_ros")) / "config"
# The roll, pitch and yaw of an optical frame (z forward, x right) in a body frame (x forward, z up), REP 103.
OPTICAL_ROTATION = ("-1.5707963", "0", "-1.5707963")
PARAMETERS = {
    "encoder": "size of the network: vits, vitb, vitl",
    "dataset": "what the weights were trained on: hypersim (indoor), vkitti (outdoor), relative, da3metric, ...",
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
    DeclareLaunchArgument(
        "camera_info", default_value="", description="CameraInfo topic; empty: camera_info beside the image"
    ),
    DeclareLaunchArgument("range", default_value="range", description="the range sensor's topic, with range_type"),
    DeclareLaunchArgument(
        "cameras", default_value="", description="names of several cameras, front,left; their topics are below these"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "depth_anything.yaml"), description="parameter file of the node"
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="also show image, depth and cloud in RViz"),
    DeclareLaunchArgument(
        "frame",
        default_value="camera_optical_frame",
        description="frame_id of the images, as `ros2 topic echo IMAGE --field header.frame_id` shows it: RViz's fixed "
        "frame, and the child of parent_frame",
    ),
    DeclareLaunchArgument(
        "parent_frame",
        default_value="",
        description="also publish the static transform from this frame (x forward, z up, such as camera_link) to the "
        "optical frame, where the driver does not",
    ),
    DeclareLaunchArgument("use_sim_time", default_value="", description="true: take the time from /clock"),
    DeclareLaunchArgument("tf", default_value="/tf", description="remap /tf, for several robots: tf"),
    DeclareLaunchArgument("tf_static", default_value="/tf_static", description="remap /tf_static: tf_static"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, text in PARAMETERS.items()),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, set the profile of Fast DDS unless there is one, start the nodes."""
    chosen_by_user = any(name in os.environ for name in FAST_DDS_VARIABLES)
    # With ROS_LOCALHOST_ONLY=1, rmw_fastrtps adds a UDP transport of its own, on the loopback alone.
    is_alone = os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    profile = CONFIG / ("fastdds_localhost.xml" if is_alone else "fastdds.xml")
    is_ours_to_set = uses_fast_dds(os.environ) and not chosen_by_user
    environment = [SetEnvironmentVariable(fast_dds_variable(os.environ), str(profile))] if is_ours_to_set else []
    return LaunchDescription([*ARGUMENTS, *environment, OpaqueFunction(function=start_nodes)])


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the node with the arguments that were given, and the other requested parts."""
    given = context.launch_configurations
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    chosen = {name: ParameterValue(given[name], value_type=str) for name in PARAMETERS if given[name]}
    chosen |= sim_time(given)
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
            remappings=[*topics_in(given, cameras or [""]), *transforms(given)],
        )
    ]
    if given["parent_frame"]:
        nodes.append(optical_frame(given))
    if is_true(given["rviz"]):
        nodes.append(rviz(given, cameras[0] if cameras else ""))
    return nodes


def is_true(text: str) -> bool:
    """Read a true or false argument."""
    return text.lower() in ("true", "1")


def sim_time(given: Mapping[str, str]) -> dict[str, bool]:
    """Return the parameter of every node that says which clock to use; empty if none was chosen."""
    return {"use_sim_time": is_true(given["use_sim_time"])} if given["use_sim_time"] else {}


def topics_in(given: Mapping[str, str], cameras: Sequence[str]) -> list[tuple[str, str]]:
    """Remap the topics in of every camera, those whose argument is not empty."""
    return [
        (below(camera, topic), below(camera, given[topic])) for camera in cameras for topic in TOPICS if given[topic]
    ]


def transforms(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Remap the topics of TF, which are the same for all robots unless told otherwise."""
    return [(f"/{topic}", given[topic]) for topic in ("tf", "tf_static") if given[topic] != f"/{topic}"]


def below(camera: str, topic: str) -> str:
    """Return a camera's topic; absolute names and those of a camera without a name stay as they are."""
    return f"{camera}/{topic}" if camera and not topic.startswith("/") else topic


def optical_frame(given: Mapping[str, str]) -> Node:
    """Return the publisher of the static transform from the camera's body frame to its optical frame."""
    roll, pitch, yaw = OPTICAL_ROTATION
    return Node(
        package="tf2_ros",
        executable="static_transform_publisher",
        name="depth_anything_optical_frame",
        namespace=given["namespace"],
        arguments=[
            *("--roll", roll, "--pitch", pitch, "--yaw", yaw),
            *("--frame-id", given["parent_frame"], "--child-frame-id", given["frame"]),
        ],
        remappings=transforms(given),
    )


def rviz(given: Mapping[str, str], camera: str) -> Node:
    """Return RViz with one camera's picture, depth and cloud."""
    outputs = [
        (f"/depth_anything/{topic}", f"depth_anything/{below(camera, topic)}")
        for topic in ("depth/color", "points", "scan")
    ]
    return Node(
        package="rviz2",
        executable="rviz2",
        name="depth_anything_rviz",
        namespace=given["namespace"],
        arguments=["-d", str(CONFIG / "depth_anything.rviz"), "-f", given["frame"]],
        parameters=[sim_time(given)],
        remappings=[("/image", below(camera, given["image"])), *outputs, *transforms(given)],
    )
