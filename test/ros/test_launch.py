"""The launch files, where ROS's launch is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from depth_anything_ros.settings import SyntheticCameraSettings

launch = pytest.importorskip("launch", reason="launch is in no registry; it comes with a ROS installation")
pytest.importorskip("launch_ros", reason="launch_ros is not installed; it comes with a ROS installation")

LAUNCH = Path(__file__).parents[2] / "launch"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture
def no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell without Fast DDS settings of its own, in which the package is found."""
    for name in PROFILE_VARIABLES:
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


def started(module: ModuleType, **arguments: str) -> list[Any]:
    """Nodes that are started for these arguments."""
    context = launch.LaunchContext()
    for argument in entities(module, launch.actions.DeclareLaunchArgument):
        argument.execute(context)
    context.launch_configurations.update(arguments)
    return list(module.start_nodes(context))


def test_every_argument_is_described(launch_file: ModuleType) -> None:
    arguments = entities(launch_file, launch.actions.DeclareLaunchArgument)
    names = {argument.name for argument in arguments}
    wanted = {"namespace", "image", "camera_info", "encoder", "dataset", "checkpoint", "device", "image_transport"}
    assert names >= wanted | {"rviz"}
    assert all(argument.description for argument in arguments)


def test_rviz_starts_on_request_only(launch_file: ModuleType) -> None:
    assert len(started(launch_file)) == 1
    assert len(started(launch_file, rviz="true")) == 2


def test_the_fast_dds_profile_is_set_where_the_user_has_none(
    launch_file: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(entities(launch_file, launch.actions.SetEnvironmentVariable)) == 1
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, "/home/me/own.xml")
        assert entities(launch_file, launch.actions.SetEnvironmentVariable) == []
        monkeypatch.delenv(name)


# ---- synthetic.launch.py


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
            self.profiles[entity.node_name] = [name for name in PROFILE_VARIABLES if name in self.context.environment]
            return
        for child in entity.visit(self.context) or []:
            self._visit(child)

    def parameter_files(self, name: str) -> list[Path]:
        """The files a node gets its parameters from, the one with those of the launch file last."""
        return [Path(file) for file, is_file in self.nodes[name]._Node__expanded_parameter_arguments if is_file]


def test_the_synthetic_camera_and_the_node_share_topics_parameters_and_profile(synthetic_file: ModuleType) -> None:
    started = Started(synthetic_file, namespace="demo")
    depth, camera = "/demo/depth_anything", "/demo/synthetic_camera"
    assert set(started.nodes) == {depth, camera}
    assert dict(started.nodes[depth].expanded_remapping_rules) == {"image": "image", "camera_info": "camera_info"}
    assert not started.nodes[camera].expanded_remapping_rules
    for name in (depth, camera):
        assert started.parameter_files(name)[0].parts[-2:] == ("config", "synthetic.yaml")
    assert started.profiles[depth] == started.profiles[camera] != []


def test_arguments_of_the_synthetic_camera_reach_it_with_their_types(synthetic_file: ModuleType) -> None:
    started = Started(synthetic_file, seed="7", rate_hz="5", distortion="plumb_bob")
    _, chosen = started.parameter_files("/synthetic_camera")
    [content] = yaml.safe_load(chosen.read_text()).values()
    values = content["ros__parameters"]
    assert values == {"seed": 7, "rate_hz": 5.0, "distortion": "plumb_bob"}
    assert isinstance(values["rate_hz"], float)
    names = {argument.name for argument in entities(synthetic_file, launch.actions.DeclareLaunchArgument)}
    assert names == {"namespace", "params_file", "rviz", *synthetic_file.PARAMETERS}


def test_rviz_beside_the_synthetic_camera_starts_on_request_only(synthetic_file: ModuleType) -> None:
    assert len(Started(synthetic_file).nodes) == 2
    started = Started(synthetic_file, rviz="true")
    assert set(started.nodes) == {"/depth_anything", "/depth_anything_rviz", "/synthetic_camera"}
    assert started.context.launch_configurations["frame"] == SyntheticCameraSettings().frame_id
