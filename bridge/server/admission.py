"""The bounded queue: which requests for depth are accepted, and which are turned away at once.

Places are counted here. The order of work and its threads are in `scheduling`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bridge.server.errors import QueueFull
from bridge.server.metrics import Metrics
from bridge.server.state import WorkerState


class Admission:
    """Gives each accepted request a place.

    Args:
        at_once: inferences that run at once.
        max_waiting: requests that may wait beyond those.
    """

    def __init__(self, state: WorkerState, at_once: int, max_waiting: int, metrics: Metrics) -> None:
        self._state = state
        self._at_once = at_once
        self._capacity = at_once + max_waiting
        self._metrics = metrics
        self._taken = 0

    @contextmanager
    def admit(self) -> Iterator[Place]:
        """Accept a request, and give it a place until its answer is sent.

        Raises:
            Draining, Loading, QueueFull: it cannot be taken now.
        """
        self._state.check_open()
        place = Place(self)
        place.take()
        self._state.in_work += 1
        try:
            with place.until_answered:
                yield place
        finally:
            self._state.in_work -= 1
            place.give_back()

    def change_taken(self, change: int) -> None:
        """Count places that are taken. Raises QueueFull beyond the capacity."""
        if self._taken + change > self._capacity:
            raise QueueFull("too many requests are waiting")
        self._taken += change
        self._metrics.in_flight.set(self._taken)
        self._metrics.waiting.set(max(0, self._taken - self._at_once))


class Place:
    """One place in the queue. Taking it twice, or giving it back twice, counts once.

    Attributes:
        until_answered: what else the request holds until its answer is sent.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.until_answered = ExitStack()
        self.is_held = False

    def take(self) -> None:
        """Raises QueueFull where none is left."""
        if not self.is_held:
            self._admission.change_taken(1)
            self.is_held = True

    def give_back(self) -> None:
        """Leave the place to another request."""
        if self.is_held:
            self._admission.change_taken(-1)
            self.is_held = False
