"""Which requests are accepted: places, and deadlines that can be met."""

from __future__ import annotations

import pytest

from bridge.server.admission import USABLE, Admission
from bridge.server.errors import DeadlineExceeded, QueueFull
from bridge.server.metrics import Metrics
from bridge.server.state import WorkerState


class Server:
    """A device that takes a second for each request, one after the other, and clients with a deadline."""

    def __init__(self, at_once: int = 1) -> None:
        self.now_s = 0.0
        self.admission = Admission(WorkerState(), at_once, 64, Metrics(), clock=lambda: self.now_s)

    def answer_one(self, turn_s: float = 1.0) -> None:
        with self.admission.admit() as place:
            self.now_s += turn_s
            place.finish()


def accepted(server: Server, count: int, left_s: float) -> int:
    """How many of so many requests that come at once are accepted."""
    waiting = [server.admission.admit(left_s) for _ in range(count)]
    entered = 0
    for request in waiting:
        try:
            request.__enter__()
            entered += 1
        except QueueFull:
            pass
    return entered


@pytest.mark.parametrize(("at_once", "expected"), [(1, 4), (8, 32)])
def test_as_many_are_accepted_as_can_be_answered_well_before_their_deadline(at_once: int, expected: int) -> None:
    server = Server(at_once)
    for _ in range(3):
        server.answer_one()
    assert accepted(server, 60, left_s=4.5 / USABLE) == expected


def test_a_turn_that_would_end_too_late_is_not_begun() -> None:
    server = Server()
    server.answer_one()
    with server.admission.admit(left_s=0.5) as first, server.admission.admit(left_s=4.0) as second:
        first.check_time()  # nobody was before it
        server.now_s += 2.9
        second.check_time()
        server.now_s += 0.2
        with pytest.raises(DeadlineExceeded, match="would not be ready in time"):
            second.check_time()


def test_the_time_that_was_spent_waiting_does_not_count_as_work() -> None:
    server = Server()
    with server.admission.admit() as first, server.admission.admit() as second:
        server.now_s += 1.0
        first.finish()
        server.now_s += 1.0
        second.finish()
    assert accepted(server, 60, left_s=3.5 / USABLE) == 3


def test_one_slow_start_does_not_turn_later_requests_away() -> None:
    server = Server()
    server.answer_one(turn_s=30.0)  # loads the model
    assert accepted(server, 5, left_s=2.5 / USABLE) == 1  # an idle server tries

    server = Server()
    for turn_s in (30.0, 1.0, 1.0):
        server.answer_one(turn_s)
    assert accepted(server, 5, left_s=2.5 / USABLE) == 2


def test_without_a_deadline_the_queue_is_the_only_limit() -> None:
    server = Server()
    server.answer_one()
    assert accepted(server, 80, left_s=1e6) == 65
