"""Which CameraInfo belongs to an image, and what it says about that image. Messages are anything with their fields."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import numpy as np

from depth_anything_ros.camera import CameraInfo as Intrinsics
from depth_anything_ros.camera import CameraModel, binning, image_size, resize_factors
from depth_anything_ros.errors import CameraError

Source: TypeAlias = tuple[str, int, int]  # frame and stamp
KEPT = 300  # ten seconds of a 30 Hz camera: an image's own is still there after a slow inference
FALLBACKS = 10  # how many of the latest are tried where an image has none of its own, or one that does not fit


class Header(Protocol):
    """std_msgs/Header; its stamp has `sec` and `nanosec`."""

    frame_id: str
    stamp: Any


class CameraInfo(Intrinsics, Protocol):
    """The part of sensor_msgs/CameraInfo that is read."""

    header: Any  # Header
    r: Any


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
        self._recent.append((source_of(info.header), info))

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
        wanted = source_of(header)
        own = [info for source, info in recent if source == wanted]
        latest = [info for source, info in reversed(recent) if source[0] == wanted[0]][:FALLBACKS]
        if not latest:
            raise CameraError(
                f"the image's frame is {header.frame_id!r}, but CameraInfo on {self.topic} is of "
                f"frame {recent[-1][1].header.frame_id!r}: no cloud without its own"
            )
        return first_usable([*own, *latest], width, height, rectified=rectified, topic=self.topic)


class RecordedCameraInfos:
    """All CameraInfo messages of a recorded topic: an image's own may have been recorded after it.

    A message that says the same as the one before it, as nearly all do, is not kept a second time.

    Args:
        topic: name used in messages to people.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._own: dict[Source, CameraInfo] = {}
        self._changes: dict[str, list[tuple[int, CameraInfo]]] = {}  # per frame, with log times

    def add(self, info: CameraInfo, time_ns: int) -> None:
        """Remember a message and its log time. They come in the order of the recording."""
        changes = self._changes.setdefault(info.header.frame_id, [])
        if not changes or _content(changes[-1][1]) != _content(info):
            changes.append((time_ns, info))
        self._own[source_of(info.header)] = changes[-1][1]

    def match(
        self, header: Header, time_ns: int, width: int, height: int, *, rectified: bool
    ) -> tuple[CameraInfo, CameraModel]:
        """Return what `CameraInfos.match` does; without the same stamp, the latest before the image, else the first.

        Raises:
            CameraError: there is none, none of this frame, or none of this frame can be used.
        """
        changes = self._changes.get(header.frame_id)
        if changes is None:
            frames = ", ".join(map(repr, self._changes)) or "none"
            raise CameraError(
                f"no CameraInfo on {self._topic} of the image's frame {header.frame_id!r}; there are: {frames}"
            )
        now = bisect_right(changes, time_ns, key=lambda change: change[0])
        nearest = [*changes[max(0, now - FALLBACKS) : now][::-1], *changes[now : now + FALLBACKS]]
        own = self._own.get(source_of(header))
        candidates = [*([] if own is None else [own]), *(info for _, info in nearest)]
        return first_usable(candidates, width, height, rectified=rectified, topic=self._topic)


def first_usable(
    candidates: Iterable[CameraInfo], width: int, height: int, *, rectified: bool, topic: str
) -> tuple[CameraInfo, CameraModel]:
    """Return the first CameraInfo that can be true for an image of this size, and the camera it describes.

    Raises:
        CameraError: none can; it says what is wrong with the first.
    """
    problem: CameraError | None = None
    for info in candidates:
        try:
            return info, CameraModel.from_camera_info(info, rectified=rectified).scaled_to(width, height)
        except CameraError as error:
            problem = problem or error
    raise CameraError(f"no cloud from CameraInfo on {topic}: {problem}") from problem


def source_of(header: Header) -> Source:
    """Return what an image and its own CameraInfo have in common."""
    return header.frame_id, header.stamp.sec, header.stamp.nanosec


def fields_for(info: CameraInfo, camera: CameraModel) -> dict[str, Any]:
    """Return the fields of the CameraInfo that is true for an image with `camera`'s size, but for the header.

    Where the image has the size that `info` describes, everything stays as it came, region of
    interest and binning included. Where it was resized, K and P are scaled and those two are spent:
    `roi` is None then, for one of zeros.
    """
    names = ("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y", "roi")
    fields = {name: getattr(info, name) for name in names}
    size = (camera.width, camera.height)
    if image_size(info) == size:
        return fields
    factors = resize_factors(image_size(info), size)
    fields |= {"k": _seen_by_image(info.k, 3, info, factors), "p": _seen_by_image(info.p, 4, info, factors)}
    fields |= {"width": camera.width, "height": camera.height, "binning_x": 0, "binning_y": 0, "roi": None}
    return fields


def _content(info: CameraInfo) -> tuple[Any, ...]:
    """What a message says, whenever it says it."""
    roi = info.roi
    numbers = (tuple(map(float, values)) for values in (info.d, info.k, info.r, info.p))
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify)
    return info.width, info.height, info.distortion_model, *numbers, info.binning_x, info.binning_y, region


def _seen_by_image(matrix: Any, columns: int, info: CameraInfo, factors: tuple[float, float]) -> list[float]:
    """K or P for the image itself: cropped and binned as `info` says, then resized by `factors`."""
    rows = np.array(matrix, np.float64).reshape(3, columns)
    offsets = (info.roi.x_offset, info.roi.y_offset)
    for row, offset, bins, factor in zip(rows[:2], offsets, binning(info), factors, strict=True):
        row[2] -= offset
        row *= factor / bins
        row[2] += (factor - 1.0) / 2  # the outer edges coincide, not the centres of the first pixels
    return [float(number) for number in rows.ravel()]
