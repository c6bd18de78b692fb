"""What one server process knows of itself: whether it takes requests, and how it will end.

The worker, a lost device and the models at start change it; the front door and the probes read it. No HTTP and
no work lives here.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.server.errors import Draining, Loading
from depth_anything_ros.settings import ModelSettings


class WorkerState:
    """State of one server process.

    Args:
        worker_id: which of the server's processes this is.
        to_load: models to load before requests are taken.

    Attributes:
        is_draining: the process is to end: accepted requests are finished, new ones are refused.
        has_failed: this process can no longer use a device and has to end.
        preload_failed: a model named at start could not be loaded.
        in_work: requests accepted and not answered yet.
        served: requests for depth that were answered.
    """

    def __init__(self, worker_id: int = 0, to_load: Sequence[ModelSettings] = ()) -> None:
        self.worker_id = worker_id
        self.to_load = list(to_load)
        self.is_draining = self.has_failed = self.preload_failed = False
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
        if self.is_draining:
            raise Draining("the server is going down")
        if self.to_load:
            raise Loading("the server is loading its models")

    def fail(self) -> None:
        """A device is lost: finish what is in work, then end with a failure."""
        self.has_failed = self.is_draining = True
