"""The launch file, where ROS's launch is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

launch = pytest.importorskip("launch", reason="launch is in no registry; it comes with a ROS installation")
pytest.importorskip("launch_ros", reason="launch_ros is not installed; it comes with a ROS installation")

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "depth_anything.launch.py"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The launch file as a module, in a shell without Fast DDS settings of its own."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        from ament_index_python.packages import get_package_share_directory

        get_package_share_directory("depth_anything_ros")
    except LookupError:
        pytest.skip("the package is not in the ament index: build it with colcon and source the workspace")
    spec = importlib.util.spec_from_file_location("depth_anything_launch", LAUNCH_FILE)
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
