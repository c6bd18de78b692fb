"""The launch files, where ROS's launch is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from depth_anything_ros.node.distributions import FAST_DDS_VARIABLES
from depth_anything_ros.node.parameters import PARAMETERS
from depth_anything_ros.scale.transform import Transform
from depth_anything_ros.settings import SyntheticCameraSettings

launch = pytest.importorskip("launch", reason="launch is in no registry; it comes with a ROS installation")
pytest.importorskip("launch_ros", reason="launch_ros is not installed; it comes with a ROS installation")

LAUNCH = Path(__file__).parents[2] / "launch"
CONFIG = LAUNCH.with_name("config")


@pytest.fixture
def no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell without Fast DDS settings of its own, in which the package is found."""
    for name in FAST_DDS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        from ament_index_python.packages import get_package_share_directory

        get_package_share_directory("depth_anything_ros")
    except LookupError:
        pytest.skip("the package is not in the ament index: build it with colcon and source the workspace")


@pytest.fixture
def launch_file(no_profile: None) -> ModuleType:
    """The node's launch file as a module."""
    return loaded("depth_anything.launch.py")


@pytest.fixture
def synthetic_file(no_profile: None) -> ModuleType:
    """The synthetic camera's launch file as a module."""
    return loaded("synthetic.launch.py")


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entities(module: ModuleType, kind: type) -> list[Any]:
    return [entity for entity in module.generate_launch_description().entities if isinstance(entity, kind)]


class Started:
    """What a launch file would start.

    Attributes:
        nodes: full name -> the node.
        profiles: full name -> variables in its environment that name a Fast DDS profile.
        context: as it is at the end.
    """

    def __init__(self, module: ModuleType, **arguments: str) -> None:
        self.context = launch.LaunchContext()
        self.context.launch_configurations.update(arguments)
        self.nodes: dict[str, Any] = {}
        self.profiles: dict[str, list[str]] = {}
        self._visit(module.generate_launch_description())

    def _visit(self, entity: Any) -> None:
        if isinstance(entity, launch.actions.ExecuteProcess):
            entity._perform_substitutions(self.context)  # as launch_ros's own tests do: nothing public says it
            self.nodes[entity.node_name] = entity
            self.profiles[entity.node_name] = [name for name in FAST_DDS_VARIABLES if name in self.context.environment]
            return
        for child in entity.visit(self.context) or []:
            self._visit(child)

    def remappings(self, name: str) -> dict[str, str]:
        """The topics a node is given: what it calls them -> where they are."""
        return dict(self.nodes[name].expanded_remapping_rules)

    def parameter_files(self, name: str) -> list[Path]:
        """The files a node gets its parameters from, the one with those of the launch file last."""
        return [Path(file) for file, is_file in self.nodes[name]._Node__expanded_parameter_arguments if is_file]

    def parameters(self, name: str) -> dict[str, Any]:
        """What the launch file itself sets."""
        [content] = yaml.safe_load(self.parameter_files(name)[-1].read_text()).values()
        return dict(content["ros__parameters"])


def test_every_argument_is_described(launch_file: ModuleType) -> None:
    arguments = entities(launch_file, launch.actions.DeclareLaunchArgument)
    names = {argument.name for argument in arguments}
    assert names >= {"namespace", "rviz", "cameras", *launch_file.TOPICS, *launch_file.PARAMETERS}
    assert set(launch_file.PARAMETERS) <= set(PARAMETERS)
    assert all(argument.description for argument in arguments)


def test_rviz_starts_on_request_only(launch_file: ModuleType) -> None:
    assert set(Started(launch_file).nodes) == {"/depth_anything"}
    assert set(Started(launch_file, rviz="true").nodes) == {"/depth_anything", "/depth_anything_rviz"}


def test_one_camera_needs_no_name(launch_file: ModuleType) -> None:
    started = Started(launch_file, namespace="robot", image="image_rect", camera_info="info", range="/scan")
    topics = {"image": "image_rect", "camera_info": "info", "range": "/scan"}
    assert started.remappings("/robot/depth_anything") == topics
    assert started.parameters("/robot/depth_anything") == {}


def test_each_of_several_cameras_has_its_topics_below_its_name(launch_file: ModuleType) -> None:
    started = Started(launch_file, namespace="robot", cameras="front, left", range="/scan")
    assert started.remappings("/robot/depth_anything") == {
        "front/image": "front/image_raw",
        "front/range": "/scan",
        "left/image": "left/image_raw",
        "left/range": "/scan",
    }
    assert started.parameters("/robot/depth_anything") == {"cameras": ["front", "left"]}


def test_camera_info_is_left_to_the_node_unless_it_is_named(launch_file: ModuleType) -> None:
    assert "camera_info" not in Started(launch_file, image="/cam/image_raw").remappings("/depth_anything")


def test_simulated_time_reaches_every_node_that_is_started(launch_file: ModuleType, synthetic_file: ModuleType) -> None:
    started = Started(launch_file, use_sim_time="true", rviz="true")
    assert started.parameters("/depth_anything") == {"use_sim_time": True}
    assert started.parameters("/depth_anything_rviz") == {"use_sim_time": True}
    both = Started(synthetic_file, use_sim_time="true")
    assert both.parameters("/depth_anything")["use_sim_time"] is True
    assert both.parameters("/synthetic_camera")["use_sim_time"] is True


def test_tf_of_several_robots_is_remapped_for_every_node(launch_file: ModuleType) -> None:
    arguments = {"tf": "tf", "tf_static": "tf_static", "rviz": "true", "parent_frame": "camera_link"}
    started = Started(launch_file, namespace="robot", **arguments)
    assert len(started.nodes) == 3
    for name in started.nodes:
        assert started.remappings(name).items() >= {"/tf": "tf", "/tf_static": "tf_static"}.items()
    assert "/tf" not in Started(launch_file).remappings("/depth_anything")


def test_the_optical_frame_hangs_on_its_parent_where_one_is_named(launch_file: ModuleType) -> None:
    started = Started(launch_file, parent_frame="camera_link", frame="cam_optical")
    parts = [part for [part] in started.nodes["/depth_anything_optical_frame"].cmd[1:]]
    command = [part.text for part in parts if isinstance(part, launch.substitutions.TextSubstitution)]
    options = dict(zip(command[::2], command[1::2], strict=False))
    assert (options["--frame-id"], options["--child-frame-id"]) == ("camera_link", "cam_optical")
    roll, pitch, yaw = (float(options[f"--{name}"]) for name in ("roll", "pitch", "yaw"))
    forward = Transform.from_xyz_rpy((0.0, 0.0, 0.0, roll, pitch, yaw)).rotation @ np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(forward, [1.0, 0.0, 0.0], atol=1e-6)  # the optical axis is the body's x


@pytest.mark.parametrize(("alone", "profile"), [("0", "fastdds.xml"), ("1", "fastdds_localhost.xml")])
def test_a_robot_that_stays_by_itself_gets_no_transport_to_others(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch, alone: str, profile: str
) -> None:
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", alone)
    started = Started(launch_file)
    [variable] = started.profiles["/depth_anything"]
    assert Path(started.context.environment[variable]).name == profile


def test_the_profile_for_one_machine_is_the_other_one_without_udp() -> None:
    text = (CONFIG / "fastdds_localhost.xml").read_text()
    assert "UDPv4" not in text
    assert "<type>SHM</type>" in text


def test_another_middleware_gets_no_settings_of_fast_dds(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_zenoh_cpp")
    assert Started(launch_file).profiles["/depth_anything"] == []


@pytest.mark.parametrize("name", ["y", "off", "null"])
def test_a_camera_whose_name_is_another_thing_in_yaml_keeps_it(launch_file: ModuleType, name: str) -> None:
    assert Started(launch_file, cameras=name).parameters("/depth_anything") == {"cameras": [name]}


def test_arguments_become_parameters_as_text(launch_file: ModuleType) -> None:
    started = Started(launch_file, backend="torch", precision="fp32", encoder="vits")
    expected = {"backend": "torch", "precision": "fp32", "encoder": "vits"}
    assert started.parameters("/depth_anything") == expected


def test_rviz_shows_the_first_of_several_cameras(launch_file: ModuleType) -> None:
    started = Started(launch_file, cameras="front,left", rviz="true")
    shown = {str(before): str(after) for before, after in started.remappings("/depth_anything_rviz").items()}
    displays = yaml.safe_load((CONFIG / "depth_anything.rviz").read_text())["Visualization Manager"]["Displays"]
    assert set(shown) == {display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert set(shown.values()) == {
        "front/image_raw",
        "depth_anything/front/depth/color",
        "depth_anything/front/points",
        "depth_anything/front/scan",
    }


# ---- synthetic.launch.py


def test_the_synthetic_camera_and_the_node_share_topics_parameters_and_profile(synthetic_file: ModuleType) -> None:
    started = Started(synthetic_file, namespace="demo")
    depth, camera = "/demo/depth_anything", "/demo/synthetic_camera"
    assert set(started.nodes) == {depth, camera}
    assert started.remappings(depth) == {name: name for name in ("image", "camera_info", "range")}
    assert not started.nodes[camera].expanded_remapping_rules
    for name in (depth, camera):
        assert started.parameter_files(name)[0].parts[-2:] == ("config", "synthetic.yaml")
    assert started.profiles[depth] == started.profiles[camera] != []


def test_arguments_of_the_synthetic_camera_reach_it_with_their_types(synthetic_file: ModuleType) -> None:
    started = Started(synthetic_file, seed="7", rate_hz="5", distortion="plumb_bob")
    values = started.parameters("/synthetic_camera")
    assert values == {"seed": 7, "rate_hz": 5.0, "distortion": "plumb_bob"}
    assert isinstance(values["rate_hz"], float)
    names = {argument.name for argument in entities(synthetic_file, launch.actions.DeclareLaunchArgument)}
    assert names == {"namespace", "params_file", "rviz", "use_sim_time", *synthetic_file.PARAMETERS}


def test_rviz_beside_the_synthetic_camera_starts_on_request_only(synthetic_file: ModuleType) -> None:
    assert len(Started(synthetic_file).nodes) == 2
    started = Started(synthetic_file, rviz="true")
    assert set(started.nodes) == {"/depth_anything", "/depth_anything_rviz", "/synthetic_camera"}
    assert started.context.launch_configurations["frame"] == SyntheticCameraSettings().frame_id
