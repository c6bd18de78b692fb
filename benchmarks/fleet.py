"""How many replicas, which limits, at what cost: a simulated fleet, and how it compares with a real one of two.

First two replicas of the bridge on Ray Serve run on this machine, one core each, while requests arrive by chance: at 80
and at 150 percent of what they can do. The simulation gets the same times of arrival and the inference times that the
replicas state, and is compared with what came of it. Its own questions follow: what load fleets of 1 to 1,000 replicas
bear, what the queue limit does under three times the load, and what the autoscaling target costs over a day.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks import report, versions
from benchmarks._arrivals import DAY_S, daily, poisson
from benchmarks._fleet import Fleet, Outcome, ReplicaSpec, Scaling, TurnTime
from benchmarks._pictures import picture
from benchmarks.bridge import INFER_MS, free_port, jpeg_of
from bridge.server.ray_settings import config_file
from depth_anything_ros.model.weights import UNTRAINED

REPLICAS = 2
LOADS = (0.8, 1.5)
MAX_WAITING = 8
WARM_UP = 20
START_TIMEOUT_S = 180.0
SIZES = (1, 2, 4, 10, 100, 1000)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PATIENCE_TURNS = 4  # an answer is good if it takes so many turns of a replica at most, its own included
DEADLINE_S = 5.0
TARGETS = (0.7, 1.0, 1.5, 2.0, 4.0)  # for each image that a replica works on at once
PEAK = 1.8  # of a day's rate, by its mean
PEAK_REPLICAS = 10
MAX_DAY_HZ = 20.0  # a simulated day of more requests takes minutes


@dataclass(frozen=True)
class Reply:
    """What came of one request."""

    status: int
    latency_s: float
    infer_s: float


def main(argv: list[str]) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="benchmarks fleet", description=__doc__)
    parser.add_argument("--encoder", default="vits")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measured load")
    parser.add_argument("--price", type=float, default=0.05, help="of one CPU replica's hour, in any currency")
    parser.add_argument(
        "--gpu",
        nargs=3,
        type=float,
        metavar=("FIXED_MS", "EACH_MS", "PRICE"),
        help="a GPU replica: its batches of up to 8 take FIXED_MS + images x EACH_MS (see `benchmarks gpu`)",
    )
    args = parser.parse_args(argv)
    checks, turns_s = measure(args.encoder, args.seconds)
    cpu = ReplicaSpec(drawn_from(turns_s), deadline_s=DEADLINE_S)
    fleets = {"cpu": (cpu, args.price)}
    if args.gpu:
        fixed_ms, each_ms, price = args.gpu
        fleets["gpu"] = (
            ReplicaSpec(batches_of(fixed_ms / 1e3, each_ms / 1e3), max_batch=8, deadline_s=DEADLINE_S),
            price,
        )
    report(
        "fleet",
        versions=versions("ray", "simpy", "torch", "openvino"),
        encoder=args.encoder,
        measured_and_simulated=checks,
        turn_ms={"median": round(1e3 * statistics.median(turns_s), 1), "of": len(turns_s)},
        fleets={name: plan(*fleet) for name, fleet in fleets.items()},
    )


# Against a real fleet


def measure(encoder: str, seconds: float) -> tuple[list[dict[str, Any]], list[float]]:
    """Compare each load's real outcome with the simulated one; returns that, and all inference times."""
    checks, turns_s = [], []
    with running_fleet(encoder) as port:
        body = jpeg_of(picture(480, 640))
        for pause_s in (1.0, 0.5):  # the first round is for what is built at first
            warm = offer(port, body, [pause_s * index for index in range(WARM_UP)])
        turn_s = statistics.median(reply.infer_s for reply in warm if reply.status == 200)
        for load in LOADS:
            arrivals = [*poisson(load * REPLICAS / turn_s, seconds, Random(1))]
            began_s = time.perf_counter()
            replies = offer(port, body, arrivals)
            took_s = time.perf_counter() - began_s
            own_s = [reply.infer_s for reply in replies if reply.status == 200]
            spec = ReplicaSpec(drawn_from(own_s), max_waiting=MAX_WAITING)
            outcome = Fleet(spec, Scaling.fixed(REPLICAS)).run(arrivals, took_s)
            checks.append({"load": load, **compared(replies, took_s, outcome)})
            turns_s += own_s
    return checks, turns_s


def compared(replies: Sequence[Reply], took_s: float, outcome: Outcome) -> dict[str, Any]:
    """Measured, simulated; rates in Hz, latencies in seconds."""
    latencies_s = sorted(reply.latency_s for reply in replies if reply.status == 200)
    refused = sum(reply.status == 503 for reply in replies)
    rate = len(latencies_s) / took_s
    return {
        "requests": len(replies),
        "failed": len(replies) - len(latencies_s) - refused,
        "images_per_s": [round(rate, 3), round(outcome.images_per_s, 3)],
        "ratio": round(outcome.images_per_s / rate, 3),
        "refused": [refused, outcome.refused],
        "median_s": [round(statistics.median(latencies_s), 2), round(outcome.latency_s(0.5), 2)],
        "p95_s": [round(latencies_s[int(0.95 * len(latencies_s))], 2), round(outcome.latency_s(0.95), 2)],
    }


@contextmanager
def running_fleet(encoder: str) -> Iterator[int]:
    """Run two replicas with `serve run`, one core each; yields the port once both answer."""
    port = free_port()
    arguments = {
        "replicas": str(REPLICAS),
        "default_encoder": encoder,
        "checkpoint": UNTRAINED,
        "preload": f"{encoder}:hypersim:518",
        "max_waiting": str(MAX_WAITING),
    }
    private = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with TemporaryDirectory() as folder:
        file = Path(folder, "serve.yaml")
        file.write_text(config_file(arguments).replace("port: 8000", f"port: {port}"))
        command = [str(Path(sys.executable).with_name("serve")), "run", str(file)]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, env=os.environ | private, stdout=log, stderr=log)
        try:
            wait_for_replicas(process, port)
            yield port
        finally:
            process.terminate()
            process.wait()


def wait_for_replicas(process: subprocess.Popen[bytes], port: int) -> None:
    """Ask `/health` until each replica has answered. Raises RuntimeError: not in time."""
    deadline_s, seen = time.monotonic() + START_TIMEOUT_S, set()
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
            seen.add(answer.json().get("replica") if answer.status_code == 200 else None)
        except (httpx.HTTPError, ValueError):
            pass
        if len(seen - {None}) == REPLICAS:
            return
        time.sleep(0.2)
    raise RuntimeError("the replicas did not become ready")


def offer(port: int, body: bytes, arrivals_s: Sequence[float]) -> list[Reply]:
    """Send a request at each of these seconds, whether or not the earlier ones are answered."""
    began_s = time.perf_counter()

    def send(arrival_s: float) -> Reply:
        time.sleep(max(0.0, began_s + arrival_s - time.perf_counter()))
        connection, sent_s = HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S), time.perf_counter()
        headers = {"Content-Type": "image/jpeg", "Accept": "application/octet-stream"}
        connection.request("POST", "/metric_depth", body, headers)
        response = connection.getresponse()
        response.read()
        infer = INFER_MS.search(response.getheader("Server-Timing", ""))
        connection.close()
        return Reply(response.status, time.perf_counter() - sent_s, float(infer[1]) / 1e3 if infer else 0.0)

    with ThreadPoolExecutor(2 * REPLICAS * (MAX_WAITING + 2)) as pool:
        return list(pool.map(send, arrivals_s))


# What the simulation is for


def drawn_from(turns_s: Sequence[float]) -> TurnTime:
    """Times of single images, drawn from measured ones."""
    return lambda batch, random: batch * random.choice(turns_s)


def batches_of(fixed_s: float, each_s: float) -> TurnTime:
    """Times of batches, without noise."""
    return lambda batch, random: fixed_s + batch * each_s


def plan(spec: ReplicaSpec, price: float) -> dict[str, Any]:
    """Answer the questions for one kind of replica."""
    turn_s, capacity_hz = spec.mean_turn_s(), spec.at_once / spec.mean_turn_s()
    return {
        "images_per_s": round(capacity_hz, 2),
        "cost_per_million": {
            f"{share:.0%} busy": round(price / 3600 / (share * capacity_hz) * 1e6, 2) for share in (1.0, 0.7, 0.4)
        },
        "load_that_sizes_bear": {size: bearable_load(spec, size, turn_s) for size in SIZES},
        "queue_limits": [queue_limit(spec, places, capacity_hz) for places in (0, 2, 8, 16, 64)],
        "targets": [target(spec, ongoing * spec.at_once, capacity_hz, price) for ongoing in TARGETS]
        if PEAK_REPLICAS * capacity_hz < PEAK * MAX_DAY_HZ
        else "too many requests a day to simulate",
    }


def bearable_load(spec: ReplicaSpec, size: int, turn_s: float) -> float:
    """The highest share of capacity at which 95 percent are answered in a few turns, and none is refused."""
    span_s, best = max(100.0, 4000 / size) * turn_s, 0.0
    for share in SHARES:
        arrivals = poisson(share * size * spec.at_once / turn_s, span_s, Random(1))
        outcome = Fleet(spec, Scaling.fixed(size)).run(arrivals, span_s)
        if outcome.refused or outcome.latency_s(0.95) > PATIENCE_TURNS * turn_s:
            return best
        best = share
    return best


def queue_limit(spec: ReplicaSpec, max_waiting: int, capacity_hz: float) -> dict[str, float]:
    """Two replicas under three times their load, refusing at this limit alone and not by the deadline."""
    span_s = 600 * spec.mean_turn_s()
    told = ReplicaSpec(spec.turn_s, spec.devices, spec.max_batch, max_waiting)
    arrivals = poisson(3 * 2 * capacity_hz, span_s, Random(1))
    outcome = Fleet(told, Scaling.fixed(2)).run(arrivals, span_s)
    in_time = sum(latency_s <= DEADLINE_S for latency_s in outcome.latencies_s)
    return {
        "max_waiting": max_waiting,
        "share_of_capacity": round(outcome.images_per_s / (2 * capacity_hz), 3),
        f"within_{DEADLINE_S:g}_s": round(in_time / outcome.span_s / (2 * capacity_hz), 3),
        "p95_s": round(outcome.latency_s(0.95), 2),
    }


def target(spec: ReplicaSpec, ongoing: float, capacity_hz: float, price: float) -> dict[str, float]:
    """A fleet follows a day at whose noon ten replicas are just enough, and at night a ninth of that."""
    mean_hz = PEAK_REPLICAS * capacity_hz / PEAK
    scaling = Scaling(1, 4 * PEAK_REPLICAS, target_ongoing_requests=ongoing)
    outcome = Fleet(spec, scaling).run(daily(mean_hz, PEAK, DAY_S, Random(1)), DAY_S)
    return {
        "target_ongoing_requests": ongoing,
        "mean_replicas": round(outcome.mean_replicas, 1),
        "busy": round(outcome.busy_s / spec.devices / outcome.replica_s, 2),
        "refused_or_late": round((outcome.refused + outcome.late) / outcome.offered, 5),
        "median_s": round(outcome.latency_s(0.5), 2),
        "p95_s": round(outcome.latency_s(0.95), 2),
        "cost_per_million": round(outcome.cost_per_million(price), 2),
    }
