"""Rates, latencies and stage times are of the last seconds, and say nothing of what was not measured."""

from __future__ import annotations

import math

import pytest

from depth_anything_ros.node.frame_statistics import WINDOW_S, FrameStatistics


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_before_the_first_frame_there_are_rates_of_zero_and_nothing_else() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    clock.now_s += 1.0
    assert statistics.summary() == {"rate_in_hz": 0.0, "rate_out_hz": 0.0}
    assert statistics.age_s() is None


def test_rates_are_of_the_time_since_the_start_then_of_the_window() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    for count in range(1, 41):  # 4 Hz in, 2 Hz out
        clock.now_s += 0.25
        statistics.received()
        if count % 2 == 0:
            statistics.published(0.1, {})
        if count == 8:
            assert statistics.summary()["rate_in_hz"] == pytest.approx(4.0)
    summary = statistics.summary()
    assert (summary["rate_in_hz"], summary["rate_out_hz"]) == pytest.approx((4.0, 2.0))
    clock.now_s += WINDOW_S / 2
    assert statistics.summary()["rate_in_hz"] == pytest.approx(2.0, abs=0.2)
    clock.now_s += WINDOW_S
    assert statistics.summary() == {"rate_in_hz": 0.0, "rate_out_hz": 0.0}


def test_losses_are_of_the_window() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    assert statistics.recent_losses() == (0, 0)
    for _ in range(3):
        statistics.received()
    statistics.lost(2)
    clock.now_s += WINDOW_S / 2
    statistics.lost(4)
    assert statistics.recent_losses() == (6, 9)
    clock.now_s += WINDOW_S / 2 + 1
    assert statistics.recent_losses() == (4, 4)
    clock.now_s += WINDOW_S
    assert statistics.recent_losses() == (0, 0)


def test_latency_percentiles_and_the_median_of_each_stage_are_in_milliseconds() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    for number in range(101):
        statistics.published(number / 1000, {"network": number / 2000})
    statistics.published(0.05, {"network": 0.025, "back_projection": 0.003})  # a cloud of one frame only
    summary = statistics.summary()
    assert [summary[f"latency_p{p}_ms"] for p in (50, 95, 99)] == pytest.approx([50.0, 95.0, 99.0], abs=0.5)
    assert summary["network_ms"] == pytest.approx(25.0)
    assert summary["back_projection_ms"] == pytest.approx(3.0)


def test_times_by_another_clock_are_left_out() -> None:
    statistics = FrameStatistics(Clock())
    statistics.published(math.nan, {"transport": math.nan, "network": 0.02})
    assert set(statistics.summary()) == {"rate_in_hz", "rate_out_hz", "network_ms"}
    statistics.published(0.03, {"transport": 0.004, "network": 0.02})
    summary = statistics.summary()
    assert (summary["latency_p50_ms"], summary["transport_ms"]) == pytest.approx((30.0, 4.0))


def test_the_age_is_that_of_the_last_image() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    statistics.received()
    clock.now_s += 2.5
    assert statistics.age_s() == pytest.approx(2.5)


def test_a_day_at_30_hz_takes_no_more_memory_than_the_window() -> None:
    clock = Clock()
    statistics = FrameStatistics(clock)
    for _ in range(5000):
        clock.now_s += 1 / 30
        statistics.received()
        statistics.published(0.01, {"network": 0.01})
    kept = (len(statistics._received_s), len(statistics._published))
    assert max(kept) <= WINDOW_S * 30 + 1
