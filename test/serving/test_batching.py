"""Batcher: equal shapes together, oldest first, nobody waits in vain or pays for somebody else's image."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import ImageError, OutOfMemory
from depth_anything_ros.serving.batcher import Batcher, BatchPlan, find_plan

Image = NDArray[np.uint8]
LATENCY_S = 1.0
WAIT_S = 30


def image(value: int, width: int = 4) -> Image:
    return np.full((2, width, 3), value, np.uint8)


@dataclass
class Bench:
    """A batcher whose thread is the test and whose clock the test turns.

    Attributes:
        batches: the first pixel of every image, batch by batch as they were estimated.
        room: more images at once than this are out of memory.
        bad: images with this value fail, and all with them.
        elsewhere: requests on the device or on their way to it that are not in the queue.
        arrivals: what happens, one after the other, whenever the batcher waits for companions.
    """

    max_batch: int = 4
    room: int = 99
    bad: int = -1
    elsewhere: int = 0
    now_s: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    arrivals: list[Callable[[], object]] = field(default_factory=list)
    during: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._work: list[Callable[[], None]] = []
        self.batcher = Batcher(
            self._estimate,
            BatchPlan(self.max_batch, LATENCY_S),
            lambda: self.elsewhere + len(self.batcher._waiting),
            executor=self,
            clock=lambda: self.now_s,
            wait=self._wait,
        )

    def submit(self, fn: Callable[[], None], /) -> None:
        self._work.append(fn)

    def ask(self, *values: int, width: int = 4) -> list[Future[DepthMap]]:
        return [self.batcher.submit(image(value, width), float(value)) for value in values]

    def run(self) -> None:
        while self._work:
            self._work.pop(0)()

    def _estimate(self, images: Sequence[Image], max_depths: Sequence[float | None], _: object) -> list[DepthMap]:
        values = [int(image[0, 0, 0]) for image in images]
        assert len({image.shape for image in images}) == 1
        self.batches.append(values)
        if self.during is not None:
            during, self.during = self.during, None
            during()
        if len(images) > self.room:
            raise OutOfMemory("full")
        if self.bad in values:
            raise ImageError(f"{self.bad} is bad")
        return [DepthMap(np.full((2, 2), m, np.float32), "metric", "key") for m in max_depths]

    def _wait(self, timeout_s: float) -> None:
        self.waits_s.append(timeout_s)
        if self.arrivals:
            self.arrivals.pop(0)()
        else:
            self.now_s += timeout_s


def depth_of(future: Future[DepthMap]) -> float:
    return float(future.result(0).values[0, 0])


def test_equal_shapes_go_together_and_everybody_gets_their_own_depth() -> None:
    bench = Bench()
    futures = bench.ask(1, 2, 3, 4)
    bench.run()
    assert bench.batches == [[1, 2, 3, 4]]
    assert [depth_of(future) for future in futures] == [1, 2, 3, 4]


def test_batches_are_powers_of_two_and_no_larger_than_planned() -> None:
    bench = Bench(max_batch=4)
    bench.ask(*range(11))
    bench.run()
    assert bench.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]


def test_the_oldest_request_is_always_in_the_next_batch() -> None:
    bench = Bench(max_batch=2)
    bench.ask(1)
    bench.ask(10, width=6)
    bench.ask(2, 3, 4, 5)
    bench.ask(11, width=6)
    bench.run()
    assert bench.batches == [[1, 2], [10, 11], [3, 4], [5]]


def test_an_idle_device_begins_at_once_and_what_comes_meanwhile_is_the_next_batch() -> None:
    bench = Bench()
    bench.ask(1)
    bench.during = lambda: bench.ask(2, 3)
    bench.run()
    assert bench.batches == [[1], [2, 3]]
    assert bench.waits_s == []


def test_a_batch_waits_for_companions_half_a_latency_at_most() -> None:
    bench = Bench(elsewhere=1)
    bench.ask(1)
    bench.now_s += 0.2
    bench.arrivals = [lambda: bench.ask(2)]
    bench.run()
    assert bench.batches == [[1, 2]]
    assert bench.waits_s == pytest.approx([0.3, 0.3])
    assert bench.now_s == pytest.approx(LATENCY_S / 2)


def test_a_full_batch_does_not_wait() -> None:
    bench = Bench(max_batch=2, elsewhere=5)
    bench.ask(1)
    bench.arrivals = [lambda: bench.ask(2)]
    bench.run()
    assert bench.batches == [[1, 2]]
    assert bench.now_s == 0


def test_nobody_waits_for_companions_while_another_shape_waits() -> None:
    bench = Bench(elsewhere=1)
    bench.ask(1)
    bench.arrivals = [lambda: bench.ask(10, width=6)]
    bench.elsewhere = 1
    bench.run()
    assert bench.batches == [[1], [10]]
    assert bench.waits_s[0] == LATENCY_S / 2
    assert bench.now_s == LATENCY_S / 2, "only the last one waited its time out"


def test_a_cancelled_request_leaves_before_its_batch_begins() -> None:
    bench = Bench()
    futures = bench.ask(1, 2, 3)
    assert futures[1].cancel()
    bench.run()
    assert bench.batches == [[1, 3]]
    with pytest.raises(CancelledError):
        futures[1].result(0)
    [alone] = bench.ask(4)
    alone.cancel()
    bench.run()
    assert bench.batches == [[1, 3]]


def test_a_request_in_a_batch_that_has_begun_cannot_be_cancelled() -> None:
    bench = Bench()
    [future] = bench.ask(1)
    bench.during = lambda: pytest.fail("cancelled") if future.cancel() else None
    bench.run()
    assert depth_of(future) == 1


def test_one_bad_image_does_not_fail_its_companions() -> None:
    bench = Bench(bad=3)
    futures = bench.ask(1, 2, 3, 4)
    bench.run()
    assert bench.batches == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert [depth_of(futures[n]) for n in (0, 1, 3)] == [1, 2, 4]
    with pytest.raises(ImageError, match="3 is bad"):
        futures[2].result(0)


def test_a_full_memory_halves_batches_for_good() -> None:
    bench = Bench(max_batch=8, room=2)
    futures = bench.ask(*range(8))
    bench.run()
    assert [len(batch) for batch in bench.batches] == [8, 4, 2, 2, 2, 2]
    assert [depth_of(future) for future in futures] == list(range(8))
    assert bench.batcher.max_batch == 2
    bench.ask(1, 2, 3)
    bench.run()
    assert bench.batches[-2:] == [[1, 2], [3]]


def test_an_image_that_does_not_fit_alone_is_out_of_memory() -> None:
    bench = Bench(room=0)
    futures = bench.ask(1, 2)
    bench.run()
    for future in futures:
        with pytest.raises(OutOfMemory):
            future.result(0)


def test_threads_are_all_answered_and_an_unused_batcher_ends() -> None:
    def estimate(images: Sequence[Image], max_depths: Sequence[float | None], _: object) -> list[DepthMap]:
        return [DepthMap(np.full((1, 1), m, np.float32), "metric", "key") for m in max_depths]

    before = threading.active_count()
    batcher = Batcher(estimate, BatchPlan(4, 1e-3), lambda: 99)
    found: list[float] = []

    def ask(batcher: Batcher, number: int) -> None:
        for value in range(number, 200, 8):
            found.append(float(batcher.submit(image(0, 4 + value % 3), value).result(WAIT_S).values[0, 0]))

    askers = [threading.Thread(target=ask, args=(batcher, number)) for number in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(WAIT_S)
    assert sorted(found) == list(range(200))
    [thread] = [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    gone = weakref.ref(batcher)
    del batcher, askers
    thread.join(WAIT_S)
    assert gone() is None, "without the garbage collector: it holds a model"
    assert threading.active_count() == before


# ---- the plan


def plan_with(seconds: dict[int, float], start: int, limit: int = 8) -> tuple[BatchPlan, list[int]]:
    measured: list[int] = []

    def time_s(batch: int) -> float:
        measured.append(batch)
        if batch not in seconds:
            raise OutOfMemory("full")
        return seconds[batch]

    return find_plan(time_s, start, limit), measured


@pytest.mark.parametrize(
    ("seconds", "start", "limit", "expected"),
    [
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.5}, 8, 8, 8),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.5}, 2, 8, 8),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 2.5}, 8, 8, 4),
        ({1: 1.0, 2: 1.92, 4: 3.8, 8: 7.5}, 4, 8, 1),
        ({1: 1.0, 2: 1.1, 4: 1.3, 8: 1.5}, 8, 2, 2),
        ({1: 1.0, 2: 1.1}, 8, 8, 2),
        ({1: 1.0}, 4, 8, 1),
        ({1: 1.0, 2: 1.1}, 1, 1, 1),
    ],
    ids=["all of it", "upwards", "downwards", "worth nothing", "no more than allowed", "memory", "memory for one", "1"],
)
def test_a_batch_is_as_large_as_it_brings_images_a_second(
    seconds: dict[int, float], start: int, limit: int, expected: int
) -> None:
    plan, measured = plan_with(seconds, start, limit)
    assert plan == BatchPlan(expected, 1.0)
    assert len(measured) == len(set(measured)), "each batch is measured once"
    assert max(measured) <= limit


def test_one_image_that_does_not_fit_is_no_plan() -> None:
    with pytest.raises(OutOfMemory):
        plan_with({}, 4)
