"""Fixtures that the bridge's tests share: bridges on loopback, and pictures to send them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import torch
from running_bridge import TOY, UNTRAINED, RunningBridge, encoded, serving, start, toy_settings

from bridge.server.app import create_app
from bridge.server.fetching import Fetcher
from bridge.server.worker import create_cache
from depth_anything_ros.serving.model_cache import ModelCache

Json = dict[str, Any]


@pytest.fixture(scope="session")
def running_bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge process with the toy network and without a key. Whatever it is sent, its worker lives to the end."""
    running = start(tmp_path_factory.mktemp("bridge") / "log", *TOY, *UNTRAINED)
    yield running
    assert running.is_ready()
    assert len(running.workers()) == 1
    assert running.end() == 0


@pytest.fixture
def http(running_bridge: RunningBridge) -> Iterator[httpx.Client]:
    """Connection to `running_bridge`."""
    with httpx.Client(base_url=running_bridge.url, timeout=30) as client:
        yield client


@pytest.fixture
def start_bridge(tmp_path: Path) -> Iterator[Callable[..., RunningBridge]]:
    """Start bridge processes with the toy network; they are ended after the test."""
    with ExitStack() as stack:

        def begin(*arguments: str, untrained: bool = True, **options: Any) -> RunningBridge:
            log = tmp_path / f"log{len(list(tmp_path.glob('log*')))}"
            running = start(log, *TOY, *(UNTRAINED if untrained else ()), *arguments, **options)
            stack.callback(running.end)
            return running

        yield begin


@pytest.fixture
def serve_app() -> Iterator[Callable[..., str]]:
    """Serve applications with replaced parts from threads: `serve_app(fetcher, cache, **settings) -> url`."""
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # the toy network is too small to be shared out

        def begin(fetcher: Fetcher | None = None, cache: ModelCache | None = None, **changes: Any) -> str:
            settings = toy_settings(**changes)
            app = create_app(cache or create_cache(settings, ["cpu"]), settings, fetcher)
            return stack.enter_context(serving(app, settings))

        yield begin


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A picture of 64 x 48 pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    return encoded(".jpg", np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), np.uint8))


@pytest.fixture(scope="session")
def metric_request(jpeg: bytes) -> Json:
    """A good body for /metric_depth; copy it to change it."""
    return {"image": base64.b64encode(jpeg).decode(), "max_depth": 20.0}


@pytest.fixture(scope="session")
def cloud_request(metric_request: Json) -> Json:
    """A good body for /pc; copy it to change it."""
    return {**metric_request, "camera_intrinsics": {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}}
