"""ModelCache: one estimator per model and device, loaded once, shared, evicted least recently used.

On a GPU each has a `Batcher` in front of it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import OutOfMemory
from depth_anything_ros.estimator import ONNX_SUFFIX, DepthEstimator, Focal
from depth_anything_ros.runtime.device import available_devices, free_unused_memory
from depth_anything_ros.serving.batcher import Batcher, BatchPlan, measure_plan
from depth_anything_ros.settings import CacheSettings, ModelSettings

logger = logging.getLogger(__name__)


@dataclass
class _Entry:
    future: Future[DepthEstimator] = field(default_factory=Future)
    users: int = 0
    batcher: Batcher | None = None
    number: int = field(default_factory=count().__next__)  # in the order of loading


class ModelCache:
    """Loads every model once per device, however many threads ask, and spreads requests over devices.

    On a CPU models that differ in input size or resize rule alone share their weights, and count as one.

    A request goes to the device with the fewest requests in flight, round robin on ties. Failures
    are not cached: the next request tries again. A model in use is never evicted, so the limits
    can be exceeded while more models are in use than they allow.

    Args:
        settings: limits on the number of models and on the bytes of their weights.
        devices: devices to spread `device="auto"` requests over; None takes what is there.
        load: makes an estimator from settings with a concrete device.
        plan: finds out how many images at once are worth it on a GPU, at most so many; warms it up as it does.
    """

    def __init__(
        self,
        settings: CacheSettings | None = None,
        devices: Sequence[str] | None = None,
        load: Callable[[ModelSettings], DepthEstimator] = DepthEstimator.from_settings,
        plan: Callable[[DepthEstimator, int], BatchPlan] = measure_plan,
    ) -> None:
        self._settings = settings or CacheSettings()
        self._devices = list(devices) if devices is not None else available_devices()
        self._load = load
        self._plan = plan
        self._lock = threading.Lock()
        self._entries: OrderedDict[ModelSettings, _Entry] = OrderedDict()  # least recently used first
        self._in_flight = dict.fromkeys(self._devices, 0)
        self._turn = 0

    @property
    def devices(self) -> list[str]:
        """Devices that requests are spread over."""
        return list(self._devices)

    @property
    def max_batch(self) -> int:
        """How many images it pays to submit at once for one device: 1 without a GPU."""
        has_gpu = any(_is_gpu(device) for device in self._devices)
        return self._settings.max_batch if has_gpu else 1

    def models_loaded(self) -> list[str]:
        """Model key of every loaded instance, once per device it is on, oldest use first."""
        return [settings.key for settings, _ in self.loaded()]

    def loaded(self) -> list[tuple[ModelSettings, DepthEstimator]]:
        """Every loaded instance and the settings it was loaded with, oldest use first."""
        with self._lock:
            return [(settings, entry.future.result()) for settings, entry in self._entries.items() if _is_loaded(entry)]

    def loaded_bytes(self) -> int:
        """Memory taken by the weights of all loaded instances."""
        with self._lock:
            return self._loaded_bytes()

    @contextmanager
    def acquire(self, settings: ModelSettings) -> Iterator[DepthEstimator]:
        """Yield the model of these settings, loading it if needed. It is not evicted while in use.

        Raises:
            DepthAnythingError: what `DepthEstimator.load` raises; every thread that waited for the
                same load gets the same error.
        """
        with self._in_use(settings) as entry:
            yield entry.future.result()

    def submit(
        self,
        settings: ModelSettings,
        image_bgr: NDArray[np.uint8],
        max_depth: float | None = None,
        focal_px: Focal | None = None,
    ) -> Future[DepthMap]:
        """Submit an image to the model of these settings, loading the model if needed.

        On a GPU the image joins a batch, and leaves it when the future is cancelled in time; on a CPU its
        depth is estimated here and now. What `DepthEstimator.estimate` raises, the future raises.

        Raises:
            DepthAnythingError: as `acquire`.
        """
        with ExitStack() as stack:
            entry = stack.enter_context(self._in_use(settings))
            estimator = entry.future.result()
            if entry.batcher is None:
                return _done(estimator, image_bgr, max_depth, focal_px)
            future = entry.batcher.submit(image_bgr, max_depth, focal_px)
            hold = stack.pop_all()
        future.add_done_callback(lambda _: hold.close())
        return future

    @contextmanager
    def _in_use(self, settings: ModelSettings) -> Iterator[_Entry]:
        """Yield the entry of these settings, making it if needed, and count a user while it is held."""
        with self._lock:
            device = self._choose_device(settings.device)
            self._in_flight[device] = self._in_flight.get(device, 0) + 1
            concrete = replace(settings, device=device, input_size=settings.network_input_size)
            entry, is_mine = self._entry(concrete)
        try:
            if is_mine:
                self._fill(concrete, entry)
            yield entry
        finally:
            with self._lock:
                entry.users -= 1
                self._in_flight[device] -= 1
                self._evict()

    def get(self, settings: ModelSettings) -> DepthEstimator:
        """Load a model, or take it from the cache, without holding it there."""
        with self.acquire(settings) as estimator:
            return estimator

    def clear(self) -> None:
        """Drop every model that is not in use."""
        with self._lock:
            for settings, entry in list(self._entries.items()):
                if entry.users == 0:
                    del self._entries[settings]

    def _choose_device(self, wanted: str) -> str:
        if wanted != "auto":
            return wanted
        count = len(self._devices)
        in_turn = [self._devices[(self._turn + offset) % count] for offset in range(count)]
        device = min(in_turn, key=lambda name: self._in_flight[name])
        self._turn = (self._devices.index(device) + 1) % count
        return device

    def _entry(self, settings: ModelSettings) -> tuple[_Entry, bool]:
        entry = self._entries.get(settings)
        if entry is not None:
            self._entries.move_to_end(settings)
            entry.users += 1
            return entry, False
        entry = self._entries[settings] = _Entry(users=1)  # in use, so making room spares it
        self._evict()
        return entry, True

    def _fill(self, settings: ModelSettings, entry: _Entry) -> None:
        try:
            estimator, plan = self._load_making_room(settings)
            if plan.max_batch > 1:
                in_flight = partial(self._in_flight.__getitem__, settings.device)
                entry.batcher = Batcher(estimator.estimate_batch, plan, in_flight)
            entry.future.set_result(estimator)
        except BaseException as error:
            with self._lock:
                if self._entries.get(settings) is entry:
                    del self._entries[settings]
            entry.future.set_exception(error)

    def _load_making_room(self, settings: ModelSettings) -> tuple[DepthEstimator, BatchPlan]:
        """Load; where the device has no memory left, give up its idle models and try once more."""
        try:
            return self._load_planned(settings)
        except OutOfMemory:
            with self._lock:
                idle = [s for s, entry in self._entries.items() if s.device == settings.device and entry.users == 0]
                for other in idle:
                    logger.info("giving up %s on %s to make room", other.key, other.device)
                    del self._entries[other]
            if not idle:
                raise
        free_unused_memory()
        return self._load_planned(settings)

    def _load_planned(self, settings: ModelSettings) -> tuple[DepthEstimator, BatchPlan]:
        if _is_gpu(settings.device):
            estimator = self._load(settings)
            return estimator, self._plan(estimator, self._settings.max_batch)
        other = self._with_same_weights(settings)
        return (self._load(settings) if other is None else other.sharing_weights(settings)), BatchPlan()

    def _with_same_weights(self, settings: ModelSettings) -> DepthEstimator | None:
        """Return an estimator that differs in input size and resize rule alone; wait for one that is loading."""
        if Path(settings.checkpoint or "").suffix == ONNX_SUFFIX:  # made for one size
            return None
        with self._lock:
            own = self._entries[settings].number if settings in self._entries else math.inf
            # Those before it alone: so no two wait for each other.
            earlier = [(other, entry) for other, entry in self._entries.items() if entry.number < own]
        for other, entry in earlier:
            if _weights_of(other) == _weights_of(settings):
                try:
                    return entry.future.result()
                except Exception:
                    logger.debug("%s could not be loaded; trying %s by itself", other.key, settings.key)
        return None

    def _evict(self) -> None:
        """Drop least recently used idle models until the limits hold."""
        for settings in [s for s, entry in self._entries.items() if entry.users == 0]:
            if not self._over_limit():
                return
            logger.info("evicting %s from %s", settings.key, settings.device)
            del self._entries[settings]

    def _over_limit(self) -> bool:
        too_many = len({_weights_of(settings) for settings in self._entries}) > self._settings.max_models
        max_bytes = self._settings.max_bytes
        return too_many or (max_bytes is not None and self._loaded_bytes() > max_bytes)

    def _loaded_bytes(self) -> int:
        backends = {
            id(backend): backend
            for entry in self._entries.values()
            if _is_loaded(entry)
            for backend in (entry.future.result().backend,)
        }
        return sum(backend.weight_bytes for backend in backends.values())


def _weights_of(settings: ModelSettings) -> ModelSettings:
    """What settings that share weights have in common. On a GPU each has its own: graphs are few."""
    return settings if _is_gpu(settings.device) else replace(settings, input_size=None, resize=None)


def _is_gpu(device: str) -> bool:
    return device.startswith("cuda")


def _done(
    estimator: DepthEstimator, image_bgr: NDArray[np.uint8], max_depth: float | None, focal_px: Focal | None
) -> Future[DepthMap]:
    """Estimate now, and return the outcome as a future."""
    future: Future[DepthMap] = Future()
    try:
        future.set_result(estimator.estimate(image_bgr, max_depth, focal_px))
    except Exception as error:
        future.set_exception(error)
    return future


def _is_loaded(entry: _Entry) -> bool:
    return entry.future.done() and entry.future.exception() is None
