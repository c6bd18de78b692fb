"""The simulated fleet: what queueing theory knows in closed form, that nothing is lost, and how it scales."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest

from benchmarks._arrivals import bursts, daily, poisson
from benchmarks._fleet import Fleet, Outcome, ReplicaSpec, Scaling, TurnTime

TURN_S = 0.1
UNLIMITED = 10**9


def fixed(batch: int, random: Random) -> float:
    return TURN_S


def exponential(batch: int, random: Random) -> float:
    return random.expovariate(1 / TURN_S)


def run(
    load: float, span_s: float, turn_s: TurnTime = fixed, *, replicas: int = 1, seed: int = 1, **limits: float
) -> Outcome:
    """Run replicas at a share of what they can do."""
    spec = ReplicaSpec(turn_s, **{"max_waiting": UNLIMITED, **limits})  # type: ignore[arg-type]
    rate_hz = load * replicas * spec.at_once / TURN_S
    return Fleet(spec, Scaling.fixed(replicas), seed).run(poisson(rate_hz, span_s, Random(seed)), span_s)


def mean_wait_s(outcome: Outcome) -> float:
    return sum(outcome.latencies_s) / outcome.answered - TURN_S


@pytest.mark.parametrize(
    ("turn_s", "devices", "expected"),
    [
        (exponential, 1, 0.7 / 0.3),  # M/M/1: load / (1 - load)
        (fixed, 1, 0.7 / 0.3 / 2),  # M/D/1: half of it
        (exponential, 3, 0.547),  # M/M/3: Erlang's C(3, 2.1) / (3 (1 - load))
    ],
)
def test_waiting_times_are_those_of_queueing_theory(turn_s: TurnTime, devices: int, expected: float) -> None:
    outcome = run(0.7, 6000, turn_s, devices=devices)
    assert mean_wait_s(outcome) == pytest.approx(expected * TURN_S, rel=0.06)
    assert outcome.busy_s / (devices * outcome.span_s) == pytest.approx(0.7, rel=0.02)


def test_a_full_queue_refuses_as_often_as_queueing_theory_says() -> None:
    outcome, places, load = run(0.9, 6000, exponential, max_waiting=4), 5, 0.9
    expected = (1 - load) * load**places / (1 - load ** (places + 1))  # M/M/1/5
    assert outcome.refused / outcome.offered == pytest.approx(expected, rel=0.06)


def test_overload_costs_nothing_of_the_rate_and_those_who_are_answered_wait_for_the_queue_alone() -> None:
    outcome = run(3.0, 300, replicas=4, max_waiting=8)
    assert outcome.images_per_s == pytest.approx(4 / TURN_S, rel=0.01)
    assert max(outcome.latencies_s) <= 9 * TURN_S + 1e-9
    assert outcome.late == 0


def test_nobody_is_answered_after_the_deadline_and_few_wait_for_nothing() -> None:
    outcome = run(3.0, 300, exponential, deadline_s=0.5)
    assert max(outcome.latencies_s) < 0.5 + 8 * TURN_S  # what began in time ends
    assert outcome.images_per_s > 0.95 / TURN_S
    assert outcome.late < 0.1 * outcome.answered


@pytest.mark.parametrize("load", [0.5, 3.0])
def test_every_request_is_answered_or_refused_or_late_or_still_there(load: float) -> None:
    outcome = run(load, 60, exponential, replicas=3, max_waiting=3, deadline_s=0.35)
    assert outcome.offered == len([*poisson(load * 3 / TURN_S, 60, Random(1))])


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, again, other = (run(0.8, 30, exponential, replicas=2, seed=seed) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_batches_are_filled_from_what_waits() -> None:
    def turn_s(batch: int, random: Random) -> float:
        return 0.05 + 0.01 * batch

    spec = ReplicaSpec(turn_s, max_batch=8, max_waiting=UNLIMITED)
    outcome = Fleet(spec, Scaling.fixed(1)).run(poisson(100, 60, Random(1)), 60)
    assert outcome.images_per_s == pytest.approx(8 / 0.13, rel=0.02)


def test_two_choices_keep_many_replicas_even() -> None:
    """With one choice it would be M/D/1 at each, 0.45 s of waiting at this load."""
    outcome = run(0.9, 60, replicas=100)
    assert mean_wait_s(outcome) < 0.2


def test_replicas_follow_the_load_as_ray_serve_says() -> None:
    scaling = Scaling(1, 8, target_ongoing_requests=2, upscale_delay_s=10, downscale_delay_s=60)
    spec = ReplicaSpec(fixed, start_s=5, max_waiting=UNLIMITED)
    rate_hz = 40.0  # needs four replicas
    arrivals = [*poisson(rate_hz, 300, Random(1))]
    busy = Fleet(spec, scaling).run(arrivals, 300)
    calm = Fleet(spec, scaling).run(arrivals, 1500)
    assert busy.images_per_s == pytest.approx(rate_hz, rel=0.02)
    assert 4 < busy.mean_replicas < 8
    assert calm.mean_replicas < busy.mean_replicas / 2, "most of them are gone when nobody asks"
    assert calm.cost_per_million(3.6) == pytest.approx(calm.replica_s / calm.answered * 1e3)


def test_a_fleet_of_none_starts_one_for_the_first_request_which_waits_for_it() -> None:
    spec = ReplicaSpec(fixed, start_s=5)
    outcome = Fleet(spec, Scaling(0, 2, downscale_delay_s=20)).run([10.0, 10.1], 100)
    assert outcome.answered == 2
    assert 5 < outcome.latencies_s[0] < 6.2
    assert outcome.replica_s == pytest.approx(5 + 30 + 20, abs=2), "its start, the load's memory, the delay"


def test_arrivals_have_the_rates_that_were_asked_for() -> None:
    day = [*daily(2.0, 1.8, 4000, Random(1), day_s=4000)]
    noon = sum(1800 <= time_s < 2200 for time_s in day)
    assert len(day) == pytest.approx(8000, rel=0.05)
    assert noon == pytest.approx(1.8 * 2 * 400, rel=0.1)
    burst = [*bursts(1.0, 20.0, 100, 10, 2000, Random(1))]
    assert sum(time_s % 100 >= 90 for time_s in burst) == pytest.approx(20 * 10 * 20, rel=0.1)
    assert all(one < other for one, other in itertools.pairwise(burst))
    assert math.isfinite(burst[-1])
