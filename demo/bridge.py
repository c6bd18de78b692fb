"""One picture through a bridge, by the client, over HTTP."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.client import BridgeError, DepthClient, RetryPolicy
from demo.processes import Child, child, tail
from depth_anything_ros.settings import ModelSettings

START_TIMEOUT_S = 40.0
LOOPBACK = "127.0.0.1"
LISTENS = "listening on http"  # in its log


@dataclass(frozen=True)
class Answer:
    """Depth float32 (H, W) in metres, and how long the answer took once the model was loaded."""

    depth: NDArray[np.float32]
    latency_ms: float


def ask_bridge(image: NDArray[np.uint8], model: ModelSettings, max_depth_m: float, log: Path) -> Answer:
    """Start a bridge on this machine alone, ask it for the metric depth of uint8 BGR (H, W, 3), end it.

    Raises:
        ChildFailed: it ended by itself. BridgeError: it did not answer.
    """
    port = free_port()
    with (
        child("bridge", bridge_command(model, port), log) as bridge,
        DepthClient(f"http://{LOOPBACK}:{port}", retry=RetryPolicy(attempts=1)) as client,
    ):
        wait_until_up(bridge, client)
        client.metric_depth(image, max_depth=max_depth_m)  # loads the model
        started_s = time.monotonic()
        depth = client.metric_depth(image, max_depth=max_depth_m)
        return Answer(depth.values, 1e3 * (time.monotonic() - started_s))


def bridge_command(model: ModelSettings, port: int, *more: str) -> list[str]:
    """Return the command of a bridge whose default model is this one, with more options."""
    options = {
        "host": LOOPBACK,
        "port": port,
        "default-encoder": model.encoder,
        "default-dataset": model.dataset,
        "default-input-size": model.network_input_size,
        "checkpoint": model.checkpoint,
        "device": model.device,
        "precision": model.precision,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return [sys.executable, "-m", "bridge", *given, *more]


def wait_until_up(bridge: Child, client: DepthClient) -> None:
    """Wait until the bridge answers. Raises ChildFailed, or BridgeError when it takes too long.

    It has to say that it listens before it is asked: on its port another program may answer.
    """
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        bridge.check()
        try:
            if LISTENS not in bridge.said():
                raise BridgeError(f"the bridge does not listen; the end of {bridge.log}:\n{tail(bridge.log)}")
            client.health()
            return
        except BridgeError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(0.2)


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
