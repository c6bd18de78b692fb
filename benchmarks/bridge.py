"""What clients of the bridge wait for each format, and how much of the estimator's throughput they get.

A real server runs in a process of its own, on random weights; 1, 8 and 50 clients in this process ask over
loopback without a pause. Latency is from the first byte sent to the last received; overhead is that less what
the server states for the inference in the same answer (`Server-Timing`), for a client that is alone.
Throughput is compared with `estimate` in a loop in this process, before and after each format, while the
server is idle.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import report, spread_ms, versions
from benchmarks._pictures import picture
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.weights import UNTRAINED

HEIGHT, WIDTH = 480, 640
CLIENTS = (1, 8, 50)
PATIENCE_S = 600  # a slow machine keeps the last of 50 waiting for longer than the server's default
INFER_MS = re.compile(r"\binfer;dur=([0-9.]+)")


INTRINSICS = {"fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5}


class Ask(NamedTuple):
    """One way to ask for depth."""

    path: str
    body: bytes
    headers: dict[str, str]


@dataclass
class Answers:
    """What clients got in one measurement."""

    clients: int
    latencies_s: list[float] = field(default_factory=list)
    overheads_s: list[float] = field(default_factory=list)
    size_bytes: int = 0
    took_s: float = 0.0


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks bridge", description=__doc__)
    parser.add_argument("--encoder", default="toy", help="the faster, the harder it is to keep up with")
    parser.add_argument("--formats", nargs="+", help="some of them only, by the names in the result")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--seconds", type=float, default=4.0, help="in which a measurement's requests begin")
    args = parser.parse_args(argv)
    image = picture(HEIGHT, WIDTH)
    asks = {name: ask for name, ask in ways_to_ask(image).items() if name in (args.formats or (name,))}
    estimator = DepthEstimator.load(args.encoder, "hypersim", UNTRAINED)
    alone, served = [estimates_per_s(estimator, image, args.seconds)], {}
    with running_server(args.encoder) as port:
        answers_of(port, next(iter(asks.values())), 1, args.seconds)  # warms up
        for name, ask in asks.items():
            served[name] = {clients: answers_of(port, ask, clients, args.seconds) for clients in args.clients}
            alone.append(estimates_per_s(estimator, image, args.seconds))
    report(
        "bridge",
        versions=versions("torch", "fastapi", "starlette", "uvicorn", "orjson", "numpy", "opencv-python-headless"),
        device=str(estimator.device),
        backend=f"{estimator.backend.name} {estimator.backend.precision}",
        encoder=args.encoder,
        image=f"{WIDTH}x{HEIGHT} JPEG, {len(jpeg_of(image))} bytes",
        seconds=args.seconds,
        estimator_images_per_s=[round(rate, 2) for rate in alone],
        formats={
            name: {clients: summary(answers, (alone[turn] + alone[turn + 1]) / 2) for clients, answers in found.items()}
            for turn, (name, found) in enumerate(served.items())
        },
    )


def summary(answers: Answers, estimates_per_s: float) -> dict[str, Any]:
    """Latency and overhead in milliseconds, rates in Hz, and the share of the estimator's rate."""
    images_per_s = len(answers.latencies_s) / answers.took_s
    return {
        "answers": len(answers.latencies_s),
        "bytes": answers.size_bytes,
        "latency": spread_ms(answers.latencies_s),
        "overhead": spread_ms(answers.overheads_s) if answers.clients == 1 else None,
        "images_per_s": round(images_per_s, 2),
        "share_of_estimator": round(images_per_s / estimates_per_s, 3),
    }


def jpeg_of(image: NDArray[np.uint8]) -> bytes:
    """Encode as a camera would, with OpenCV's default quality of 95."""
    return cv2.imencode(".jpg", image)[1].tobytes()


def ways_to_ask(image: NDArray[np.uint8]) -> dict[str, Ask]:
    """The image as a raw body with every kind of answer, depth and clouds; JSON both ways for JSON."""
    jpeg = jpeg_of(image)
    fields = {"image": base64.b64encode(jpeg).decode(), "max_depth": 20.0}
    query = "max_depth=20&" + "&".join(f"{name}={value}" for name, value in INTRINSICS.items())

    def raw(path: str, accept: str) -> Ask:
        return Ask(f"{path}?{query}", jpeg, {"Content-Type": "image/jpeg", "Accept": accept})

    def both_ways(path: str, **more: Any) -> Ask:
        body = json.dumps({**fields, **more}).encode()
        return Ask(path, body, {"Content-Type": "application/json", "Accept": "application/json"})

    return {
        "depth raw": raw("/metric_depth", "application/octet-stream"),
        "depth npy": raw("/metric_depth", "application/x-npy"),
        "depth png16": raw("/metric_depth", "image/png"),
        "depth json": both_ways("/metric_depth"),
        "cloud raw": raw("/pc", "application/octet-stream"),
        "cloud npy": raw("/pc", "application/x-npy"),
        "cloud ply": raw("/pc", "application/x-ply"),
        "cloud pcd": raw("/pc", "application/x-pcd"),
        "cloud json": both_ways("/pc", camera_intrinsics=INTRINSICS),
    }


@contextmanager
def running_server(encoder: str) -> Iterator[int]:
    """Run a bridge on loopback; yields its port once the model is loaded."""
    port = free_port()
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


def free_port() -> int:
    """A port on loopback that nobody listens to now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


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


def send(connection: HTTPConnection, ask: Ask) -> tuple[float, int]:
    """Send one request and read the whole answer; returns the inference's seconds and the body's bytes."""
    connection.request("POST", ask.path, ask.body, ask.headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise RuntimeError(f"the bridge answered {response.status}: {body[:300]!r}")
    infer = INFER_MS.search(response.getheader("Server-Timing", ""))
    assert infer, "the bridge states no inference time"
    return float(infer[1]) / 1e3, len(body)


def answers_of(port: int, ask: Ask, clients: int, seconds: float) -> Answers:
    """Let clients ask without a pause; a request that began in time counts, with the time it took."""
    found = Answers(clients)
    start_s = time.perf_counter()

    def run(_: int) -> None:
        connection, began_s = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S), time.perf_counter()
        while began_s < start_s + seconds:
            infer_s, found.size_bytes = send(connection, ask)
            ended_s = time.perf_counter()
            found.latencies_s.append(ended_s - began_s)
            found.overheads_s.append(ended_s - began_s - infer_s)
            began_s = ended_s
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))  # raises what a client raised
    found.took_s = time.perf_counter() - start_s
    return found


def estimates_per_s(estimator: DepthEstimator, image: NDArray[np.uint8], seconds: float) -> float:
    """Call `estimate` in a loop, after one call that warms up."""
    estimator.estimate(image)
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        estimator.estimate(image)
        count += 1
    return count / (time.perf_counter() - start)
