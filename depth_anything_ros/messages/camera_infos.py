"""Which CameraInfo belongs to an image, and what it says about that image. A message is anything with its fields."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from depth_anything_ros.camera import (
    DISTORTION_MODELS,
    CameraModel,
    binning,
    image_size,
    read_lens,
    resize_factors,
)
from depth_anything_ros.camera import CameraInfo as Intrinsics
from depth_anything_ros.errors import CameraError, quoted
from depth_anything_ros.messages.remarks import Remark, unheard
from depth_anything_ros.messages.stamps import stamp_ns

KEPT = 300  # ten seconds of a 30 Hz camera: an image's own is still there after a slow inference
FALLBACKS = 10  # how many of the latest are tried for an image that has none of its own
MAX_ROTATION_DEG = 0.05  # of R: half a pixel at a focal length of 600


class Header(Protocol):
    """std_msgs/Header; its stamp has `sec` and `nanosec`."""

    frame_id: str
    stamp: Any


class CameraInfo(Intrinsics, Protocol):
    """The part of sensor_msgs/CameraInfo that is read."""

    header: Any  # Header
    r: Any


class Kept(NamedTuple):
    """A message, its frame and its stamp."""

    frame: str
    stamp_ns: int
    info: CameraInfo


class CameraInfos:
    """Keeps the last CameraInfo messages of a topic, and matches them to images by frame, stamp and size.

    A driver may leave all stamps at 0 or repeat them, and a bag or a simulator may start over. So a new message
    replaces every older one whose stamp is not before its own: those are out of date.

    Args:
        topic: the topic's name, for log messages.
        clock: seconds that never go back.
        remark: is told what is odd about a CameraInfo that is used.
    """

    def __init__(self, topic: str, clock: Callable[[], float] = time.monotonic, remark: Remark = unheard) -> None:
        self.topic = topic
        self._clock = clock
        self._remark = remark
        self._received_s: float | None = None
        self._recent: deque[Kept] = deque(maxlen=KEPT)

    def add(self, info: CameraInfo) -> None:
        """Remember a message."""
        self._received_s = self._clock()
        latest = Kept(frame_of(info.header), stamp_ns(info.header), info)
        before = [kept for kept in self._recent if kept.frame != latest.frame or kept.stamp_ns < latest.stamp_ns]
        self._recent = deque([*before, latest], KEPT)  # a new one: another thread may be reading the old one

    def age_s(self) -> float | None:
        """Seconds since the last message came; None before the first."""
        return None if self._received_s is None else self._clock() - self._received_s

    def match(
        self, header: Header, width: int, height: int, *, rectified: bool, any_frame: bool = False
    ) -> tuple[CameraInfo, CameraModel]:
        """Return the CameraInfo of an image, and the camera it describes: the same stamp's, else the latest that fits.

        Args:
            header, width, height: those of the image.
            rectified: the image is rectified, so P describes it.
            any_frame: use CameraInfo of another frame if there is none of the image's frame.

        Raises:
            CameraError: none has come yet, none is of this frame, or it cannot be used.
        """
        newest_first = list(self._recent)[::-1]
        if not newest_first:
            raise CameraError(f"waiting for CameraInfo on {self.topic}: clouds need it")
        frame = frame_of(header)
        candidates = [kept for kept in newest_first if is_same_frame(kept.frame, frame)]
        if not candidates:
            self._other_frame(frame, newest_first[0].frame, any_frame)
            candidates = newest_first
        stamp = stamp_ns(header)
        own = [kept for kept in candidates if kept.stamp_ns == stamp != 0][:1]
        infos = [kept.info for kept in own or candidates[:FALLBACKS]]
        return first_of_size(infos, width, height, rectified=rectified, topic=self.topic, remark=self._remark)

    def _other_frame(self, frame: str, other: str, any_frame: bool) -> None:
        said = f"the image's frame is {quoted(frame)}, but CameraInfo on {self.topic} is of frame {quoted(other)}"
        if not any_frame:
            raise CameraError(f"{said}: no cloud is published; set camera_info_any_frame to use it anyway")
        self._remark(f"{said}: it is used anyway, because camera_info_any_frame is set")


class RecordedCameraInfos:
    """Keeps all CameraInfo messages of a recorded topic: that of an image may have been recorded after it.

    A message with the same content as the one before it, as nearly all have, is not kept a second time.

    Args:
        topic: the topic's name, for log messages.
        remark: is told what is odd about a CameraInfo that is used.
    """

    def __init__(self, topic: str, remark: Remark = unheard) -> None:
        self._topic = topic
        self._remark = remark
        self._changes: dict[str, list[tuple[int, CameraInfo]]] = {}  # frame -> log times and messages
        self._stamped: dict[tuple[str, int], list[tuple[int, CameraInfo]]] = {}  # frame and stamp -> the same

    def add(self, info: CameraInfo, time_ns: int) -> None:
        """Remember a message and its log time. They come in the order of the recording."""
        frame, stamp = frame_of(info.header), stamp_ns(info.header)
        changes = self._changes.setdefault(frame, [])
        if not changes or _content(changes[-1][1]) != _content(info):
            changes.append((time_ns, info))
        if stamp != 0:
            self._stamped.setdefault((frame, stamp), []).append((time_ns, changes[-1][1]))

    def match(
        self,
        header: Header,
        time_ns: int,
        width: int,
        height: int,
        *,
        rectified: bool,
        any_frame: bool = False,
    ) -> tuple[CameraInfo, CameraModel]:
        """Match as `CameraInfos.match` does; without the same stamp, take the latest before the image, else the first.

        If several have the image's stamp, as in a recording of a loop, the one logged nearest to the image counts.

        Raises:
            CameraError: there is none, none of this frame, or it cannot be used.
        """
        frames = [frame for frame in self._changes if is_same_frame(frame, frame_of(header))]
        if not frames:
            self._other_frame(header, any_frame)
            frames = list(self._changes)
        stamp = stamp_ns(header)
        own = [one for frame in frames for one in self._stamped.get((frame, stamp), ())]
        if own:
            infos = [min(own, key=lambda one: abs(one[0] - time_ns))[1]]
        else:
            changes = [change for frame in frames for change in self._changes[frame]]
            infos = _by_time(sorted(changes, key=_log_time), time_ns)
        return first_of_size(infos, width, height, rectified=rectified, topic=self._topic, remark=self._remark)

    def _other_frame(self, header: Header, any_frame: bool) -> None:
        there = ", ".join(map(quoted, self._changes)) or "none"
        said = f"no CameraInfo on {self._topic} of the image's frame {quoted(header.frame_id)}; there are: {there}"
        if not any_frame or not self._changes:
            raise CameraError(said)
        self._remark(f"{said}. They are used anyway.")


def frame_of(header: Header) -> str:
    """Return the frame without the leading slash that ROS 1 had."""
    return header.frame_id.removeprefix("/")


def is_same_frame(frame: str, other: str) -> bool:
    """Return whether two messages may be of one camera: an empty frame fits any."""
    return frame == other or not frame or not other


def first_of_size(
    infos: Iterable[CameraInfo], width: int, height: int, *, rectified: bool, topic: str, remark: Remark = unheard
) -> tuple[CameraInfo, CameraModel]:
    """Return the first CameraInfo that describes an image of this size, and the camera it describes.

    One of another size is skipped, because the camera may just have changed its size. One that says that the camera is
    uncalibrated, or that makes no sense, ends the search: older ones would be out of date.

    Raises:
        CameraError: there is none; the message says what is wrong with the first.
    """
    problem: CameraError | None = None
    for info in infos:
        try:
            camera = CameraModel.from_camera_info(info, rectified=rectified, size=(width, height))
        except CameraError as error:
            problem = problem or error
            break
        try:
            fitting = camera.scaled_to(width, height)
        except CameraError as error:
            problem = problem or error
            continue
        for oddity in oddities(info, rectified=rectified):
            remark(f"CameraInfo on {topic}: {oddity}")
        return info, fitting
    raise CameraError(f"no cloud from CameraInfo on {topic}: {problem}") from problem


def oddities(info: CameraInfo, *, rectified: bool) -> list[str]:
    """Return what is unusual about a CameraInfo, and how it is read."""
    said = []
    if 0 in (info.width, info.height):
        said.append(f"its size is {info.width}x{info.height}; the size of the image is used")
    if not any(info.p) and not rectified:
        said.append("P is all zero; ~/depth/camera_info has P made of K")
    model, distortion = read_lens(info.distortion_model, info.d)
    if model and not rectified and (model != info.distortion_model or len(distortion) != len(info.d)):
        name = quoted(info.distortion_model)
        said.append(f"{name} with {len(info.d)} coefficients is read as {model} with {len(distortion)}")
    angle_deg = rotation_deg(info.r)
    if not rectified and angle_deg > MAX_ROTATION_DEG:
        said.append(
            f"R rotates rectified images by {angle_deg:.2f} degrees; points of raw images are in the camera's frame "
            "before that rotation, so they differ from points of rectified images with the same frame_id"
        )
    return said


def rotation_deg(r: Sequence[float]) -> float:
    """Return the angle of a rotation matrix, nine numbers by row, in degrees; 0 for one that is all zero, left out."""
    if not any(r):
        return 0.0
    cosine = (float(r[0]) + float(r[4]) + float(r[8]) - 1.0) / 2.0
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def fields_for(info: CameraInfo, camera: CameraModel) -> dict[str, Any]:
    """Return the fields, without header, of the CameraInfo that is true for an image of `camera`'s size.

    If the image has the size that `info` describes, everything that is complete stays unchanged, region of interest and
    binning included. If it was resized, K and P are scaled and describe the image itself: `roi` is None then, which
    stands for one of zeros, and binning is 0.
    """
    names = ("height", "width", "distortion_model", "d", "k", "r", "p", "binning_x", "binning_y", "roi")
    fields = {name: getattr(info, name) for name in names} | _completed(info, camera)
    size = (camera.width, camera.height)
    described = image_size(info, size)
    if described == size:
        return fields
    factors = resize_factors(described, size)
    fields |= {"k": _seen_by_image(info.k, 3, info, factors), "p": _seen_by_image(fields["p"], 4, info, factors)}
    fields |= {"width": camera.width, "height": camera.height, "binning_x": 0, "binning_y": 0, "roi": None}
    return fields


def pinhole_fields(camera: CameraModel) -> dict[str, Any]:
    """Return the fields of the CameraInfo of a camera without distortion, but for header, binning and region."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return {
        "width": camera.width,
        "height": camera.height,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        "r": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "p": [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    }


def _completed(info: CameraInfo, camera: CameraModel) -> dict[str, Any]:
    """Return what a driver left out and readers need: size, R, P, and the lens by its ROS name."""
    missing: dict[str, Any] = {}
    if 0 in (info.width, info.height):
        bins = binning(info)
        missing |= {"width": info.width or camera.width * bins[0], "height": info.height or camera.height * bins[1]}
    if not any(info.r):
        missing["r"] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    if not any(info.p):
        k = [float(number) for number in info.k]
        missing["p"] = [*k[0:3], 0.0, *k[3:6], 0.0, *k[6:9], 0.0]
    model, distortion = read_lens(info.distortion_model, info.d)
    if model and (model, len(distortion)) != (info.distortion_model, len(info.d)):
        missing |= {"distortion_model": model, "d": list(distortion)}
    elif not model and info.distortion_model not in DISTORTION_MODELS:
        missing |= {"distortion_model": "plumb_bob", "d": [0.0] * 5}
    return missing


def _log_time(change: tuple[int, CameraInfo]) -> int:
    return change[0]


def _by_time(changes: Sequence[tuple[int, CameraInfo]], time_ns: int) -> list[CameraInfo]:
    """Return the last few up to a time, newest first, then the first few after it."""
    now = bisect_right(changes, time_ns, key=_log_time)
    nearest = [*changes[max(0, now - FALLBACKS) : now][::-1], *changes[now : now + FALLBACKS]]
    return [info for _, info in nearest]


def _content(info: CameraInfo) -> tuple[Any, ...]:
    """Return the content of a message without its header."""
    roi = info.roi
    numbers = (tuple(map(float, values)) for values in (info.d, info.k, info.r, info.p))
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify)
    return info.width, info.height, info.distortion_model, *numbers, info.binning_x, info.binning_y, region


def _seen_by_image(matrix: Any, columns: int, info: CameraInfo, factors: tuple[float, float]) -> list[float]:
    """Return K or P for the image itself: cropped and binned as `info` says, then resized by `factors`."""
    rows = np.array(matrix, np.float64).reshape(3, columns)
    offsets = (info.roi.x_offset, info.roi.y_offset)
    for row, offset, bins, factor in zip(rows[:2], offsets, binning(info), factors, strict=True):
        row[2] -= offset
        row *= factor / bins
        row[2] += (factor - 1.0) / 2  # the outer edges coincide, not the centres of the first pixels
    return [float(number) for number in rows.ravel()]
