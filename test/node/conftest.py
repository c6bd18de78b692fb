"""Fixtures for tests on real ROS 2: a helper node, the node in a process, the node beside the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ros_environment import HAS_ROS  # before rclpy is imported

if not HAS_ROS:
    collect_ignore_glob = ["test_*.py"]
else:
    from harness import FakeBackend, HostedNode, NodeProcess, Peer, unique


@pytest.fixture(scope="session", autouse=True)
def ros_log_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep ROS's own log files out of the home folder."""
    os.environ["ROS_LOG_DIR"] = str(tmp_path_factory.mktemp("ros_log"))


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    """The other side: a camera that publishes and a user that listens and calls."""
    with Peer() as node:
        yield node


@pytest.fixture(scope="module")
def toy_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """The node in a process of its own with the toy encoder; leave it active and its parameters as they were."""
    log = tmp_path_factory.mktemp("node") / "log.txt"
    with NodeProcess(log, namespace=unique("toy")) as process:
        process.wait_for("running toy_hypersim_56")
        yield process


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start node processes with `NodeProcess`'s arguments; each ends with the test."""
    with ExitStack() as stack:

        def start(namespace: str = "", **parameters: Any) -> NodeProcess:
            namespace = namespace or unique("process")
            return stack.enter_context(NodeProcess(tmp_path / f"{namespace[1:]}.txt", namespace, **parameters))

        yield start


@pytest.fixture
def host(peer: Peer) -> Iterator[Callable[..., HostedNode]]:
    """Start nodes beside the test, around a backend of its own; each ends with the test."""
    with ExitStack() as stack:

        def start(backend: FakeBackend | None = None, **parameters: Any) -> HostedNode:
            return stack.enter_context(HostedNode(peer.context, backend or FakeBackend(), **parameters))

        yield start
