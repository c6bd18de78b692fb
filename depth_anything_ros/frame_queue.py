"""Where frames wait between the executor, which must not block, and the worker, which is slow."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class FrameQueue(Generic[Frame]):
    """Keeps the newest `size` frames; with size 1 it is a slot that holds the latest frame."""

    def __init__(self, size: int) -> None:
        self._frames: deque[Frame] = deque(maxlen=size)
        self._changed = threading.Condition()
        self._closed = False

    def put(self, frame: Frame) -> bool:
        """Add a frame without ever blocking. Returns True if the oldest waiting frame was dropped for it."""
        with self._changed:
            dropped = len(self._frames) == self._frames.maxlen
            self._frames.append(frame)
            self._changed.notify()
            return dropped

    def take(self) -> Frame | None:
        """Wait for the oldest frame and remove it. Returns None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            return None if self._closed else self._frames.popleft()

    def clear(self) -> int:
        """Drop every waiting frame. Returns how many there were."""
        with self._changed:
            count = len(self._frames)
            self._frames.clear()
            return count

    def close(self) -> None:
        """Wake the taker up for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
