"""The cameras of all depth nodes that are heard: found by what these say, forgotten when they are silent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from bridge.server.errors import CameraGone, CameraInactive, NoCalibration, NoMetres, UnknownCamera
from bridge.server.names import nearest, shown
from bridge.server.robot.camera_status import CameraStatus, describe
from bridge.server.robot.feed import Feed, Source

logger = logging.getLogger(__name__)

GONE_S = 3.0  # nodes speak once a second
FORGOTTEN_S = 600.0
MAX_CAMERAS = 256  # what nodes say comes from outside, and nothing may grow for ever


class Camera:
    """One camera, and what is asked of it.

    Args:
        source: where topics are subscribed.
        clock: seconds that never go back.

    Attributes:
        streams: clients that stream it now.
    """

    def __init__(self, status: CameraStatus, source: Source, clock: Callable[[], float]) -> None:
        self.status = status
        self.streams = 0
        self._source = source
        self._clock = clock
        self._heard_s = clock()
        self._feeds: dict[str, Feed] = {}

    @property
    def silent_s(self) -> float:
        """Seconds since its node was heard."""
        return self._clock() - self._heard_s

    @property
    def is_gone(self) -> bool:
        """Whether its node is silent for too long."""
        return self.silent_s > GONE_S

    def heard(self, status: CameraStatus) -> None:
        """Take a newer status."""
        self.status = status
        self._note_heard()
        for feed in self._feeds.values():
            feed.follow(status)

    def _note_heard(self) -> None:
        self._heard_s = self._clock()

    def feed(self, what: str) -> Feed:
        """Where one of its things comes from."""
        if what not in self._feeds:
            self._feeds[what] = Feed(what, self._source, self.status, self._note_heard)
        return self._feeds[what]

    def check(self, feed: Feed) -> None:
        """Refuse what cannot come, while somebody wants it.

        Raises:
            CameraGone, CameraInactive: its node is silent, or takes no images.
            NoCalibration, NoMetres: points or CameraInfo of a camera that has none.
        """
        if self.is_gone:
            raise CameraGone(f"nothing heard of {self.status.node} for {self.silent_s:.0f} s")
        if self.status.state != "active":
            raise CameraInactive(f"{self.status.node} is {self.status.state}: {self.status.message}")
        if feed.what in ("points", "camera_info"):
            self._check_metric(feed.what, has_looked=self.status.processed > feed.processed_before)

    def _check_metric(self, what: str, *, has_looked: bool) -> None:
        """What the node said of frames before the subscription may be over; a model without metres stays one."""
        status = self.status
        is_unitless = status.model_kind not in (None, "metric") and not status.gets_metres
        if has_looked and status.is_calibrated is False:
            raise NoCalibration(f"no CameraInfo fits the images of {status.name}, and {what} needs one")
        if is_unitless or (has_looked and status.kind != "metric"):
            raise NoMetres(f"the depth of {status.name} is {status.kind}, without metres, and {what} needs them")

    def describe(self) -> dict[str, Any]:
        """What `GET /cameras` says of it."""
        subscribed = sorted(what for what, feed in self._feeds.items() if feed.is_subscribed)
        about = describe(self.status, self.silent_s, is_gone=self.is_gone)
        return about | {"subscribed": subscribed, "streams": self.streams}


class Roster:
    """All cameras by name.

    Args:
        nodes: full names of the nodes to show; empty shows all.
    """

    def __init__(
        self, source: Source, nodes: Collection[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._nodes = {f"/{node.strip('/')}" for node in nodes}
        self._clock = clock
        self._cameras: dict[str, Camera] = {}

    def hear(self, status: CameraStatus) -> None:
        """Take a status of a camera that may be new."""
        if self._nodes and status.node not in self._nodes:
            return
        camera = self._cameras.get(status.name)
        if camera is None:
            self._forget_silent()
            if len(self._cameras) < MAX_CAMERAS:
                self._cameras[status.name] = Camera(status, self._source, self._clock)
                logger.info("camera %s: %s", status.name, status.node)
        elif (camera.status.node, camera.status.camera) == (status.node, status.camera) or camera.is_gone:
            camera.heard(status)
        # Else two cameras have one name: the first one keeps it.

    def get(self, name: str) -> Camera:
        """Return a camera. Raises UnknownCamera."""
        self._forget_silent()
        if name not in self._cameras:
            known = ", ".join(sorted(self._cameras)) or "none yet"
            raise UnknownCamera(f"no camera {shown(name)}{nearest(name, self._cameras)}; known: {known}", "name")
        return self._cameras[name]

    def describe(self) -> list[dict[str, Any]]:
        """What `GET /cameras` says."""
        self._forget_silent()
        return [self._cameras[name].describe() for name in sorted(self._cameras)]

    def _forget_silent(self) -> None:
        silent = [name for name, camera in self._cameras.items() if camera.silent_s > FORGOTTEN_S]
        for name in silent:
            if not self._cameras[name].streams:
                del self._cameras[name]
