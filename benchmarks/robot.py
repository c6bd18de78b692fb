"""What the bridge adds between a depth node and a client: time from the stamp, and CPU for one client and for many.

Node (toy network), camera, a plain rclpy subscriber and the bridge are processes of their own on one machine. The
subscriber and the clients get the same frames; it takes messages as bytes, without unpacking them. CPU is that of the
bridge's processes, as a share of one core; the clients are in this process. Beside it is a bare server that sends as
many bytes and does nothing else: what one more client costs there is the kernel's work, and nothing can be below it.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from websockets.sync.client import connect

from benchmarks import report, spread_ms, versions
from benchmarks._ros_processes import RosProcesses, ros_environment
from benchmarks.bridge import free_port, wait_until_ready
from bridge.frame_header import unpack
from depth_anything_ros.model.weights import UNTRAINED

CAMERA = "camera"  # the only one of a node without a namespace
START_S = 60.0
CLIENTS = (1, 10)
FORMATS = ("raw", "png")


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks robot", description=__doc__)
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    parser.add_argument("--rate-hz", type=float, default=10.0, help="of the camera")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=2, help="of one client and many, in turn")
    args = parser.parse_args(argv)
    width, height = map(int, args.size.split("x"))
    with TemporaryDirectory() as folder, RosProcesses(Path(folder)) as ros, running_bridge() as (port, bridge):
        ros.start_node(encoder="toy", checkpoint=UNTRAINED, input_size=56, backend="torch")
        ros.start_camera(width, height, args.rate_hz)
        wait_for_camera(port)
        with clients(port, 1, "raw"):
            ros.start_listener("depth")
            ros.wait_for_arrivals(5, START_S)
        latency = latencies(ros, port, args.seconds)
        with bare_server(4 * width * height, args.rate_hz) as (bare_port, bare):
            servers = {"bare": (bare, bare_port), **dict.fromkeys(FORMATS, (bridge, port))}
            turns = [turn for _ in range(args.repeats) for turn in servers.items()]
            cpu = [cpu_of(*server, name, args.seconds) for name, server in turns]
    report(
        "robot",
        versions=versions("torch", "numpy", "ros-rclpy", "uvicorn", "websockets"),
        size=args.size,
        rate_hz=args.rate_hz,
        latency_ms=latency,
        cpu=cpu,
        ratios={name: median_of(cpu, name, "ratio") for name in FORMATS},
        ms_for_a_frame_of_one_more={name: median_of(cpu, name, "ms_of_one_more") for name in servers},
    )


@contextmanager
def running_bridge() -> Iterator[tuple[int, psutil.Process]]:
    """A bridge that shows the robot: its port, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "bridge", "--ros", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "warning", "--checkpoint", UNTRAINED, "--default-encoder", "toy"]
    server = subprocess.Popen(command, env=ros_environment("shipped"))
    try:
        wait_until_ready(server, port)
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def bare_server(payload_bytes: int, rate_hz: float) -> Iterator[tuple[int, psutil.Process]]:
    """A server that sends so many bytes so often: its port, and its process."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks._bare_stream", str(port), str(payload_bytes), str(rate_hz)]
    server = subprocess.Popen(command)
    try:
        wait_until_listening(port)
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def wait_until_listening(port: int) -> None:
    """Wait until connections are taken. Raises RuntimeError where they are not."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the bare server does not listen")


def wait_for_camera(port: int) -> None:
    """Wait until the bridge gives a frame. Raises RuntimeError where none comes."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", f"/cameras/{CAMERA}/depth", headers={"Accept": "application/octet-stream"})
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status == 200:
            return
        time.sleep(0.2)
    raise RuntimeError("the bridge gives no depth")


@contextmanager
def clients(port: int, count: int, format_: str) -> Iterator[list[list[tuple[int, float]]]]:
    """Clients that read all they get: for each, stamps and seconds from the stamp to the client."""
    found: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    asked = "raw" if format_ == "bare" else format_
    url = f"ws://127.0.0.1:{port}/cameras/{CAMERA}/stream?format={asked}"

    def read(stream: Any, own: list[tuple[int, float]]) -> None:
        for message in stream:
            now_ns = time.time_ns()
            stamp_ns = unpack(message)[0].stamp_ns
            own.append((stamp_ns, (now_ns - stamp_ns) / 1e9))

    with ExitStack() as stack:
        streams = [stack.enter_context(connect(url, max_size=None, compression=None)) for _ in range(count)]
        threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in zip(streams, found, strict=True)]
        for thread in threads:
            thread.start()
        yield found


def latencies(ros: RosProcesses, port: int, seconds: float) -> dict[str, Any]:
    """One client beside the subscriber: milliseconds from stamp to each, for frames that both got."""
    with clients(port, 1, "raw") as [own]:
        time.sleep(1.0)
        since_s = time.time()
        time.sleep(seconds)
        plain_s = [note["latency_s"] for note in ros.arrivals("depth") if note["at_s"] >= since_s]
        client_s = [latency_s for stamp_ns, latency_s in own if stamp_ns / 1e9 + latency_s >= since_s]
    more_ms = 1e3 * (statistics.median(client_s) - statistics.median(plain_s))
    counts = {"subscriber": len(plain_s), "client": len(client_s)}
    medians = {"subscriber": spread_ms(plain_s), "client": spread_ms(client_s)}
    return {**medians, "more_in_the_median": round(more_ms, 2), "frames": counts}


def cpu_of(server: psutil.Process, port: int, name: str, seconds: float) -> dict[str, Any]:
    """Share of a core that a server takes for one client and for many, and frames a second that each of them got."""
    found: dict[str, Any] = {"format": name}
    for count in CLIENTS:
        with clients(port, count, name) as streams:
            time.sleep(1.0)
            before_s, seen, start_s = cpu_s(server), [len(own) for own in streams], time.monotonic()
            time.sleep(seconds)
            taken_s = time.monotonic() - start_s
            frames = [len(own) - before for own, before in zip(streams, seen, strict=True)]
            found[f"core_share_{count}"] = round((cpu_s(server) - before_s) / taken_s, 4)
            found[f"rate_hz_{count}"] = round(min(frames) / taken_s, 1)
    few, many = (found[f"core_share_{count}"] for count in CLIENTS)
    more_s = (many - few) / (CLIENTS[1] - CLIENTS[0]) / found[f"rate_hz_{CLIENTS[1]}"]
    return {**found, "ratio": round(many / few, 2), "ms_of_one_more": round(1e3 * more_s, 3)}


def cpu_s(server: psutil.Process) -> float:
    """CPU time of a server's threads that run, the kernel's work for them included; not rounded to clock ticks."""
    pids = [process.pid for process in (server, *server.children(recursive=True))]
    threads = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in threads) / 1e9


def median_of(cpu: list[dict[str, Any]], name: str, field: str) -> float:
    """Median of a figure over the repeats."""
    return round(float(statistics.median(row[field] for row in cpu if row["format"] == name)), 3)
