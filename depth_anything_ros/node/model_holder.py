"""The one model of a node, and how it is replaced while frames go on. What a model is, is in `estimator`."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.runtime.device import free_unused_memory
from depth_anything_ros.settings import ModelSettings

# How long to wait for the last frame that uses a replaced model before memory is given back.
LAST_USE_S = 2.0
# Parameters that are set one after the other within this time are one change.
SETTLE_S = 0.2


@dataclass(frozen=True)
class HeldModel:
    """A loaded estimator and the settings it was loaded with."""

    settings: ModelSettings
    estimator: DepthEstimator


class ModelHolder:
    """Holds a model; loads a requested one in the background and swaps when it is ready.

    Args:
        load: makes an estimator; anything it raises means failure.
        on_swap: called in the loading thread with the new model.
        on_failure: called in the loading thread with the error and the model that stays.
    """

    def __init__(
        self,
        load: Callable[[ModelSettings], DepthEstimator],
        on_swap: Callable[[HeldModel], None],
        on_failure: Callable[[Exception, HeldModel], None],
    ) -> None:
        self._load = load
        self._on_swap = on_swap
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._held: HeldModel | None = None
        self._wanted: ModelSettings | None = None
        self._is_stale = False  # the model held is to be loaded again
        self._releases = 0
        self._thread: threading.Thread | None = None

    @property
    def held(self) -> HeldModel | None:
        """The model in use, or None before `load` and after `release`."""
        return self._held

    @property
    def is_changing(self) -> bool:
        """Whether another model than the one held is wanted."""
        with self._lock:
            return self._held is not None and self._wanted != self._held.settings

    def load(self, settings: ModelSettings) -> HeldModel:
        """Load a model now, in this thread. Raises whatever loading raises."""
        held = HeldModel(settings, self._load(settings))
        with self._lock:
            self._held, self._wanted = held, settings
        return held

    def request(self, settings: ModelSettings) -> None:
        """Ask for another model; the one held stays until the new one is ready, or for good if it fails."""
        with self._lock:
            if self._held is None:
                return
            self._wanted = settings
            self._start()

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="model loader", daemon=True)
            thread.start()
            self._thread = thread  # not before it runs: another thread may join it

    def reload(self) -> bool:
        """Load the model again while the one held works on. Returns False where none is held."""
        with self._lock:
            if self._held is None:
                return False
            self._is_stale = True
            self._start()
            return True

    def release(self) -> None:
        """Drop the model and free its memory. The result of a load under way is discarded."""
        with self._lock:
            self._held = self._wanted = None
            self._is_stale = False
            self._releases += 1
        free_unused_memory()

    def join(self, timeout_s: float) -> bool:
        """Wait for a load under way to end. Returns False if it has not after the time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while (wanted := self._next_wanted()) is not None:
            releases = self._releases
            try:
                model = HeldModel(wanted, self._load(wanted))
            except Exception as error:  # a device can fail in any way; the model held goes on working
                self._keep_held(wanted, error, releases)
            else:
                self._swap(model, releases)
                del model

    def _next_wanted(self) -> ModelSettings | None:
        """Wait until the request is stable. None ends the thread: what is requested is what is held."""
        while True:
            wanted = self._wanted
            time.sleep(SETTLE_S)
            with self._lock:
                if self._held is None or (self._wanted == self._held.settings and not self._is_stale):
                    self._thread = None
                    return None
                if self._wanted == wanted:
                    self._is_stale = False
                    return self._wanted  # the latest: equal settings may differ in how weights are fetched

    def _swap(self, model: HeldModel, releases: int) -> None:
        with self._lock:
            if self._held is None or self._wanted != model.settings or self._releases != releases:
                return
            before, self._held = weakref.ref(self._held.estimator), model
        self._on_swap(model)
        until_s = time.monotonic() + LAST_USE_S
        while before() is not None and time.monotonic() < until_s:  # a frame is being worked on
            time.sleep(SETTLE_S / 4)
        free_unused_memory()

    def _keep_held(self, wanted: ModelSettings, error: Exception, releases: int) -> None:
        with self._lock:
            held = self._held
            if held is None or self._wanted != wanted or self._releases != releases:
                return
            self._wanted = held.settings
        self._on_failure(error, held)
