"""The bounded queue: which requests for depth are accepted, and which are turned away at once.

Places are counted here. The order of work and its threads are in `scheduling`.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from bridge.server.errors import DeadlineExceeded, QueueFull
from bridge.server.metrics import Metrics
from bridge.server.state import WorkerState

REMEMBERED = 9  # requests whose time tells how long the next one takes
# Of the time until its deadline, what a request may be expected to take. Where all are accepted that would just make
# it, under load half of them do not, and their work is lost.
USABLE = 0.8


class Admission:
    """Gives each accepted request a place.

    A request that would be answered after its deadline is turned away at once. Kept until then, it would cost its
    client the time to ask elsewhere, and make those behind it late, too.

    Args:
        at_once: inferences that run at once.
        max_waiting: requests that may wait beyond those.
        clock: seconds.

    Attributes:
        turn_s: what a turn on a device takes; 0 until the first is over. Threads may read it.
    """

    def __init__(
        self,
        state: WorkerState,
        at_once: int,
        max_waiting: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.turn_s = 0.0
        self._turns_s: deque[float] = deque(maxlen=REMEMBERED)
        self._state = state
        self._at_once = at_once
        self._capacity = at_once + max_waiting
        self._metrics = metrics
        self._taken = 0

    @contextmanager
    def admit(self, left_s: float = math.inf) -> Iterator[Place]:
        """Accept a request, and give it a place until its answer is sent.

        Args:
            left_s: seconds until its deadline.

        Raises:
            Draining, Loading, QueueFull: it cannot be taken now.
        """
        self._state.check_open()
        self._check_deadline(left_s)
        place = Place(self, self.turns_ahead, self.clock() + left_s)
        place.take()
        self._state.in_work += 1
        try:
            with place.until_answered:
                yield place
        finally:
            self._state.in_work -= 1
            place.give_back()

    @property
    def turns_ahead(self) -> int:
        """Turns on the devices until a request that comes now would be done."""
        return self._taken // self._at_once + 1

    def _check_deadline(self, left_s: float) -> None:
        """Raise QueueFull if the answer would come too late. An idle server always tries."""
        if self._taken and self.turns_ahead * self.turn_s > USABLE * left_s:
            raise QueueFull("so many requests are waiting that the answer would come after the deadline")

    def learn(self, turn_s: float) -> None:
        """Note how long a turn of an answered request took."""
        self._turns_s.append(turn_s)
        self.turn_s = median(self._turns_s)

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

    def __init__(self, admission: Admission, turns: int, deadline_s: float) -> None:
        self._admission = admission
        self._turns = turns
        self._deadline_s = deadline_s
        self._began_s = admission.clock()
        self.until_answered = ExitStack()
        self.is_held = False

    def take(self) -> None:
        """Raises QueueFull where none is left."""
        if not self.is_held:
            self._admission.change_taken(1)
            self.is_held = True

    def check_time(self) -> None:
        """Raise DeadlineExceeded where a turn that begins now would end too late. For any thread.

        Only a request that had to wait is judged: one that finds an idle server is always tried.
        """
        if self._turns > 1 and self._admission.clock() + self._admission.turn_s > self._deadline_s:
            raise DeadlineExceeded("the answer would not be ready in time")

    def finish(self, images: int = 1) -> None:
        """The answer is made: learn from its time, and leave the place to another request."""
        self._admission.learn((self._admission.clock() - self._began_s) / (self._turns + images - 1))
        self.give_back()

    def give_back(self) -> None:
        """Leave the place to another request."""
        if self.is_held:
            self._admission.change_taken(-1)
            self.is_held = False
