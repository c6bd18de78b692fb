"""Which CameraInfo belongs to an image."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError

Source: TypeAlias = tuple[str, int, int]  # frame and stamp
KEPT = 300  # ten seconds of a 30 Hz camera: an image's own is still there after a slow inference
FALLBACKS = 10  # how many of the latest are tried where an image has none of its own, or one that does not fit


class CameraInfos:
    """The last CameraInfo messages of a topic, matched to images by frame and size.

    Args:
        topic: name used in messages to people.
        clock: seconds that never go back.
    """

    def __init__(self, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.topic = topic
        self._clock = clock
        self._received_s: float | None = None
        self._recent: deque[tuple[Source, CameraInfo]] = deque(maxlen=KEPT)

    def add(self, info: CameraInfo) -> None:
        """Remember a message."""
        self._received_s = self._clock()
        self._recent.append((_source(info.header), info))

    def age_s(self) -> float | None:
        """Seconds since the last message came; None before the first."""
        return None if self._received_s is None else self._clock() - self._received_s

    def match(self, header: Header, width: int, height: int, *, rectified: bool) -> tuple[CameraInfo, CameraModel]:
        """Return the CameraInfo of an image and the camera it describes: the same stamp's, else the latest that fits.

        Raises:
            CameraError: none has come yet, none is of this frame, or none of this frame can be used;
                then it says what is wrong with the best candidate.
        """
        recent = list(self._recent)
        if not recent:
            raise CameraError(f"waiting for CameraInfo on {self.topic}: depth is published, clouds need it")
        wanted = _source(header)
        own = [info for source, info in recent if source == wanted]
        latest = [info for source, info in reversed(recent) if source[0] == wanted[0]][:FALLBACKS]
        if not latest:
            raise CameraError(
                f"the image's frame is {header.frame_id!r}, but CameraInfo on {self.topic} is of "
                f"frame {recent[-1][1].header.frame_id!r}: no cloud without its own"
            )
        return self._first_usable([*own, *latest], width, height, rectified)

    def _first_usable(
        self, candidates: list[CameraInfo], width: int, height: int, rectified: bool
    ) -> tuple[CameraInfo, CameraModel]:
        problem: CameraError | None = None
        for info in candidates:
            try:
                return info, CameraModel.from_camera_info(info, rectified=rectified).scaled_to(width, height)
            except CameraError as error:
                problem = problem or error
        raise CameraError(f"no cloud from CameraInfo on {self.topic}: {problem}") from problem


def _source(header: Header) -> Source:
    return header.frame_id, header.stamp.sec, header.stamp.nanosec
