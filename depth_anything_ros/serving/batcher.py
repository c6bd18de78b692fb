"""Batching: requests for one model on one device that arrive together run together.

Batches are 1, 2, 4, ... images: as many shapes as were warmed up, and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import ImageError, OutOfMemory
from depth_anything_ros.estimator import DepthEstimator, Focal
from depth_anything_ros.model.registry import encoder_spec

logger = logging.getLogger(__name__)

Image = NDArray[np.uint8]
EstimateBatch = Callable[[Sequence[Image], Sequence[float | None], Sequence[Focal | None]], list[DepthMap]]
WORTH_IT = 1.05  # a batch twice as large is taken if it computes this many times the images a second
MEASURED_SIZE = (480, 640)  # of the images that are measured; the network's input hardly depends on it
MEASURED_RUNS = 5


@dataclass(frozen=True)
class BatchPlan:
    """The largest batch that pays, and the time of one image alone, in seconds."""

    max_batch: int = 1
    latency_s: float = 0.0


class Executor(Protocol):
    """Runs functions later, one at a time, as `concurrent.futures.Executor` does."""

    def submit(self, fn: Callable[[], None], /) -> Any: ...


@dataclass
class _Request:
    image: Image
    max_depth: float | None
    focal_px: Focal | None
    arrived_s: float
    future: Future[DepthMap] = field(default_factory=Future)


class Batcher:
    """Groups requests of equal shape, the oldest request's first. For several threads.

    A device with nothing else to do begins at once, and what arrives meanwhile is the next batch. A batch that
    is not full waits for companions, half of what one image takes at most since its oldest request came, and
    only while others are on their way and no other shape waits. A request that is cancelled before its batch
    begins leaves it. Where a batch fails, its images are tried one by one; where the memory is full, batches are
    halved for good.

    Args:
        estimate: as `DepthEstimator.estimate_batch`.
        plan: the largest batch, and the latency that bounds the waiting.
        others: how many requests run on the device or are on their way to it, those waiting here included.
        executor: where batches run; None takes a thread, which ends with the batcher.
        clock: seconds.
        wait: waits until something arrives, at most so many seconds, the lock released meanwhile.
    """

    def __init__(
        self,
        estimate: EstimateBatch,
        plan: BatchPlan,
        others: Callable[[], int],
        *,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._estimate = estimate
        self._others = others
        self._patience_s = plan.latency_s / 2
        self._executor = executor or ThreadPoolExecutor(1, "batches")
        self._clock = clock
        self._arrival = threading.Condition()
        self._wait = wait or self._arrival.wait
        self._waiting: deque[_Request] = deque()
        self._is_running = False
        self.max_batch = plan.max_batch

    def submit(
        self, image_bgr: Image, max_depth: float | None = None, focal_px: Focal | None = None
    ) -> Future[DepthMap]:
        """Ask for an image's depth; arguments and errors as `DepthEstimator.estimate`."""
        request = _Request(image_bgr, max_depth, focal_px, self._clock())
        with self._arrival:
            self._waiting.append(request)
            self._arrival.notify()
            if not self._is_running:
                self._is_running = True
                self._executor.submit(self._run_all)
        return request.future

    def _run_all(self) -> None:
        while batch := self._next_batch():
            self._run(batch)
            del batch  # its images would stay until the next

    def _next_batch(self) -> list[_Request]:
        """Take the next batch out of the queue; an empty one if nothing waits."""
        with self._arrival:
            while group := self._oldest_group():
                left_s = group[0].arrived_s + self._patience_s - self._clock()
                if len(group) < self.max_batch and left_s > 0 and self._may_wait(group):
                    self._wait(left_s)
                    continue
                batch = group[: _power_of_two_within(min(len(group), self.max_batch))]
                taken = {id(request) for request in batch}
                self._waiting = deque(request for request in self._waiting if id(request) not in taken)
                if running := [request for request in batch if request.future.set_running_or_notify_cancel()]:
                    return running
            self._is_running = False
            return []

    def _oldest_group(self) -> list[_Request]:
        """Return the requests that have the oldest one's shape, in order of arrival."""
        self._waiting = deque(request for request in self._waiting if not request.future.cancelled())
        return [request for request in self._waiting if request.image.shape == self._waiting[0].image.shape]

    def _may_wait(self, group: list[_Request]) -> bool:
        return len(group) == len(self._waiting) < self._others()

    def _run(self, batch: list[_Request]) -> None:
        try:
            found = self._estimate([r.image for r in batch], [r.max_depth for r in batch], [r.focal_px for r in batch])
        except BaseException as error:
            self._try_smaller(batch, error)
        else:
            for request, depth in zip(batch, found, strict=True):
                request.future.set_result(depth)

    def _try_smaller(self, batch: list[_Request], error: BaseException) -> None:
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        is_full = isinstance(error, OutOfMemory)
        if is_full:
            self.max_batch = _power_of_two_within(len(batch) - 1)
            logger.warning("no memory for %d images at once; %d at most from here on", len(batch), self.max_batch)
        while batch:
            part = self.max_batch if is_full else 1  # the former may fall further meanwhile
            self._run(batch[:part])
            batch = batch[part:]


def _power_of_two_within(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def find_plan(time_s: Callable[[int], float], start: int, limit: int) -> BatchPlan:
    """Find the batch beyond which images a second rise by no more than a twentieth.

    Args:
        time_s: seconds that a batch of so many images takes. Raises OutOfMemory.
        start: where to begin, a power of two: upwards from there, or downwards where it brings nothing.
        limit: the largest to try.
    """
    latency_s = time_s(1)
    rates = {1: 1 / latency_s}

    def rate(batch: int) -> float:
        if batch not in rates:
            try:
                rates[batch] = batch / time_s(batch)
            except OutOfMemory:
                rates[batch] = 0.0
        return rates[batch]

    best = _power_of_two_within(max(1, min(start, limit)))
    while best > 1 and rate(best) <= WORTH_IT * rate(best // 2):
        best //= 2
    while 2 * best <= limit and rate(2 * best) > WORTH_IT * rate(best):
        best *= 2
    return BatchPlan(best, latency_s)


def measure_plan(estimator: DepthEstimator, limit: int) -> BatchPlan:
    """Measure batches on a GPU, which also warms it up. A CPU gets one image at a time, unmeasured.

    Raises:
        OutOfMemory: there is no room for one image.
    """
    if estimator.device.type != "cuda":
        return BatchPlan()
    try:
        estimator.network_size(*MEASURED_SIZE)
    except ImageError as error:
        logger.info("%s: one image at once, for batches cannot be measured: %s", estimator.key, error)
        return BatchPlan()

    def time_s(batch: int) -> float:
        estimator.warm_up(*MEASURED_SIZE, batch)
        images = [np.zeros((*MEASURED_SIZE, 3), np.uint8)] * batch
        times_s = []
        for _ in range(MEASURED_RUNS):
            start_s = time.perf_counter()
            estimator.estimate_batch(images)
            times_s.append(time.perf_counter() - start_s)
        return median(times_s)

    start = encoder_spec(estimator.key.partition("_")[0]).gpu_batch
    plan = find_plan(time_s, start, min(limit, estimator.backend.max_batch))
    logger.info("%s: %d images at once, one alone takes %.1f ms", estimator.key, plan.max_batch, 1e3 * plan.latency_s)
    return plan
