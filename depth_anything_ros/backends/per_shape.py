"""A cache of things that are expensive to build, one for each image size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
Size = tuple[int, int]
MAX_SHAPES = 4


class PerShape(Generic[T]):
    """Builds at the first use of a size, once however many threads ask; drops the least recently used.

    One is built at a time: a conversion takes memory, and not every library that converts is thread-safe.
    Sizes that are built already can be used meanwhile. A failure is not kept.
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
            self._entries.move_to_end(size)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        if is_mine:
            self._fill(size, entry)
        return entry.result()

    def _fill(self, size: Size, entry: Future[T]) -> None:
        try:
            with self._building:
                entry.set_result(self._build(size))
        except BaseException as error:
            with self._lock:
                if self._entries.get(size) is entry:
                    del self._entries[size]
            entry.set_exception(error)

    def forget_built(self) -> None:
        """Drop everything built; what is being built stays."""
        with self._lock:
            for size in [size for size, entry in self._entries.items() if entry.done()]:
                del self._entries[size]

    def __len__(self) -> int:
        """Number of sizes built."""
        with self._lock:
            return sum(entry.done() for entry in self._entries.values())
