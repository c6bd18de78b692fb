"""After a failure the device is tried again: at once, then ever more rarely, for as long as it takes."""

from __future__ import annotations

import pytest

from depth_anything_ros.node.recovery import LONGEST_WAIT_S, LOST_AFTER, Recovery


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_failure_costs_no_wait_and_every_further_one_twice_the_last(clock: Clock) -> None:
    recovery, waits_s = Recovery(clock), []
    for _ in range(8):
        recovery.failed("unwell")
        waits_s.append(recovery.wait_s)
    assert waits_s == pytest.approx([0.0, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_WAIT_S, LONGEST_WAIT_S])


def test_the_wait_ends_with_its_time(clock: Clock) -> None:
    recovery = Recovery(clock)
    recovery.failed("unwell")
    recovery.failed("unwell")
    clock.now_s += 0.15
    assert recovery.wait_s == pytest.approx(0.05)
    clock.now_s += 1.0
    assert recovery.wait_s == 0.0


def test_a_device_may_be_lost_for_a_week(clock: Clock) -> None:
    recovery = Recovery(clock)
    for _ in range(100_000):
        recovery.failed("lost")
    assert recovery.wait_s == pytest.approx(LONGEST_WAIT_S)


def test_it_is_lost_after_some_failures_in_a_row_and_a_success_forgets_them(clock: Clock) -> None:
    recovery = Recovery(clock)
    for number in range(1, LOST_AFTER + 1):
        assert not recovery.is_lost
        recovery.failed(f"failure {number}")
    assert recovery.is_lost
    assert (recovery.failures, recovery.reason) == (LOST_AFTER, f"failure {LOST_AFTER}")
    recovery.succeeded()
    assert (recovery.failures, recovery.reason, recovery.wait_s, recovery.is_lost) == (0, "", 0.0, False)
