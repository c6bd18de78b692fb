"""The state of one camera: counts, times and problems. The stages write it, `diagnostics` reads it.

Nothing is published here. The state of the model and the device is not kept here either.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from rclpy.node import Node
from std_msgs.msg import Header

from depth_anything_ros.errors import describe, plain_line, readable
from depth_anything_ros.messages.remarks import SayOnce
from depth_anything_ros.messages.stamps import stamp_ns
from depth_anything_ros.node.frame_statistics import FrameStatistics
from depth_anything_ros.node.input_topics import InputTopics
from depth_anything_ros.node.missing_input import lost_images, missing, missing_image
from depth_anything_ros.node.qos_watch import QosWatch
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.scale.alignment import AlignmentState
from depth_anything_ros.settings import CameraSettings

# Images that were lost on their way are a problem from so many of the last seconds on, and from so large a share.
MANY_LOST = 5
MUCH_LOST = 0.1
# A stamp further from now than this is of another clock: recorded data, or the camera's own clock.
MAX_LATENCY_S = 60.0


class Level(IntEnum):
    """How bad a problem is. The constants of diagnostic_msgs/DiagnosticStatus are bytes."""

    OK = 0
    WARN = 1
    ERROR = 2


Problem: TypeAlias = tuple[Level, str]  # how bad it is, and what it is


@dataclass
class FrameCounts:
    """What became of every image received: `received` is the sum of the others and of those in hand."""

    received: int = 0
    processed: int = 0  # published, unless the node was deactivated meanwhile
    dropped: int = 0  # replaced by a newer one before its turn, or the device was not to be tried
    ignored: int = 0  # nobody listened
    failed: int = 0  # unreadable, or inference failed


class CameraHealth:
    """One camera's. The executor's thread and the worker's write it.

    Args:
        node: whose clock, log and topics the camera uses.
        topics: the camera's topics in, for messages to people.

    Attributes:
        remark: logs what is odd and does no harm, each text once.
        alignment: what the alignment does; None without one.
        focal_estimate_px: focal length that the model estimates, where it is used in place of a CameraInfo's.
        active_since_s: by the clock below; None while no images are taken.
    """

    def __init__(self, node: Node, topics: InputTopics, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = FrameCounts()
        self.statistics = FrameStatistics()
        self.qos = QosWatch(node, self._log)
        self.remark = SayOnce(self._log)
        self.alignment: AlignmentState | None = None
        self.focal_estimate_px: float | None = None
        self.active_since_s: float | None = None
        self._node = node
        self._topics = topics
        self._clock = clock
        self._images_lost = 0
        self._camera_info_s: float | None = None
        self._problem = ""  # what was wrong with the last frame
        self._problems: list[str] = []  # what is wrong with the current frame

    # The camera starts and stops

    def activated(self) -> None:
        """Note that images are taken from now on."""
        self.active_since_s = self._clock()

    def deactivated(self) -> None:
        """Note that no more images are taken."""
        self.active_since_s = None

    # What the stages report

    def image_received(self) -> None:
        """Count an image that came."""
        self.counts.received += 1
        self.statistics.received()

    def images_lost(self, topic: str, count: int) -> None:
        """Count images of a topic that the middleware lost on their way. If they are many it is said once."""
        self._images_lost += count
        self.statistics.lost(count)
        if self._losses(topic):
            self.remark(lost_images(self._node, topic))

    def camera_info_received(self) -> None:
        """Note that a CameraInfo came."""
        self._camera_info_s = self._clock()

    def frame_begun(self) -> None:
        """Note that the next image's turn has come: warnings from now on are about it."""
        self._problems = []

    def frame_done(self, header: Header, watch: Stopwatch, *, is_published: bool) -> None:
        """Note that the current image went through all stages."""
        if is_published:
            self.statistics.published(self.seconds_since(header), watch.seconds)
        self.counts.processed += 1
        self._problem = "; ".join(self._problems)

    def frame_failed(self, error: Exception) -> None:
        """Note why the current image was dropped."""
        self.counts.failed += 1
        if self.active_since_s is not None:
            self.warn(f"frame dropped: {describe(error)}")
        self._problem = "; ".join(self._problems)

    def warn(self, text: str) -> None:
        """Note what is wrong with the current image. It is logged once, however often it happens."""
        line = plain_line(text)
        self._problems.append(line)
        self.remark(line)

    def _log(self, text: str) -> None:
        self._node.get_logger().warning(text)

    def seconds_since(self, header: Header) -> float:
        """Seconds since an image's stamp; NaN where it is of another clock."""
        seconds = (self._node.get_clock().now().nanoseconds - stamp_ns(header)) / 1e9
        return seconds if 0 <= seconds <= MAX_LATENCY_S else math.nan

    def check_publishers(self, settings: CameraSettings) -> None:
        """Log once which topic in nobody publishes, when the camera has been active for `stale_after_s`."""
        if self.active_since_s is None or self._clock() - self.active_since_s < settings.stale_after_s:
            return
        node, topics, found = self._node, self._topics, list[str]()
        if self.statistics.age_s() is None:
            transport = settings.image_transport
            found.append(missing_image(node, topics.name("image"), topics.subscribed_image(transport), transport))
        if self._camera_info_s is None:
            found.append(missing(node, "CameraInfo", topics.name("camera_info"), topics.camera_info))
        if settings.range_type is not None:
            found.append(missing(node, settings.range_type, topics.name("range"), topics.range))
        for text in filter(None, found):
            self.remark(text)

    # What diagnostics read

    def problems(self, settings: CameraSettings) -> list[str]:
        """Return all problems."""
        found = (
            self._problem,
            self._missing_input(settings),
            self._losses(self._topics.subscribed_image(settings.image_transport)),
            self._unaligned(),
            *self.qos.problems(),
        )
        return [text for text in found if text]

    def _unaligned(self) -> str:
        state = self.alignment
        return "" if state is None or state.name == "aligned" else f"alignment is {state.name}: {state.reason}"

    def _losses(self, topic: str) -> str:
        """Return how many of the last images were lost; empty where they are few."""
        lost, sent = self.statistics.recent_losses()
        if lost < MANY_LOST or lost < MUCH_LOST * sent:
            return ""
        return f"{lost} of the last {sent} images on {topic} were lost on their way"

    def _missing_input(self, settings: CameraSettings) -> str:
        if self.active_since_s is None:
            return ""
        active_s = self._clock() - self.active_since_s
        image_s, info_s = self.statistics.age_s(), self._camera_info_age_s()
        silent_s = active_s if image_s is None else min(image_s, active_s)
        if silent_s > settings.stale_after_s:
            topic = self._topics.subscribed_image(settings.image_transport)
            nobody = "" if self._node.count_publishers(topic) else ": nobody publishes it"
            return f"no image on {topic} for {silent_s:.0f} s{nobody}"
        if info_s is not None and min(info_s, active_s) > settings.stale_after_s:
            return f"no CameraInfo on {self._topics.camera_info} for {min(info_s, active_s):.0f} s"
        return ""

    def values(self, settings: CameraSettings) -> dict[str, object]:
        """Return all values, by the names in docs/node.md."""
        ages_s = {"image_age_s": self.statistics.age_s(), "camera_info_age_s": self._camera_info_age_s()}
        measured = {**self.statistics.summary(), **{name: age for name, age in ages_s.items() if age is not None}}
        counts: dict[str, object] = {f"frames_{name}": count for name, count in vars(self.counts).items()}
        counts["images_lost"] = self._images_lost
        values = counts | {name: readable(value) for name, value in measured.items()}
        if self.focal_estimate_px is not None:
            values["focal_estimate_px"] = readable(self.focal_estimate_px)
        if self.alignment is None:
            scales = {"scale": settings.scale, "shift_m": settings.shift_m}
            return values | scales | ({"metres_per_unit": settings.metres_per_unit} if settings.metres_per_unit else {})
        return values | {f"alignment_{name}": text for name, text in self.alignment.describe().items()}

    def _camera_info_age_s(self) -> float | None:
        return None if self._camera_info_s is None else self._clock() - self._camera_info_s
