"""What differs between ROS distributions is known in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from depth_anything_ros.node.distributions import fast_dds_variable, uses_fast_dds

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("rolling", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_profile_of_fast_dds_has_the_variable_of_its_release(distribution: str, variable: str) -> None:
    assert fast_dds_variable({"ROS_DISTRO": distribution}) == variable


@pytest.mark.parametrize(
    ("rmw", "is_fast"),
    [("", True), ("rmw_fastrtps_cpp", True), ("rmw_cyclonedds_cpp", False), ("rmw_zenoh_cpp", False)],
)
def test_other_middleware_is_told_from_fast_dds(rmw: str, is_fast: bool) -> None:
    assert uses_fast_dds({"RMW_IMPLEMENTATION": rmw}) == is_fast


def test_no_other_module_asks_for_the_distribution() -> None:
    sources = [path for folder in ("depth_anything_ros", "launch") for path in (ROOT / folder).rglob("*.py")]
    asking = re.compile(r"ROS_DISTRO|hasattr\(node|ModuleNotFoundError:  # Humble")
    found = [path.name for path in sources if asking.search(path.read_text())]
    assert found == ["distributions.py"]
