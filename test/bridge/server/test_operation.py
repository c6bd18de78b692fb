"""A bridge under load, in trouble, and on its way down: real processes, sockets and signals."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import psutil
import pytest
from running_bridge import (
    START_TIMEOUT_S,
    TOY,
    UNTRAINED,
    HeldEstimator,
    RunningBridge,
    encoded,
    eventually,
    launch,
    toy_settings,
)

from bridge.server import worker
from bridge.server.auth import make_key
from bridge.server.exit_status import WORKER_FAILED, WORKER_UNABLE
from bridge.server.supervisor import open_listener
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.serving.model_cache import ModelCache

Json = dict[str, Any]


def post_at_once(url: str, body: Json, count: int) -> list[httpx.Response]:
    """Send a request `count` times at the same moment, each over a connection of its own."""

    async def post_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            return await asyncio.gather(*(client.post(f"{url}/metric_depth", json=body) for _ in range(count)))

    return asyncio.run(post_all())


@contextmanager
def waiting_clients(url: str, body: Json, count: int) -> Iterator[list[Future[httpx.Response]]]:
    """Clients that ask and wait, in threads."""
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(httpx.post, f"{url}/metric_depth", json=body, timeout=60) for _ in range(count)]


def metric(url: str, line: str) -> float:
    """Value of one line of /metrics, 0 where it is not there yet."""
    text = httpx.get(f"{url}/metrics").text
    return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(line)), 0.0)


def test_fifty_at_once_all_succeed(running_bridge: RunningBridge, metric_request: Json) -> None:
    answers = post_at_once(running_bridge.url, metric_request, 50)
    assert Counter(answer.status_code for answer in answers) == {200: 50}
    assert len({answer.content for answer in answers}) == 1


def test_beyond_the_capacity_the_rest_is_turned_away_at_once(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache(), max_waiting=9)
    with waiting_clients(url, metric_request, 10) as accepted:
        eventually(lambda: metric(url, "depth_bridge_in_flight") == 10)
        assert metric(url, "depth_bridge_queue_depth") == 9
        rejected = post_at_once(url, metric_request, 20)
        assert {(a.status_code, a.json()["error"]["code"], a.headers["retry-after"]) for a in rejected} == {
            (503, "queue_full", "1")
        }
        assert httpx.get(f"{url}/livez").is_success
        assert metric(url, 'depth_bridge_rejected_total{reason="queue_full"}') == 20
        held.released.set()
        assert {future.result().status_code for future in accepted} == {200}
    assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200


def test_three_times_the_capacity_is_served_or_refused_quickly_and_the_probe_answers(
    start_bridge: Callable[..., RunningBridge], metric_request: Json
) -> None:
    running = start_bridge("--max-waiting=15", "--log-level=debug")
    body = {**metric_request, "model_input_size": 196}
    probes: list[float] = []
    is_over = threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=running.url) as client:
            while not is_over.wait(0.01):
                probes.append(client.get("/livez").elapsed.total_seconds())

    thread = threading.Thread(target=probe)
    thread.start()
    answers = post_at_once(running.url, body, 48)
    is_over.set()
    thread.join()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 16
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)
    refusals = eventually(lambda: [line for line in running.log_lines() if line.get("error") == "queue_full"])
    assert np.median([line["duration_ms"] for line in refusals]) < 500  # benchmarks/overload.py measures it
    assert probes
    assert np.median(probes) < 0.5


def test_a_client_that_leaves_frees_its_place(serve_app: Callable[..., str], metric_request: Json) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache(), max_waiting=1)
    with waiting_clients(url, metric_request, 1) as running:
        assert held.started.acquire(timeout=20)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/metric_depth", json=metric_request, timeout=0.5)
        eventually(lambda: metric(url, "depth_bridge_in_flight") == 1)
        with waiting_clients(url, metric_request, 1) as next_one:
            eventually(lambda: metric(url, "depth_bridge_in_flight") == 2)
            held.released.set()
            assert next_one[0].result().status_code == 200
        assert running[0].result().status_code == 200


def test_a_client_that_leaves_during_inference_does_not_let_two_run_at_once(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    held = HeldEstimator()
    url = serve_app(None, held.cache())
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/metric_depth", json=metric_request, timeout=0.5)
    assert held.started.acquire(timeout=20)
    with waiting_clients(url, metric_request, 1) as waiting:
        eventually(lambda: metric(url, "depth_bridge_in_flight") == 1)
        assert not held.started.acquire(timeout=0.3)
        held.released.set()
        assert waiting[0].result().status_code == 200


def test_a_client_that_leaves_takes_its_image_out_of_the_batch(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    class Batching(ModelCache):
        """Never begins: everybody stays in the queue of a batch."""

        max_batch = 3
        asked: ClassVar[list[Future[DepthMap]]] = []

        def submit(self, *_: object) -> Future[DepthMap]:
            self.asked.append(Future())
            return self.asked[-1]

    cache = Batching(devices=["cpu"])
    url = serve_app(None, cache, max_waiting=0)
    with waiting_clients(url, metric_request, 2) as staying:
        eventually(lambda: len(cache.asked) == 2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/metric_depth", json=metric_request, timeout=1)
        eventually(lambda: [future.cancelled() for future in cache.asked] == [False, False, True])
        for future in cache.asked[:2]:
            future.set_result(DepthMap(np.ones((48, 64), np.float32), "metric", "batched"))
        assert {future.result().status_code for future in staying} == {200}


def test_terminating_under_load_loses_no_accepted_request(
    start_bridge: Callable[..., RunningBridge], metric_request: Json
) -> None:
    running = start_bridge()
    body = {**metric_request, "model_input_size": 518}
    with httpx.Client(base_url=running.url) as probe, waiting_clients(running.url, body, 20) as accepted:
        eventually(lambda: metric(running.url, "depth_bridge_in_flight") >= 15)
        assert probe.get("/readyz").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        answer = eventually(lambda: unready(probe))
        assert answer.json()["status"] == "draining"
        assert answer.headers["connection"] == "close"
        refused = httpx.post(f"{running.url}/metric_depth", json=metric_request)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert Counter(future.result().status_code for future in accepted) == {200: 20}
    assert running.process.wait(20) == 0


def test_stalled_uploads_do_not_hold_up_the_end(start_bridge: Callable[..., RunningBridge]) -> None:
    running = start_bridge()
    with ExitStack() as stack:
        uploads = []
        for path in ("/metric_depth", "/nowhere"):
            upload = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=20))
            upload.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode())
            uploads.append(upload)
        eventually(lambda: metric(running.url, "depth_bridge_in_flight") == 1)
        start_s = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - start_s < 20
        assert {upload.recv(65536)[:13] for upload in uploads} == {b"HTTP/1.1 503 "}
    assert "did not end in time" not in running.log.read_text()


def test_what_is_in_work_when_the_time_to_drain_is_over_is_given_up(
    start_bridge: Callable[..., RunningBridge], metric_request: Json
) -> None:
    running = start_bridge("--drain-timeout-s=4", "--request-timeout-s=100", "--queue-timeout-s=100")
    body = {**metric_request, "encoder": "vits", "model_input_size": 1036}  # seconds of work each
    with waiting_clients(running.url, body, 12) as accepted:
        eventually(lambda: metric(running.url, "depth_bridge_in_flight") == 12)
        start_s = time.monotonic()
        assert running.end() == 0
        assert time.monotonic() - start_s < 20
        statuses = Counter(outcome_of(future) for future in accepted)
    assert statuses[503] >= 8
    assert set(statuses) <= {200, 503, None}


def outcome_of(future: Future[httpx.Response]) -> int | None:
    """The status, or None where the connection was closed without an answer."""
    try:
        return future.result().status_code
    except httpx.TransportError:
        return None


def unready(probe: httpx.Client) -> httpx.Response | None:
    answer = probe.get("/readyz")
    return answer if answer.status_code == 503 else None


def test_ctrl_c_ends_an_idle_bridge_at_once_with_status_0(start_bridge: Callable[..., RunningBridge]) -> None:
    running = start_bridge()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.process.wait(10) == 0
    assert "Traceback" not in running.log.read_text()


def test_ctrl_c_while_its_workers_start_is_no_traceback(tmp_path: Path) -> None:
    running = launch(tmp_path / "log", *TOY, *UNTRAINED)
    eventually(lambda: running.logged("listening on"), START_TIMEOUT_S)
    eventually(lambda: psutil.Process(running.process.pid).children())
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.process.wait(30) == 0
    assert "Traceback" not in running.log.read_text()


def test_a_killed_worker_is_replaced_while_the_others_serve(
    start_bridge: Callable[..., RunningBridge], metric_request: Json
) -> None:
    running = start_bridge(workers=2)
    first, second = running.workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: running.logged("is replaced"))
    for _ in range(5):
        assert httpx.post(f"{running.url}/metric_depth", json=metric_request).status_code == 200
    (third,) = eventually(lambda: set(running.workers()) - {first, second})
    assert {process.pid for process in psutil.Process(running.process.pid).children()} >= {second, third}
    assert eventually(lambda: worker_ids(running) == {0, 1})
    assert running.end() == 0


def test_a_worker_that_dies_while_the_key_file_is_damaged_comes_back_with_it(
    start_bridge: Callable[..., RunningBridge], metric_request: Json, tmp_path: Path
) -> None:
    keys, (key, line) = tmp_path / "keys", make_key("robot")
    keys.write_text(f"{line}\n")
    running = start_bridge(f"--api-keys-file={keys}")
    keys.write_text("damaged\n")
    (first,) = running.workers()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: running.logged("ended with status 3 and is replaced"), 60)
    keys.write_text(f"{line}\n")
    authorized = {"Authorization": f"Bearer {key}"}
    assert httpx.post(f"{running.url}/metric_depth", json=metric_request, headers=authorized, timeout=60).is_success
    assert running.end() == 0


def worker_ids(running: RunningBridge) -> set[int]:
    return {httpx.get(f"{running.url}/health").json()["worker_id"] for _ in range(20)}


def test_workers_end_when_their_supervisor_is_killed(start_bridge: Callable[..., RunningBridge]) -> None:
    running = start_bridge(workers=2)
    workers = [psutil.Process(pid) for pid in running.workers()]
    running.process.kill()
    running.process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


def test_a_worker_whose_device_is_lost_answers_once_and_ends(tmp_path: Path, metric_request: Json) -> None:
    program = """
import sys
from bridge.server import worker
from bridge.server.supervisor import open_listener
from depth_anything_ros.serving.model_cache import ModelCache
from running_bridge import toy_settings

class Lost:
    weight_bytes = 0
    def estimate(self, image, max_depth=None, focal_px=None):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

worker.create_cache = lambda settings, devices: ModelCache(devices=devices, load=lambda _: Lost())
listener = open_listener("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
worker.run_worker(toy_settings(device="cpu"), listener, 0)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        answer = httpx.post(f"{url}/metric_depth", json=metric_request, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "device_failed")
        assert "CUDA" not in answer.text
        assert process.wait(20) == WORKER_FAILED


def test_until_the_models_are_loaded_the_bridge_is_not_ready(
    serve_app: Callable[..., str], metric_request: Json
) -> None:
    may_load = threading.Event()

    def load(settings: Any) -> DepthEstimator:
        assert may_load.wait(20)
        return DepthEstimator.from_settings(settings)

    url = serve_app(None, ModelCache(devices=["cpu"], load=load), preload=("toy:hypersim:56",))
    answer = httpx.get(f"{url}/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "loading")
    assert httpx.get(f"{url}/livez").status_code == 200
    refused = httpx.post(f"{url}/metric_depth", json=metric_request)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "loading")
    may_load.set()
    eventually(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    assert httpx.get(f"{url}/health").json()["models_loaded"] == ["toy_hypersim_56"]
    assert metric(url, "depth_bridge_models_loaded") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preload=vits:hypersim:518",), "vits_hypersim_518"),
        (("--device=cuda:7",), "cuda:7"),
    ],
)
def test_what_can_never_work_ends_the_start(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    running = launch(tmp_path / "log", *TOY[1:], *arguments)
    assert running.process.wait(60) == WORKER_UNABLE
    assert [line for line in running.log_lines() if line["level"] == "error" and said in line["message"]]
    assert "Traceback" not in running.log.read_text()


def test_metrics_speak_for_all_workers(start_bridge: Callable[..., RunningBridge], metric_request: Json) -> None:
    running = start_bridge(workers=2)
    for _ in range(10):
        assert httpx.post(f"{running.url}/metric_depth", json=metric_request).status_code == 200
    assert httpx.get(f"{running.url}/private?token=1").status_code == 404
    line = 'depth_bridge_requests_total{method="POST",path="/metric_depth",status="200"}'
    eventually(lambda: metric(running.url, line) == 10)
    text = httpx.get(f"{running.url}/metrics").text
    for stage in ("queue", "decode", "infer", "encode"):
        assert f'depth_bridge_stage_duration_seconds_count{{stage="{stage}"}} 10.0' in text
    for name in ("request_duration_seconds_bucket", "queue_depth", "in_flight", "models_loaded", "build_info"):
        assert f"\ndepth_bridge_{name}" in text
    assert 'path="other"' in text
    assert "private" not in text


@pytest.mark.parametrize(
    ("gpus", "workers", "dealt"),
    [
        (0, 2, [["cpu"], ["cpu"]]),
        (1, 3, [["cuda:0"], ["cuda:0"], ["cuda:0"]]),
        (2, 1, [["cuda:0", "cuda:1"]]),
        (4, 2, [["cuda:0", "cuda:2"], ["cuda:1", "cuda:3"]]),
        (2, 3, [["cuda:0"], ["cuda:1"], ["cuda:0"]]),
    ],
)
def test_gpus_are_dealt_out_in_turn(
    monkeypatch: pytest.MonkeyPatch, gpus: int, workers: int, dealt: list[list[str]]
) -> None:
    devices = [f"cuda:{index}" for index in range(gpus)] or ["cpu"]
    monkeypatch.setattr(worker, "available_devices", lambda: devices)
    settings = toy_settings(workers=workers)
    assert [worker.devices_of(settings, worker_id) for worker_id in range(workers)] == dealt


def test_short_answers_do_not_wait_for_an_acknowledgement() -> None:
    with open_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_requests_of_one_worker_take_turns_on_its_gpus(serve_app: Callable[..., str], metric_request: Json) -> None:
    used: list[str] = []

    def load(settings: Any) -> DepthEstimator:
        used.append(settings.device)
        return DepthEstimator.load("toy", "hypersim", "untrained", 56, "cpu", backend="torch")

    url = serve_app(None, ModelCache(devices=["gpu:0", "gpu:1"], load=load))
    for _ in range(4):
        assert httpx.post(f"{url}/metric_depth", json=metric_request).status_code == 200
    assert used == ["gpu:0", "gpu:1"]
    assert httpx.get(f"{url}/health").json()["total_model_instances"] == 2


@pytest.mark.slow
def test_memory_is_steady_over_a_thousand_requests(start_bridge: Callable[..., RunningBridge]) -> None:
    running = start_bridge()
    process = psutil.Process(running.workers()[0])
    image = encoded(".png", np.zeros((16, 16, 3), np.uint8))

    def ask(count: int) -> int:
        """Send one request after the other, with the least work on this side; return how many succeeded."""
        connection, good = HTTPConnection("127.0.0.1", running.port), 0
        for _ in range(count):
            connection.request("POST", "/rel_depth", image, {"Content-Type": "image/png"})
            with connection.getresponse() as response:
                good += response.status == 200 and len(response.read()) > 0
        connection.close()
        return good

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, [75] * 4)) == 300
        before = process.memory_info().rss
        assert sum(pool.map(ask, [250] * 4)) == 1000
    assert process.memory_info().rss - before < 5 * 2**20  # 5 kB a request; the soak looks closer
