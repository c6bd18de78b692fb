"""The state of one server process: whether it takes requests, and how it will end.

The worker, a lost device and the models at start change it; the front door and the probes read it. There is no HTTP and
no inference here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from bridge.server.errors import Draining, Loading
from depth_anything_ros.settings import ModelSettings


class WorkerState:
    """State of one server process.

    Args:
        worker_id: which of the server's processes this is.
        to_load: models to load before requests are taken.
        labels: what else tells this process from others.

    Attributes:
        is_draining: the process is to end: accepted requests are finished, new ones are refused.
        is_over: no time is left to finish them.
        has_failed: this process can no longer use a device and has to end.
        preload_failed: a model named at start could not be loaded.
        in_work: requests accepted and not answered yet.
        served: requests for depth that were answered.
    """

    def __init__(
        self, worker_id: int = 0, to_load: Sequence[ModelSettings] = (), labels: Mapping[str, str] | None = None
    ) -> None:
        self.worker_id = worker_id
        self.labels = dict(labels or {})
        self.to_load = list(to_load)
        self.is_draining = self.is_over = self.has_failed = self.preload_failed = False
        self._draining_since_s = 0.0
        self.in_work = 0
        self.served = 0

    @property
    def status(self) -> str:
        """`ready`, `loading` or `draining`."""
        if self.is_draining:
            return "draining"
        return "loading" if self.to_load else "ready"

    def check_open(self) -> None:
        """Raise Draining or Loading unless requests for depth are taken now."""
        self.check_up()
        if self.to_load:
            raise Loading("the server is loading its models")

    def check_up(self) -> None:
        """Raise Draining once the process is to end."""
        if self.is_draining:
            raise Draining("the server is going down")

    def drain(self) -> None:
        """Take no more requests; the process ends when the accepted ones are done. Any thread may call this."""
        if not self.is_draining:
            self._draining_since_s = time.monotonic()
            self.is_draining = True

    @property
    def draining_s(self) -> float:
        """Seconds since `drain` was called."""
        return time.monotonic() - self._draining_since_s if self.is_draining else 0.0

    def fail(self) -> None:
        """A device is lost: finish the accepted requests, then end with a failure."""
        self.has_failed = True
        self.drain()
