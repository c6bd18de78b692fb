"""One thing of one camera, such as its depth: subscribed while somebody asks, its latest frame, who waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from bridge.server.robot.camera_status import CameraStatus
from bridge.server.robot.frames import Frame
from bridge.server.robot.pairing import Pairing
from depth_anything_ros.depth_map import Kind

LINGER_S = 5.0  # how long a topic stays subscribed after the last who asked


class Source(Protocol):
    """The part of `ros_side.RosSide` that is used."""

    def subscribe(self, what: str, topic: str, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Listen to a topic; return what ends it."""


class Feed:
    """Belongs to the event loop.

    Args:
        what: depth, points, image, color or camera_info.
        source: where topics are subscribed.
        status: the camera's.
        heard: told of each frame that its node made.

    Attributes:
        latest: the newest frame since the topic was subscribed; None before the first.
        processed_before: what the node had processed when the topic was subscribed: what it says of its frames
            counts for who asks now only beyond that.
    """

    def __init__(self, what: str, source: Source, status: CameraStatus, heard: Callable[[], None]) -> None:
        self.what = what
        self.latest: Frame | None = None
        self.processed_before = 0
        self._source = source
        self._status = status
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._demand = 0
        self._ends: list[Callable[[], None]] = []
        self._topic: str | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._changed: asyncio.Future[None] = self._loop.create_future()
        self._frames = 0
        self._turn = 0

    @property
    def is_subscribed(self) -> bool:
        """Whether a topic is subscribed now."""
        return bool(self._ends)

    def follow(self, status: CameraStatus) -> None:
        """Take a newer status: the depth may come on another topic now, and who waits may wait in vain."""
        self._status = status
        if self._demand and status.topic_of(self.what) not in (None, self._topic):
            self._unsubscribe()
            self._subscribe()
        self.wake()

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep the topic subscribed within the block, and a little longer."""
        self._demand += 1
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self.is_subscribed:
            self._subscribe()
        try:
            yield
        finally:
            self._demand -= 1
            if not self._demand:
                self._linger = self._loop.call_later(LINGER_S, self._unsubscribe)

    async def change(self, timeout_s: float) -> None:
        """Wait until a frame or a status comes, or the time is up."""
        await asyncio.wait([self._changed], timeout=timeout_s)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set_result(None)
        self._changed = self._loop.create_future()

    def _subscribe(self) -> None:
        topic = self._status.topic_of(self.what)
        self.processed_before = self._status.processed
        self._topic, self._frames = topic, 0
        if topic is None:
            return
        kinds: dict[str, Kind | None] = {"depth": self._status.kind or "metric", "points": "metric"}
        kind = kinds.get(self.what)
        pairing = Pairing(partial(self._take, self._turn, kind), self._loop.call_later)
        info_topic = self._status.topic_of("depth_info") if kind == "metric" else None
        take = pairing.image if info_topic else partial(self._take, self._turn, kind, info=None)
        self._ends = [pairing.close, self._source.subscribe(self.what, topic, LatestOnly(self._loop, take).put)]
        if info_topic:
            listener = LatestOnly(self._loop, pairing.info).put
            self._ends.append(self._source.subscribe("depth_info", info_topic, listener))

    def _unsubscribe(self) -> None:
        for end in self._ends:
            end()
        self._ends, self._topic, self.latest = [], None, None
        self._turn += 1

    def _take(self, turn: int, kind: Kind | None, message: Any, info: Any) -> None:
        if turn != self._turn:
            return  # it was on its way when its topic was given up
        if self.what != "image":  # which comes from a driver
            self._heard()
        if self.what == "points" and info is None and self._status.topic_of("depth_info") is not None:
            return  # the model estimated the focal length: the node says so, and a cloud has no place for it
        self._frames += 1
        status = self._status
        self.latest = Frame(self.what, message, self._frames, kind, status.model, info, status.is_rectified)
        self.wake()


class LatestOnly:
    """Hands messages from another thread to the event loop; where that is slow, only the newest.

    Args:
        take: called on the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[Any], None]) -> None:
        self._loop = loop
        self._take = take
        self._lock = threading.Lock()
        self._waiting: Any = None

    def put(self, message: Any) -> None:
        """Called by the other thread."""
        with self._lock:
            is_first, self._waiting = self._waiting is None, message
        if is_first:
            try:
                self._loop.call_soon_threadsafe(self._hand_over)
            except RuntimeError:  # the loop has ended
                pass

    def _hand_over(self) -> None:
        with self._lock:
            message, self._waiting = self._waiting, None
        self._take(message)
