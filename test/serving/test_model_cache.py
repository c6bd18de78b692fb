"""ModelCache: one load however many ask, errors shared but not kept, the least recently used goes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from depth_anything_ros.errors import CheckpointNotFound, ImageError, OutOfMemory
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.runtime.device import available_devices
from depth_anything_ros.serving.batcher import BatchPlan
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import CacheSettings, ModelSettings

WAIT_S = 30
HYPERSIM, VKITTI, RELATIVE = (ModelSettings("toy", dataset) for dataset in ("hypersim", "vkitti", "relative"))


class FakeBackend:
    name, precision, device, max_batch = "fake", "fp32", torch.device("cpu"), 1

    def __init__(self, weight_bytes: int) -> None:
        self.weight_bytes = weight_bytes

    def __call__(self, x: torch.Tensor) -> Outputs:
        return {"depth": torch.zeros(1, *x.shape[2:])}


@dataclass
class Loader:
    """Makes an estimator at once, or when it is let go; counts, and fails if told to."""

    weight_bytes: int = 100
    failures: list[Exception] = field(default_factory=list)
    backend: FakeBackend | None = None  # of the next model
    loads: list[ModelSettings] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go.set()

    def __call__(self, settings: ModelSettings) -> DepthEstimator:
        self.loads.append(settings)
        assert self.go.wait(WAIT_S)
        if self.failures:
            raise self.failures.pop()
        backend, self.backend = self.backend or FakeBackend(self.weight_bytes), None
        return DepthEstimator(backend, key=settings.key, kind="metric", max_depth=1.0, input_size=28)


def new_cache(load: Loader, devices: tuple[str, ...] = ("cpu",), **limits: int) -> ModelCache:
    return ModelCache(CacheSettings(**limits), devices, load)


@contextmanager
def crowd(cache: ModelCache, load: Loader, count: int = 16) -> Iterator[Callable[[], list[DepthEstimator | Exception]]]:
    """Start threads that all ask for one model while it loads; call the result for what each of them got."""
    asking = threading.Barrier(count + 1)

    def ask() -> DepthEstimator | Exception:
        asking.wait(WAIT_S)
        try:
            return cache.get(HYPERSIM)
        except Exception as error:
            return error

    load.go.clear()
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(ask) for _ in range(count)]
        asking.wait(WAIT_S)
        try:
            yield lambda: [future.result(WAIT_S) for future in futures]
        finally:
            load.go.set()


def test_a_model_is_loaded_once_however_many_threads_ask() -> None:
    load = Loader()
    cache = new_cache(load)
    with crowd(cache, load) as results:
        load.go.set()
        assert len({id(result) for result in results()}) == 1
    assert isinstance(cache.get(HYPERSIM), DepthEstimator)
    assert len(load.loads) == 1


def test_every_waiting_thread_gets_the_same_error_and_the_next_request_tries_again() -> None:
    failure = CheckpointNotFound("nowhere")
    load = Loader(failures=[failure])
    cache = new_cache(load)
    with crowd(cache, load) as results:
        wait_until(lambda: waiting(cache) == 16)
        load.go.set()
        assert results() == [failure] * 16
    assert len(load.loads) == 1
    assert cache.models_loaded() == []
    assert isinstance(cache.get(HYPERSIM), DepthEstimator)
    assert len(load.loads) == 2


def waiting(cache: ModelCache) -> int:
    return sum(entry.users for entry in cache._entries.values())


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(WAIT_S * 1000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("waited in vain")


def test_another_model_can_be_used_while_one_loads() -> None:
    load = Loader()
    cache = new_cache(load)
    cache.get(VKITTI)
    with crowd(cache, load, count=2):
        wait_until(lambda: len(load.loads) == 2)
        assert cache.get(VKITTI).key == VKITTI.key
        assert cache.models_loaded() == [VKITTI.key]
    assert set(cache.models_loaded()) == {VKITTI.key, HYPERSIM.key}


def test_out_of_memory_while_loading_is_not_kept() -> None:
    load = Loader(failures=[OutOfMemory("full")])
    cache = new_cache(load)
    with pytest.raises(OutOfMemory):
        cache.get(HYPERSIM)
    assert cache.get(HYPERSIM).key == HYPERSIM.key


def test_idle_models_make_room_for_one_that_does_not_fit() -> None:
    load = Loader()
    cache = new_cache(load)
    cache.get(HYPERSIM)
    with cache.acquire(VKITTI):
        load.failures.append(OutOfMemory("full"))
        assert cache.get(RELATIVE).key == RELATIVE.key
        assert cache.models_loaded() == [VKITTI.key, RELATIVE.key]


def test_out_of_memory_in_use_leaves_the_model_where_it_is() -> None:
    load = Loader()
    cache = new_cache(load)
    with pytest.raises(OutOfMemory), cache.acquire(HYPERSIM):
        raise OutOfMemory("full")
    assert cache.models_loaded() == [HYPERSIM.key]
    assert waiting(cache) == 0


# ---- limits


def test_least_recently_used_model_goes_when_there_are_too_many() -> None:
    load = Loader()
    cache = new_cache(load, max_models=2)
    cache.get(HYPERSIM)
    cache.get(VKITTI)
    cache.get(HYPERSIM)
    cache.get(RELATIVE)
    assert cache.models_loaded() == [HYPERSIM.key, RELATIVE.key]
    cache.get(HYPERSIM)
    assert len(load.loads) == 3


def test_least_recently_used_models_go_when_they_weigh_too_much() -> None:
    load = Loader(weight_bytes=100)
    cache = new_cache(load, max_bytes=250)
    for settings in (HYPERSIM, VKITTI):
        cache.get(settings)
    assert cache.loaded_bytes() == 200
    load.weight_bytes = 240
    cache.get(RELATIVE)
    assert (cache.models_loaded(), cache.loaded_bytes()) == ([RELATIVE.key], 240)


def test_a_model_heavier_than_the_limit_serves_but_does_not_stay() -> None:
    cache = new_cache(Loader(weight_bytes=1000), max_bytes=250)
    with cache.acquire(HYPERSIM) as estimator:
        assert estimator.key == HYPERSIM.key
    assert cache.models_loaded() == []


def test_a_model_in_use_is_never_evicted() -> None:
    load = Loader()
    cache = new_cache(load, max_models=1)
    with cache.acquire(HYPERSIM) as held:
        cache.get(VKITTI)
        cache.get(RELATIVE)
        assert HYPERSIM.key in cache.models_loaded()
        assert cache.get(HYPERSIM) is held
        cache.clear()
        assert cache.models_loaded() == [HYPERSIM.key]
    assert len(cache.models_loaded()) == 1
    cache.clear()
    assert (cache.models_loaded(), cache.loaded_bytes()) == ([], 0)


def test_every_setting_that_changes_the_model_makes_another_one() -> None:
    load = Loader()
    cache = new_cache(load, max_models=10)
    variants = [HYPERSIM, replaced(HYPERSIM, input_size=56), replaced(HYPERSIM, precision="bf16"), VKITTI]
    assert len({id(cache.get(settings)) for settings in variants}) == 4
    assert len(load.loads) == 3, "another input size shares the weights"


# ---- devices


def test_idle_devices_take_turns() -> None:
    load = Loader()
    cache = new_cache(load, ("cuda:0", "cuda:1"), max_models=4)
    used = []
    for _ in range(6):
        with cache.acquire(HYPERSIM) as estimator:
            used.append(estimator)
    assert [settings.device for settings in load.loads] == ["cuda:0", "cuda:1"]
    assert used[0] is used[2] is used[4] is not used[1]
    assert used[1] is used[3] is used[5]
    assert cache.models_loaded() == [HYPERSIM.key, HYPERSIM.key]
    assert cache.devices == ["cuda:0", "cuda:1"]


def test_requests_go_to_the_device_with_the_fewest_in_flight() -> None:
    load = Loader()
    cache = new_cache(load, ("cuda:0", "cuda:1", "cuda:2"), max_models=9)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(cache.acquire(replaced(HYPERSIM, device="cuda:0")))
        stack.enter_context(cache.acquire(replaced(HYPERSIM, device="cuda:1")))
        picked = [stack.enter_context(cache.acquire(HYPERSIM)) for _ in range(3)]
        names = [settings.device for settings in load.loads]
        assert names == ["cuda:0", "cuda:1", "cuda:2"], "the idle one first"
        assert Counter(map(id, picked)) == {id(cache.get(on(name))): n for name, n in (("cuda:1", 1), ("cuda:2", 2))}


def on(device: str) -> ModelSettings:
    return replaced(HYPERSIM, device=device)


def test_requests_that_are_over_or_failed_no_longer_count_as_in_flight() -> None:
    load = Loader(failures=[OutOfMemory("full")])
    cache = new_cache(load, ("cuda:0", "cuda:1"))
    with pytest.raises(OutOfMemory):
        cache.get(on("cuda:0"))
    cache.get(on("cuda:0"))
    cache.get(HYPERSIM)  # both are idle, and it is the first one's turn
    assert [settings.device for settings in load.loads] == ["cuda:0", "cuda:0"]


def test_a_device_that_is_named_is_the_one_that_is_used() -> None:
    load = Loader()
    cache = new_cache(load, ("cuda:0", "cuda:1"))
    cache.get(on("cpu"))
    assert [settings.device for settings in load.loads] == ["cpu"]


@pytest.mark.parametrize(("count", "expected"), [(0, ["cpu"]), (2, ["cuda:0", "cuda:1"])])
def test_devices_are_those_of_the_machine(count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert available_devices() == ModelCache().devices == expected


# ---- requests


def test_without_a_gpu_depth_is_estimated_here_and_now_and_the_model_given_back(photo: NDArray[np.uint8]) -> None:
    planned: list[object] = []
    cache = ModelCache(None, ["cpu"], Loader(), plan=lambda *given: planned.append(given) or BatchPlan(4))  # type: ignore[func-returns-value]
    future = cache.submit(HYPERSIM, photo, 2.0)
    assert future.done()
    assert future.result().values.shape == photo.shape[:2]
    assert isinstance(cache.submit(HYPERSIM, photo[0]).exception(), ImageError)
    assert (waiting(cache), planned, cache.max_batch) == (0, [], 1)


def test_on_a_gpu_requests_form_batches_which_count_as_in_flight_until_they_are_done(
    photo: NDArray[np.uint8],
) -> None:
    backend, load = HeldBackend(), Loader()
    limits = []

    def plan(_: DepthEstimator, limit: int) -> BatchPlan:
        limits.append(limit)
        return BatchPlan(4, latency_s=0.0)

    load.backend = backend
    cache = ModelCache(CacheSettings(max_batch=4), ["cuda:0", "cuda:1"], load, plan)
    assert cache.max_batch == 4
    first = cache.submit(on("cuda:0"), photo)
    assert backend.begun.acquire(timeout=WAIT_S)
    others = [cache.submit(on("cuda:0"), photo) for _ in range(5)]
    assert others[1].cancel()
    assert waiting(cache) == 5
    cache.clear()
    assert cache.models_loaded() == [HYPERSIM.key], "in use"
    assert cache.submit(HYPERSIM, photo).result(WAIT_S) is not None, "the other device is free"
    backend.go.set()
    for future in [first, *others[:1], *others[2:]]:
        assert future.result(WAIT_S).values.shape == photo.shape[:2]
    wait_until(lambda: waiting(cache) == 0)
    assert backend.batches == [1, 4]
    assert limits == [4, 4]
    cache.clear()
    assert cache.models_loaded() == []


class HeldBackend(FakeBackend):
    """Takes eight images at once, and waits until it is let go."""

    max_batch = 8

    def __init__(self) -> None:
        super().__init__(100)
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.batches: list[int] = []

    def __call__(self, x: torch.Tensor) -> Outputs:
        self.batches.append(x.shape[0])
        self.begun.release()
        assert self.go.wait(WAIT_S)
        return {"depth": torch.zeros(x.shape[0], *x.shape[2:])}


def test_a_model_that_cannot_be_loaded_is_an_error_of_the_request(photo: NDArray[np.uint8]) -> None:
    cache = new_cache(Loader(failures=[CheckpointNotFound("nowhere")]))
    with pytest.raises(CheckpointNotFound):
        cache.submit(HYPERSIM, photo)
    assert waiting(cache) == 0


# ---- the real thing


def test_real_models_load_evict_and_estimate_under_many_threads(toy_folder: Path, photo: NDArray[np.uint8]) -> None:
    names = {"hypersim": "metric_hypersim_", "vkitti": "metric_vkitti_", "relative": ""}
    settings = [
        ModelSettings("toy", dataset, str(toy_folder / f"depth_anything_v2_{name}toy.pth"), 28, backend="torch")
        for dataset, name in names.items()
    ]
    cache = ModelCache(CacheSettings(max_models=2), ["cpu"])

    def estimate(number: int) -> str:
        with cache.acquire(settings[number % 3]) as estimator:
            return estimator.estimate(photo).model_key

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(estimate, range(48)))
    assert keys == [settings[number % 3].key for number in range(48)]
    assert len(cache.models_loaded()) <= 2
    assert waiting(cache) == 0


def test_input_sizes_of_one_checkpoint_share_weights_and_count_as_one(
    toy_checkpoint: Path, photo: NDArray[np.uint8]
) -> None:
    model = ModelSettings("toy", "hypersim", str(toy_checkpoint), 28, backend="torch")
    sizes = [28, 42, 56, 70]
    loads: list[ModelSettings] = []

    def load(settings: ModelSettings) -> DepthEstimator:
        loads.append(settings)
        return DepthEstimator.from_settings(settings)

    cache = ModelCache(CacheSettings(max_models=1), ["cpu"], load)
    with ThreadPoolExecutor(8) as pool:
        estimators = list(pool.map(cache.get, [replaced(model, input_size=size) for size in sizes * 4]))
    assert len(loads) == 1
    assert len({id(estimator.backend) for estimator in estimators}) == 1
    assert [estimator.input_size for estimator in estimators[:4]] == sizes
    assert cache.loaded_bytes() == estimators[0].weight_bytes
    alone = DepthEstimator.from_settings(replaced(model, input_size=70)).estimate(photo)
    shared = estimators[3].estimate(photo)
    assert shared.model_key == alone.model_key == "toy_hypersim_70"
    np.testing.assert_array_equal(shared.values, alone.values)
    assert set(cache.models_loaded()) == {f"toy_hypersim_{size}" for size in sizes}
