"""What the bridge adds to `estimate`, and how much of the estimator's throughput its clients get.

A real server runs in a process of its own, on random weights; requests go over loopback. The overhead of
a request is its time from the first byte sent to the last received, less the inference time that the
server states in the same answer (`Server-Timing`). Throughput is compared with `estimate` in a loop in
this process, before and after each measurement, while the server is idle.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import report, versions
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.weights import UNTRAINED

HEIGHT, WIDTH = 480, 640
CLIENTS = (1, 8, 50)
PATIENCE_S = 600  # a slow machine keeps the last of 50 waiting for longer than the server's default
INFER_MS = re.compile(r"\binfer;dur=([0-9.]+)")


class Ask(NamedTuple):
    """One way to ask for depth."""

    path: str
    body: bytes
    headers: dict[str, str]


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks bridge", description=__doc__)
    parser.add_argument("--encoder", default="toy", help="the faster, the harder it is to keep up with")
    parser.add_argument("--requests", type=int, default=40, help="measured requests for each format")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each throughput measurement")
    args = parser.parse_args(argv)
    image = picture()
    asks = ways_to_ask(image)
    with running_server(args.encoder) as port:
        overhead = {name: overhead_ms(port, ask, args.requests) for name, ask in asks.items()}
        estimator = DepthEstimator.load(args.encoder, "hypersim", UNTRAINED)
        alone, served = [estimates_per_s(estimator, image, args.seconds)], []
        for clients in CLIENTS:
            served.append(answers_per_s(port, asks["octet_stream"], clients, args.seconds))
            alone.append(estimates_per_s(estimator, image, args.seconds))
    report(
        "bridge",
        versions=versions("torch", "fastapi", "starlette", "uvicorn", "orjson", "numpy", "opencv-python-headless"),
        device=str(estimator.device),
        encoder=args.encoder,
        image=f"{WIDTH}x{HEIGHT} JPEG, {len(asks['octet_stream'].body)} bytes",
        overhead_ms=overhead,
        estimator_images_per_s=[round(rate, 2) for rate in alone],
        images_per_s=dict(zip(map(str, CLIENTS), [round(rate, 2) for rate in served], strict=True)),
        share_of_estimator=dict(zip(map(str, CLIENTS), shares(served, alone), strict=True)),
    )


def shares(served: Sequence[float], alone: Sequence[float]) -> list[float]:
    """Each rate of answers over the mean of the estimator's rates just before and after it."""
    return [round(2 * rate / sum(alone[turn : turn + 2]), 3) for turn, rate in enumerate(served)]


def picture() -> NDArray[np.uint8]:
    """uint8 BGR (480, 640, 3): shading with grain, 89 kB as JPEG; photographs of this size have 60 to 110."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    shading = np.stack([np.sin(4 * u + 2 * v), np.cos(5 * v), np.sin(9 * u * v)], axis=-1) * 60 + 120
    return np.clip(shading + np.random.default_rng(0).normal(0, 4, shading.shape), 0, 255).astype(np.uint8)


def ways_to_ask(image: NDArray[np.uint8]) -> dict[str, Ask]:
    """The image as a raw body with three kinds of answer, and as JSON both ways."""
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    body = json.dumps({"image": base64.b64encode(jpeg).decode(), "max_depth": 20.0}).encode()

    def raw(accept: str) -> Ask:
        return Ask("/metric_depth?max_depth=20", jpeg, {"Content-Type": "image/jpeg", "Accept": accept})

    return {
        "octet_stream": raw("application/octet-stream"),
        "npy": raw("application/x-npy"),
        "png16": raw("image/png"),
        "json": Ask("/metric_depth", body, {"Content-Type": "application/json", "Accept": "application/json"}),
    }


@contextmanager
def running_server(encoder: str) -> Iterator[int]:
    """Run a bridge on loopback; yields its port once the model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bridge", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    command += ["--checkpoint", UNTRAINED, "--default-encoder", encoder, "--preload", f"{encoder}:hypersim:518"]
    command += ["--queue-timeout-s", str(PATIENCE_S), "--request-timeout-s", str(PATIENCE_S)]
    server = subprocess.Popen(command)
    try:
        wait_until_ready(server, port)
        yield port
    finally:
        server.terminate()
        server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], port: int, timeout_s: float = 120.0) -> None:
    """Poll `/readyz`. Raises RuntimeError if the server ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while server.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError("the bridge did not become ready")


def send(connection: HTTPConnection, ask: Ask) -> str:
    """Send one request and read the whole answer; returns its Server-Timing."""
    connection.request("POST", ask.path, ask.body, ask.headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"the bridge answered {response.status}: {body[:300]!r}")
    return response.getheader("Server-Timing", "")


def overhead_ms(port: int, ask: Ask, requests: int) -> dict[str, float]:
    """Median and 95th percentile over requests on one connection, after three that warm up."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    overheads = []
    for _ in range(requests + 3):
        start = time.perf_counter()
        timing = INFER_MS.search(send(connection, ask))
        total_ms = (time.perf_counter() - start) * 1e3
        assert timing, "the bridge states no inference time"
        overheads.append(total_ms - float(timing[1]))
    connection.close()
    measured = np.array(overheads[3:])
    return {"median": round(float(np.median(measured)), 2), "p95": round(float(np.percentile(measured, 95)), 2)}


def answers_per_s(port: int, ask: Ask, clients: int, seconds: float) -> float:
    """Let clients ask without a pause; a request that began in time counts, with the time it took."""
    start = time.perf_counter()

    def run(_: int) -> int:
        connection, count = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S), 0
        while time.perf_counter() < start + seconds:
            send(connection, ask)
            count += 1
        connection.close()
        return count

    with ThreadPoolExecutor(clients) as pool:
        total = sum(pool.map(run, range(clients)))
    return total / (time.perf_counter() - start)


def estimates_per_s(estimator: DepthEstimator, image: NDArray[np.uint8], seconds: float) -> float:
    """Call `estimate` in a loop, after one call that warms up."""
    estimator.estimate(image)
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        estimator.estimate(image)
        count += 1
    return count / (time.perf_counter() - start)
