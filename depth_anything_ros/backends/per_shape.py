"""A cache of things that are expensive to build, one for each image size."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
Size = tuple[int, int]
MAX_SHAPES = 32


class PerShape(Generic[T]):
    """Builds at the first use of a size, once however many threads ask; drops the least recently used.

    One is built at a time: a conversion takes memory, and not every library that converts is thread-safe.
    Sizes that are built already can be used meanwhile. A failure is not kept, except that of a build in a thread.
    """

    def __init__(self, build: Callable[[Size], T], capacity: int = MAX_SHAPES) -> None:
        self._build = build
        self._capacity = capacity
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._entries: OrderedDict[Size, Future[T]] = OrderedDict()

    def get(self, size: Size) -> T:
        """Return what was built for a size. What `build` raises is raised in every thread that waited."""
        with self._lock:
            is_mine = size not in self._entries
            entry = self._entries.setdefault(size, Future())
            if entry.done() and entry.exception() is not None:  # of a build in a thread: said once
                del self._entries[size]
            self._entries.move_to_end(size)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        if is_mine:
            self._fill(size, entry)
        return entry.result()

    def _fill(self, size: Size, entry: Future[T], keep_failure: bool = False) -> None:
        try:
            with self._building:
                entry.set_result(self._build(size))
        except BaseException as error:
            with self._lock:
                if self._entries.get(size) is entry and not keep_failure:
                    del self._entries[size]
            if keep_failure:
                logger.warning("cannot build for %dx%d: %s", *size, error)
            entry.set_exception(error)

    def ready(self, size: Size) -> T | None:
        """Return what was built for a size; None while there is nothing."""
        with self._lock:
            entry = self._entries.get(size)
            if entry is None or not entry.done() or entry.exception() is not None:
                return None
            self._entries.move_to_end(size)
            return entry.result()

    def start(self, size: Size) -> None:
        """Build for a size in a thread, unless that was begun before. A failure is raised by the next `get`."""
        with self._lock:
            if size in self._entries:
                return
            entry = self._entries[size] = Future()
        # A daemon: a program that ends does not wait for a compiler.
        threading.Thread(target=self._fill, args=(size, entry, True), name="build", daemon=True).start()

    def takes(self, size: Size) -> bool:
        """Whether a size is here already, or nothing has to go to make room for it."""
        with self._lock:
            return size in self._entries or len(self._entries) < self._capacity

    def __len__(self) -> int:
        """Number of sizes built."""
        with self._lock:
            return sum(entry.done() and entry.exception() is None for entry in self._entries.values())
