"""Where frames wait between the executor, which must not block, and the worker, which is slow.

The queue does not look into frames.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


class FrameQueue(Generic[Frame]):
    """Keeps the newest frames of each camera and decides whose turn it is.

    The camera whose turn is longest ago goes first, so none starves, however often others send. A silent camera
    costs nothing.

    Args:
        sizes: how many frames wait at most, for each camera; 1 is a slot that holds the latest.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._waiting: list[deque[Frame]] = [deque(maxlen=size) for size in sizes]
        self._turns = list(range(len(sizes)))  # cameras, the one whose turn is longest ago first
        self._changed = threading.Condition()
        self._closed = False

    def put(self, camera: int, frame: Frame) -> bool:
        """Add a frame without ever blocking. Returns True if the camera's oldest was dropped for it."""
        with self._changed:
            waiting = self._waiting[camera]
            dropped = len(waiting) == waiting.maxlen
            waiting.append(frame)
            self._changed.notify()
            return dropped

    def next_batch(
        self, limit: int = 1, key: Callable[[Frame], Hashable] = lambda frame: None
    ) -> list[tuple[int, Frame]] | None:
        """Wait for a frame; remove and return it with up to `limit - 1` others that have the same key.

        Args:
            limit: how many at most; no more than one of each camera.
            key: frames of the same key go together; those whose key is None go alone.

        Returns:
            Cameras and frames, in the order of their turns. None once the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._waiting))
            if self._closed:
                return None
            ready = [camera for camera in self._turns if self._waiting[camera]]
            wanted = key(self._waiting[ready[0]][0])
            fitting = [camera for camera in ready[1:] if key(self._waiting[camera][0]) == wanted is not None]
            chosen = [ready[0], *fitting][:limit]
            self._turns.sort(key=lambda camera: camera in chosen)  # stable: the others keep their order
            return [(camera, self._waiting[camera].popleft()) for camera in chosen]

    def clear(self, camera: int) -> int:
        """Drop every waiting frame of a camera. Returns how many there were."""
        with self._changed:
            count = len(self._waiting[camera])
            self._waiting[camera].clear()
            return count

    def open(self) -> None:
        """Begin with nothing waiting, after `close` as well."""
        with self._changed:
            self._closed = False
            for waiting in self._waiting:
                waiting.clear()

    def close(self) -> None:
        """End every wait for a batch, until `open`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
