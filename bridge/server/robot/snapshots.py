"""One frame of a camera for one request: which one counts, and how long to wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.server.errors import NoFrame
from bridge.server.robot.encodings import etag_of
from bridge.server.robot.feed import Feed
from bridge.server.robot.frames import Frame
from bridge.server.robot.options import FIRST_FRAME_MS
from bridge.server.robot.roster import Camera
from bridge.server.state import WorkerState

FUTURE_MS = 1000.0  # a stamp further ahead than this is of another clock
POLL_S = 0.5  # how soon a request that waits learns that the node is gone, or the server goes down


@dataclass(frozen=True)
class Wish:
    """Which frame a request wants.

    Attributes:
        known: tags of frames that it has.
        wait_ms: how long it waits; None is the default.
    """

    max_age_ms: int | None
    wait_ms: int | None
    known: frozenset[str] = frozenset()

    @property
    def patience_s(self) -> float:
        """Seconds to wait for a frame other than the known ones."""
        default_ms = 0 if self.known else FIRST_FRAME_MS
        return (default_ms if self.wait_ms is None else self.wait_ms) / 1000

    @property
    def first_patience_s(self) -> float:
        """Seconds to wait for any frame that is not too old: after a pause the first one takes its time."""
        return max(self.patience_s, FIRST_FRAME_MS / 1000 if self.known or self.wait_ms is None else 0.0)


async def frame_for(wish: Wish, camera: Camera, feed: Feed, state: WorkerState, now_ns: Callable[[], int]) -> Frame:
    """Wait for a frame that a request wants. Where only known ones come, the latest of them.

    Raises:
        RequestError: what `Camera.check` raises.
        NoFrame: none came in time, or only such as are too old.
        Draining: the server goes down.
    """
    began_s = time.monotonic()
    while True:
        state.check_up()
        camera.check(feed)
        frame = feed.latest
        fits = frame is not None and _is_young(frame, wish, now_ns())
        if frame is not None and fits and etag_of(frame) not in wish.known:
            return frame
        left_s = (wish.patience_s if fits else wish.first_patience_s) - (time.monotonic() - began_s)
        if left_s <= 0:
            if frame is not None and fits:
                return frame
            raise NoFrame(_what_is_missing(camera, feed, wish, now_ns()))
        await feed.change(min(left_s, POLL_S))


def _is_young(frame: Frame, wish: Wish, now_ns: int) -> bool:
    return wish.max_age_ms is None or -FUTURE_MS <= _age_ms(frame, now_ns) <= wish.max_age_ms


def _age_ms(frame: Frame, now_ns: int) -> float:
    return (now_ns - frame.stamp_ns) / 1e6


def _what_is_missing(camera: Camera, feed: Feed, wish: Wish, now_ns: int) -> str:
    if feed.latest is None:
        return f"no {feed.what} of {camera.status.name} came in time; its node says: {camera.status.message}"
    return (
        f"the latest {feed.what} of {camera.status.name} is {_age_ms(feed.latest, now_ns):.0f} ms old by its stamp, "
        f"max_age_ms is {wish.max_age_ms}; for recorded or simulated time start with --ros-args -p use_sim_time:=true"
    )
