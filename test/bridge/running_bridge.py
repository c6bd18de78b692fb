"""Bridges to talk to: a process started from the command line, or a thread with replaced parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, cast

import cv2
import httpx
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray

from bridge.server.settings import BridgeSettings
from bridge.server.supervisor import open_listener
from bridge.server.worker import create_server
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.serving.model_cache import ModelCache

T = TypeVar("T")

# A network that answers in milliseconds, compiles nothing, and needs no file where the weights are random.
TOY = ("--default-encoder=toy", "--default-input-size=56", "--port=0", "--backend=torch")
UNTRAINED = ("--checkpoint=untrained",)
START_TIMEOUT_S = 60.0


def eventually(look: Callable[[], T | Literal[False] | None], timeout_s: float = 20.0) -> T:
    """Look again and again until there is something to see; fail after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.02)
    return seen


@dataclass
class RunningBridge:
    """A bridge in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_lines(self) -> list[dict[str, Any]]:
        """Everything logged so far; a line that is still being written is left out."""
        *complete, _ = self.log.read_text().split("\n")
        return [json.loads(line) for line in complete if line.startswith("{")]

    def logged(self, text: str) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if text in line["message"]]

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/livez", timeout=5).is_success
        except httpx.TransportError:
            return False

    def workers(self) -> list[int]:
        """Process ids of the workers that serve."""
        return [line["process"] for line in self.logged("Application startup complete")]

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def launch(log: Path, *arguments: str, env: dict[str, str] | None = None) -> RunningBridge:
    """Start `python -m bridge` in a process group of its own; it may not listen yet, or never."""
    command = [sys.executable, "-m", "bridge", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})  # the toy network is too small to be shared out
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, env=env, start_new_session=True)
    return RunningBridge(process, log)


def start(log: Path, *arguments: str, env: dict[str, str] | None = None, workers: int = 1) -> RunningBridge:
    """Start a bridge and wait until all its workers serve."""
    running = launch(log, f"--workers={workers}", *arguments, env=env)
    try:
        lines = eventually(lambda: running.logged("listening on") or running.process.poll(), START_TIMEOUT_S)
        assert isinstance(lines, list), log.read_text()
        running.port = int(lines[0]["message"].rpartition(":")[2])
        eventually(lambda: len(running.workers()) >= workers and running.is_ready(), START_TIMEOUT_S)
    except BaseException:
        running.process.kill()
        running.process.wait()
        raise
    return running


@contextmanager
def serving(app: FastAPI, settings: BridgeSettings) -> Iterator[str]:
    """Serve an application on a real socket from a thread; gives its base URL."""
    listener = open_listener("127.0.0.1", 0)
    server = create_server(app, settings)
    thread = threading.Thread(target=server.run, args=([listener],))
    port = listener.getsockname()[1]
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.worker.drain()
        thread.join(30)
        assert not thread.is_alive()


def toy_settings(**changes: Any) -> BridgeSettings:
    """Settings of a bridge with the toy network."""
    toy: dict[str, Any] = {"default_encoder": "toy", "checkpoint": "untrained", "default_input_size": 56}
    return BridgeSettings(**(toy | {"backend": "torch"} | changes))


def encoded(suffix: str, image: NDArray[Any], *parameters: int) -> bytes:
    """Encode a picture, `suffix` being `.jpg`, `.png` or `.webp`."""
    done, data = cv2.imencode(suffix, image, parameters)
    assert done
    return data.tobytes()


class HeldEstimator:
    """A network that answers only once it is let go."""

    weight_bytes = 0
    backend = SimpleNamespace(name="held", precision="fp32")

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.released = threading.Event()

    def estimate(self, image_bgr: NDArray[np.uint8], max_depth: float | None = None, _: object = None) -> DepthMap:
        self.started.release()
        assert self.released.wait(60)
        return DepthMap(np.full(image_bgr.shape[:2], max_depth, np.float32), "metric", "held_hypersim_56")

    def cache(self) -> ModelCache:
        """A cache with nothing but this."""
        return ModelCache(devices=["cpu"], load=lambda _: cast(DepthEstimator, self))
