"""The bridge on Ray Serve: replicas of the toy network on loopback, in one cluster for all tests here.

A test deploys what it needs, as an operator would, and leaves it to the next.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from ray_cluster import RayCluster
from running_bridge import RunningBridge, eventually

from bridge.client import DepthClient
from bridge.server.auth import digest_of

pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Json = dict[str, Any]
KEY, ONCE = "k" * 43, "o" * 43  # the latter is for one test alone
BURST = 150
CLIENTS = 6
FORMATS = {
    "/metric_depth": ("application/json", "application/octet-stream", "application/x-npy", "image/png"),
    "/rel_depth": ("application/json", "application/x-npy"),
    "/pc": ("application/json", "application/octet-stream", "application/x-ply", "application/x-pcd"),
}
# What differs between two answers to the same request, or belongs to the server in front.
OWN_HEADERS = {"date", "server", "server-timing", "content-length", "connection"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster with nothing on it."""
    running = RayCluster(tmp_path_factory.mktemp("ray") / "log")
    yield running
    running.end()


@pytest.fixture(scope="module")
def two(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> RayCluster:
    """The cluster with two replicas that need a key and hold it to a rate."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("".join(f"{key[0]} {digest_of(key.encode()).hex()}\n" for key in (KEY, ONCE)))
    cluster.deploy(replicas=2, api_keys_file=str(keys), rate_limit_per_s=0.001, rate_burst=BURST)
    return cluster


@contextmanager
def asking(cluster: RayCluster, key: str | None = KEY) -> Iterator[httpx.Client]:
    """A connection to the cluster."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=cluster.url, timeout=60, headers=headers) as client:
        yield client


def post(client: httpx.Client, image: bytes, **headers: str) -> httpx.Response:
    """Ask for depth, the cheapest way."""
    cheap = {"Content-Type": "image/jpeg", "Accept": "application/x-npy"}
    return client.post("/metric_depth", content=image, headers=cheap | headers)


def shown(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer, as far as two servers have to agree."""
    headers = {name: value for name, value in answer.headers.items() if name not in OWN_HEADERS}
    return answer.status_code, answer.content, headers


def test_answers_are_those_of_the_plain_bridge(
    two: RayCluster, running_bridge: RunningBridge, cloud_request: Json
) -> None:
    with asking(two) as ray, httpx.Client(base_url=running_bridge.url, timeout=60) as plain:
        for path, formats in FORMATS.items():
            body = cloud_request if path == "/pc" else {"image": cloud_request["image"]}
            for media in formats:
                headers = {"Accept": media, "X-Request-Id": "one"}
                answers = [shown(server.post(path, json=body, headers=headers)) for server in (ray, plain)]
                assert answers[0] == answers[1], (path, media)
                assert answers[0][0] == 200


def test_errors_and_documents_are_those_of_the_plain_bridge(two: RayCluster, running_bridge: RunningBridge) -> None:
    headers = {"X-Request-Id": "one"}
    with asking(two) as ray, httpx.Client(base_url=running_bridge.url, timeout=60) as plain:
        for method, path, body in (
            ("POST", "/metric_depth", {"image": "no image"}),
            ("POST", "/pc", {"image": ""}),
            ("GET", "/metric_depth", None),
            ("GET", "/nowhere", None),
            ("GET", "/cameras", None),
            ("GET", "/v1/cameras/front/depth", None),
            ("GET", "/docs", None),
        ):
            answers = [shown(server.request(method, path, json=body, headers=headers)) for server in (ray, plain)]
            assert answers[0] == answers[1], path
        documents = [server.get("/openapi.json").json() for server in (ray, plain)]
        assert documents[0]["paths"].keys() == documents[1]["paths"].keys()


def test_a_key_is_needed(two: RayCluster, metric_request: Json) -> None:
    with asking(two, key=None) as client:
        assert client.post("/metric_depth", json=metric_request).json()["error"]["code"] == "unauthorized"
        assert client.get("/docs").status_code == 401
        assert client.get("/livez").is_success


def test_health_and_metrics_tell_replica_and_node(two: RayCluster) -> None:
    with asking(two) as client:
        told = eventually(lambda: (found := {told_by(client) for _ in range(10)}) and len(found) == 2 and found)
        text = client.get("/metrics").text
    assert {node for _, node in told} == {"127.0.0.1"}
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    replica = next(name for name, _ in told if f'replica="{name}"' in text)
    assert all(f'replica="{replica}"' in line and 'node="127.0.0.1"' in line for line in samples)


def told_by(client: httpx.Client) -> tuple[str, str]:
    health = client.get("/health").json()
    return health["replica"], health["node"]


def test_a_keys_rate_is_the_clusters(two: RayCluster, jpeg: bytes) -> None:
    """Each replica would let its own burst in, had it buckets of its own."""
    with asking(two, ONCE) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: post(client, jpeg), range(BURST + 30)))
    assert Counter(answer.status_code for answer in answers) == {200: BURST, 429: 30}


def test_everything_listens_on_loopback_alone(two: RayCluster) -> None:
    assert {address.removeprefix("::ffff:") for address in two.listening()} == {"127.0.0.1"}


# ---- under load


@dataclass(frozen=True)
class Sent:
    """One request, and what became of it."""

    request_id: str
    began_s: float
    ended_s: float
    status: int  # 0 where the connection broke


class Load:
    """Clients that ask without a pause until they are told to stop; no two requests have the same id."""

    def __init__(self, cluster: RayCluster, image: bytes) -> None:
        self.sent: list[Sent] = []
        self._cluster = cluster
        self._image = image
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)

    def __enter__(self) -> Load:
        self._clients = [self._pool.submit(self._ask_on) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for client in self._clients:
            client.result(120)
        self._pool.shutdown()

    def _ask_on(self) -> None:
        while not self._is_over.is_set():
            with asking(self._cluster) as client:  # a new connection after each that broke
                while not self._is_over.is_set() and self._ask(client):
                    pass

    def _ask(self, client: httpx.Client) -> int:
        request_id, began_s, status = uuid.uuid4().hex, time.monotonic(), 0
        try:
            answer = post(client, self._image, **{"X-Request-Id": request_id})
            status = answer.status_code
            assert not answer.is_success or answer.headers["x-request-id"] == request_id
        except httpx.TransportError:
            pass
        self.sent.append(Sent(request_id, began_s, time.monotonic(), status))
        return status

    def wait_for(self, count: int) -> None:
        """Wait until so many more requests have succeeded."""
        before = len(self.good)
        eventually(lambda: len(self.good) >= before + count, 60)

    @property
    def good(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.status == 200]

    @property
    def failed(self) -> list[Sent]:
        return [sent for sent in self.sent if sent.status != 200]


def test_a_redeployment_under_load_loses_nothing(two: RayCluster, jpeg: bytes) -> None:
    old = two.replicas()
    with Load(two, jpeg) as load:
        load.wait_for(20)
        two.deploy(replicas=2, max_waiting=CLIENTS)  # without keys: one is no harm
        load.wait_for(20)
    assert not [sent for sent in load.failed if sent.status != 429]
    assert not old & two.replicas()


def test_what_is_too_much_is_refused_with_a_time_to_come_back(cluster: RayCluster, cloud_request: Json) -> None:
    with httpx.Client(base_url=cluster.url, timeout=60) as client, ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: client.post("/pc", json=cloud_request), range(120)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}


def test_a_killed_replica_takes_with_it_only_what_it_had_and_is_replaced(cluster: RayCluster, jpeg: bytes) -> None:
    old = cluster.replicas()
    with Load(cluster, jpeg) as load, DepthClient(cluster.url) as client:
        load.wait_for(20)
        killed_s = time.monotonic()
        os.kill(min(old), signal.SIGKILL)
        assert all(client.metric_depth(jpeg).values.shape == (48, 64) for _ in range(20))  # tries again
        new = eventually(lambda: (found := cluster.replicas()) and len(found) == 2 and found, 60)
        load.wait_for(20)
    assert all(lost.began_s <= killed_s + 1 and killed_s <= lost.ended_s for lost in load.failed)
    assert len(load.failed) <= CLIENTS
    assert len(new - old) == 1


def test_scaling_to_zero_and_back_loses_nothing(cluster: RayCluster, jpeg: bytes) -> None:
    quick = {"downscale_delay_s": 0.5, "look_back_period_s": 0.5, "metrics_interval_s": 0.2, "upscale_delay_s": 0.5}
    cluster.deploy(min_replicas=0, max_replicas=2, target_ongoing_requests=2, autoscaling_config=quick)
    eventually(lambda: not cluster.replicas(), 60)
    with Load(cluster, jpeg) as load:
        load.wait_for(CLIENTS)
        eventually(lambda: len(cluster.replicas()) == 2, 60)
        load.wait_for(20)
    assert not load.failed
