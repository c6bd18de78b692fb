"""Clients of a bridge that ask all the time, for anything that it offers, and check and count every answer."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bridge.client import BridgeError, DepthClient, RetryPolicy
from depth_anything_ros.estimator import DepthEstimator

CLIENTS = 3
PAUSE_S, PROBE_PAUSE_S = 0.1, 0.25  # between two requests of a client
TIMEOUT_S = 20.0
SIDES = (1, 400)  # of pictures, in pixels
MODELS = [f"toy_{dataset}_{size}" for dataset in ("hypersim", "vkitti") for size in (56, 70, 98)]
CLOUD_CAMERA = {"fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}
PROBE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)  # the picture whose depth is known
TOLERANCE_M = 1e-4
# What a full server or one that restarts may say.
BUSY = ("queue_full", "loading", "draining")
LATENCY_WINDOW_S = 10.0

Ask: TypeAlias = Callable[[DepthClient, random.Random], None]


class Wrong(Exception):
    """An answer is not what was asked for."""


class Traffic:
    """Threads that ask until `stop`.

    Attributes:
        counts: requests by what became of them: answered, busy (turned away), lost (no answer).
        problems: answers that were not right.
    """

    def __init__(self, url: str, api_key: str, seed: int) -> None:
        self._url, self._api_key = url, api_key
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=10_000)  # when, seconds
        self._known = DepthEstimator.load("toy", "hypersim", "untrained", 56, "cpu", backend="torch").estimate(PROBE)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        seeds = random.Random(seed)
        asking = [threading.Thread(target=self._ask_anything, args=(seeds.random(),)) for _ in range(CLIENTS)]
        self._threads = [threading.Thread(target=self._ask_for_the_known), *asking]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every request under way come to its end."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def latency_ms(self) -> float | None:
        """Median of the requests for the known picture in the last seconds; None without any."""
        since_s = time.monotonic() - LATENCY_WINDOW_S
        with self._lock:
            recent = [seconds for at_s, seconds in self._latencies if at_s >= since_s]
        return 1e3 * statistics.median(recent) if recent else None

    def _ask_for_the_known(self) -> None:
        with self._client() as client:
            while not self._ending.wait(PROBE_PAUSE_S):
                begun_s = time.monotonic()
                if self._attempt(partial(self._ask_known, client)) == "answered":
                    with self._lock:
                        self._latencies.append((time.monotonic(), time.monotonic() - begun_s))

    def _ask_known(self, client: DepthClient) -> None:
        depth, known = client.metric_depth(PROBE).values, self._known.values
        if depth.shape != known.shape or not np.allclose(depth, known, atol=TOLERANCE_M, rtol=0):
            raise Wrong(f"the depth of the known picture is {depth.ravel()[:3]}..., not {known.ravel()[:3]}...")

    def _ask_anything(self, seed: float) -> None:
        rng = random.Random(seed)
        while not self._ending.is_set():
            with self._client(rng.choice(MODELS)) as client:
                for _ in range(rng.randrange(1, 20)):  # then over new connections, which may reach another worker
                    self._attempt(partial(rng.choice(ASKS), client, rng))
                    if self._ending.wait(PAUSE_S):
                        break

    def _client(self, model: str | None = None) -> DepthClient:
        once = RetryPolicy(attempts=1)
        return DepthClient(self._url, self._api_key, model=model, timeout_s=TIMEOUT_S, retry=once)

    def _attempt(self, ask: Callable[[], None]) -> str:
        """Send one request, and count what became of it."""
        outcome = self._outcome(ask)
        with self._lock:
            self.counts[outcome] += 1
        return outcome

    def _outcome(self, ask: Callable[[], None]) -> str:
        try:
            ask()
        except BridgeError as error:
            if error.status is None:
                return "lost"
            if error.code in BUSY:
                return "busy"
            self._complain(f"status {error.status}, {error.code}: {error}")
        except Wrong as error:
            self._complain(str(error))
        return "answered"

    def _complain(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)


def _picture(rng: random.Random) -> NDArray[np.uint8]:
    """Noise of any size and shape that is not too long."""
    height = rng.randint(*SIDES)
    width = rng.randint(-(-height // 8), min(SIDES[1], 8 * height))
    return np.frombuffer(rng.randbytes(height * width * 3), np.uint8).reshape(height, width, 3)


def _check(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape != shape or not np.isfinite(values).all():
        raise Wrong(f"values of shape {values.shape} for a picture of {shape}, or not finite")


def _ask_depth(client: DepthClient, rng: random.Random) -> None:
    picture = _picture(rng)
    _check(client.metric_depth(picture, max_depth=rng.choice((None, 1.0, 60.0))).values, picture.shape[:2])


def _ask_relative(client: DepthClient, rng: random.Random) -> None:
    picture = _picture(rng)
    _check(client.relative_depth(picture).values, picture.shape[:2])


def _ask_cloud(client: DepthClient, rng: random.Random) -> None:
    picture = _picture(rng)
    _check(client.point_cloud(picture, CLOUD_CAMERA, max_depth=rng.choice((None, 20.0))), picture.shape)


def _ask_several(client: DepthClient, rng: random.Random) -> None:
    pictures = [_picture(rng) for _ in range(3)]
    for picture, depth in zip(pictures, client.metric_depths(pictures), strict=True):
        if isinstance(depth, BridgeError):
            raise depth
        _check(depth.values, picture.shape[:2])


ASKS: tuple[Ask, ...] = (_ask_depth, _ask_relative, _ask_cloud, _ask_several)
