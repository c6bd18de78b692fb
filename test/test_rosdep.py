"""`rosdep install` finds everything that package.xml asks for, on every platform, by that platform's packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from catkin_pkg.package import Package, parse_package
from refresh_rosdep_keys import KEYS, PLATFORMS, installer, keys_of

ROOT = Path(__file__).parents[1]
STORED: dict[str, dict[str, str | None]] = json.loads(KEYS.read_text())["platforms"]
NAMES = [
    (distribution, f"{distribution} on {system} {release}")
    for distribution, systems in PLATFORMS.items()
    for system, release, _ in systems
]


def depends(distribution: str) -> set[str]:
    """What the package asks for in a ROS distribution, tests included."""
    package: Package = parse_package(str(ROOT))
    package.evaluate_conditions({"ROS_DISTRO": distribution})
    every = (*package.build_depends, *package.exec_depends, *package.test_depends)
    return {depend.name for depend in every if depend.evaluated_condition}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # catkin_pkg uses old names of pyparsing
@pytest.mark.parametrize(("distribution", "platform"), NAMES)
def test_every_dependency_is_a_package_of_the_platform(distribution: str, platform: str) -> None:
    found = {key: STORED[platform].get(key) for key in depends(distribution)}
    lost = [key for key, by in found.items() if by is None]
    assert lost == [], f"no key on {platform}; is test/data/rosdep_keys.json of this package.xml?"
    assert [
        key for key, by in found.items() if by == "pip"
    ] == []  # pip refuses to install beside the system's packages
    assert found["rclpy"] == "ros"


def test_the_stored_list_is_of_the_keys_that_the_manifest_has() -> None:
    keys = keys_of((ROOT / "package.xml").read_text())
    assert {tuple(sorted(answers)) for answers in STORED.values()} == {tuple(keys)}


@pytest.mark.parametrize(
    ("rule", "by"),
    [
        (["python3-x"], "apt"),
        ({"*": ["python3-x"], "jammy": None}, None),
        ({"*": ["python3-x"], "bionic": {"pip": {"packages": ["x"]}}}, "apt"),
        ({"pip": {"packages": ["x"]}}, "pip"),
        ({"*": {"apt": {"packages": ["x"]}}}, "apt"),
        ({"bionic": ["x"]}, None),
        (None, None),
    ],
)
def test_rules_are_read_as_rosdep_reads_them(rule: Any, by: str | None) -> None:
    assert installer(rule, "jammy", "apt") == by
