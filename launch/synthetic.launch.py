"""Try the node without a camera: `ros2 launch depth_anything_ros synthetic.launch.py rviz:=true seed:=7`.

Starts the synthetic camera, and depth_anything.launch.py on its topics with the demonstration model. An empty
argument leaves the parameter to the parameter file, or to its default.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("depth_anything_ros"))
FRAME = "synthetic_camera_optical_frame"
PARAMETERS = {
    "seed": (int, "draws the room, the camera and its way"),
    "rate_hz": (float, "pictures a second"),
    "width": (int, "of the pictures, in pixels"),
    "height": (int, "of the pictures, in pixels"),
    "distortion": (str, "of the lens: none or plumb_bob"),
}
ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the camera and of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "synthetic.yaml"),
        description="parameter file of the camera and of the node",
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="also show image, depth and cloud in RViz"),
    DeclareLaunchArgument("use_sim_time", default_value="", description="true: take the time from /clock"),
    *(DeclareLaunchArgument(name, default_value="", description=text) for name, (_, text) in PARAMETERS.items()),
]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start the depth node, and the camera in the environment that this one sets."""
    passed_on = {name: LaunchConfiguration(name) for name in ("namespace", "params_file", "rviz", "use_sim_time")}
    depth = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "depth_anything.launch.py")),
        launch_arguments={**passed_on, "image": "image", "camera_info": "camera_info", "frame": FRAME}.items(),
    )
    return LaunchDescription([*ARGUMENTS, depth, OpaqueFunction(function=start_camera)])


def start_camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Build the camera with the arguments that were given."""
    given = context.launch_configurations
    chosen = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)  # text alone is not turned into numbers
        for name, (kind, _) in PARAMETERS.items()
        if given[name]
    }
    if given["use_sim_time"]:
        chosen["use_sim_time"] = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return [
        Node(
            package="depth_anything_ros",
            executable="synthetic_camera",
            name="synthetic_camera",
            namespace=given["namespace"],
            output="screen",
            parameters=[given["params_file"], chosen],
        )
    ]
