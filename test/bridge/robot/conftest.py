"""A robot for the bridge: two nodes with three cameras, a synthetic camera, and a bridge with keys that shows them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "node"))  # harness, the other side of a node's topics

from ros_environment import HAS_ROS

if not HAS_ROS:
    collect_ignore_glob = ["test_robot_*.py"]
else:
    from harness import Peer
    from robot_under_test import RobotUnderTest, running_robot


@pytest.fixture(scope="session", autouse=True)
def ros_log_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep ROS's own log files out of the home folder."""
    import os

    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """Who publishes pictures, and listens to the nodes beside the bridge."""
    with Peer() as node:
        yield node


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory, peer: Peer) -> Iterator[RobotUnderTest]:
    """The robot and its bridge; leave all of it running. The last tests of the file end a node, then the bridge."""
    with ExitStack() as stack:
        yield stack.enter_context(running_robot(tmp_path_factory.mktemp("robot"), peer))
