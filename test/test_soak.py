"""What `make soak` takes for drift, and what for the noise of a busy machine."""

from __future__ import annotations

import pytest

from soak.verdict import Sample, drifts


def run(memory_mib: list[float], latency_ms: list[float | None]) -> list[Sample]:
    """Four samples of each third."""
    return [Sample(m, ms) for m, ms in zip(memory_mib, latency_ms, strict=True) for _ in range(4)]


FLAT: list[float | None] = [10.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("memory_mib", "latency_ms"),
    [
        ([300.0, 300.0, 300.0], [10.0, 10.0, 10.0]),
        ([100.0, 500.0, 500.0], [10.0, 90.0, 90.0]),  # the start is free
        ([300.0, 300.0, 319.0], [10.0, 10.0, 19.0]),  # small numbers
        ([1000.0, 1000.0, 1049.0], [100.0, 100.0, 149.0]),  # small shares
        ([500.0, 400.0, 300.0], [30.0, 20.0, 10.0]),
    ],
)
def test_what_stays_within_bounds_passes(memory_mib: list[float], latency_ms: list[float | None]) -> None:
    assert drifts(run(memory_mib, latency_ms)) == []


def test_memory_that_grows_is_told_with_its_numbers() -> None:
    assert drifts(run([300.0, 310.0, 331.0], FLAT)) == [
        "memory drifts: 310 MiB in the second third, 331 in the last; allowed: 20 more"
    ]


def test_latency_that_grows_is_told_with_its_numbers() -> None:
    assert drifts(run([300.0] * 3, [10.0, 40.0, 61.0])) == [
        "latency drifts: 40 ms in the second third, 61 in the last; allowed: 20 more"
    ]


def test_one_odd_sample_is_no_drift() -> None:
    samples = run([300.0] * 3, FLAT)
    samples[-1] = Sample(900.0, 500.0)
    assert drifts(samples) == []


def test_a_third_without_a_frame_is_no_proof() -> None:
    assert drifts(run([300.0] * 3, [10.0, 10.0, None])) == ["latency: a third of the run has no sample"]
    assert drifts([]) == ["memory: a third of the run has no sample", "latency: a third of the run has no sample"]
