"""One frame of a camera: the message as it came, and what was encoded of it so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.messages.stamps import stamp_ns

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """A message, and what is known about it.

    Attributes:
        what: depth, points, image, color or camera_info.
        message: of ROS; nobody changes it.
        number: counts since the topic was subscribed.
        kind: of the depth it holds; None where it holds none.
        model: key of the node's model.
        info: CameraInfo of the same stamp, for depth; None where there is none.
        is_rectified: whether P of it describes the image.
    """

    what: str
    message: Any
    number: int
    kind: Kind | None = None
    model: str | None = None
    info: Any = None
    is_rectified: bool = False
    _made: dict[Hashable, asyncio.Future[Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def stamp_ns(self) -> int:
        """Nanoseconds of its stamp."""
        return stamp_ns(self.message.header)

    @property
    def frame_id(self) -> str:
        """The frame it is in."""
        return str(self.message.header.frame_id)

    async def make(self, key: Hashable, make: Callable[[], T], pool: Executor) -> T:
        """What `make` returns, made once in a thread for all who ask with the same key."""
        if key not in self._made:
            self._made[key] = asyncio.get_running_loop().run_in_executor(pool, make)
        if self._made[key].done():
            return cast(T, self._made[key].result())
        # One client that leaves does not take it from the others.
        made: T = await asyncio.shield(self._made[key])
        return made


def stamp_text(nanoseconds: int) -> str:
    """A stamp as `X-Stamp` has it: seconds, a dot, nine digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{seconds}.{rest:09d}"
