"""Fixtures of the client's tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from client_hosts import Ask
from numpy.typing import NDArray

from bridge.client import AsyncDepthClient, DepthClient
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.weights import UNTRAINED


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Open a client, call one method, close it: `ask(method, *arguments, client={...}, **options)`."""

    def with_client(method: str, *arguments: object, client: dict[str, Any], **options: object) -> Any:
        with DepthClient(**client) as opened:
            return getattr(opened, method)(*arguments, **options)

    def with_async_client(method: str, *arguments: object, client: dict[str, Any], **options: object) -> Any:
        async def run() -> Any:
            async with AsyncDepthClient(**client) as opened:
                return await getattr(opened, method)(*arguments, **options)

        return asyncio.run(run())

    return with_client if request.param == "sync" else with_async_client


@pytest.fixture(scope="session")
def estimator() -> DepthEstimator:
    """The network that `running_bridge` has."""
    return DepthEstimator.load("toy", "hypersim", UNTRAINED, 56, "cpu", backend="torch")


@pytest.fixture
def photo_file(tmp_path: Path, photo: NDArray[np.uint8]) -> Path:
    """The picture `photo` as a PNG file."""
    path = tmp_path / "photo.png"
    path.write_bytes(cv2.imencode(".png", photo)[1].tobytes())
    return path
