"""What `make soak` takes for drift, and what for the noise of a busy machine; that it tells what went wrong."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from soak.rounds import Disturbance, soak
from soak.strangers import wrong_statuses
from soak.verdict import Sample, drifts

ROOT = Path(__file__).parents[1]


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


# ---- rounds


class Patient:
    """Is disturbed in no time, and answers what it is told to."""

    def __init__(self, complains_after: str = "", dies_after: str = "") -> None:
        self.order: list[str] = []
        self._complains_after, self._dies_after = complains_after, dies_after

    def disturbances(self) -> list[Disturbance]:
        return [Disturbance(name, lambda name=name: self.order.append(name)) for name in "abc"]  # type: ignore[misc]

    def wait(self, seconds: float) -> None:
        assert seconds > 0

    def death(self) -> str | None:
        return "it died" if self.order and self.order[-1] == self._dies_after else None

    def sample(self) -> Sample:
        return Sample(100.0, 10.0)

    def complaints(self) -> list[str]:
        return ["it hurts"] if self.order[-1] == self._complains_after else []


@pytest.fixture
def three_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine rounds take a minute: the clock goes on by 6.4 s whenever the end is looked at."""
    clock = iter(6.4 * tick for tick in range(1000))
    monkeypatch.setattr("soak.rounds.clock_s", lambda: next(clock))


@pytest.mark.usefixtures("three_cycles")
def test_every_disturbance_comes_once_in_each_cycle_in_an_order_of_its_own() -> None:
    patient = Patient()
    record = soak(patient, 1.0, seed=3)
    assert record.problems == []
    assert record.disturbances == {"a": 3, "b": 3, "c": 3}
    assert [sorted(patient.order[first:end]) for first, end in pairwise((0, 3, 6, 9))] == [["a", "b", "c"]] * 3
    assert record.summary()["samples"] == 18


@pytest.mark.usefixtures("three_cycles")
def test_a_complaint_is_told_with_the_disturbance_before_it() -> None:
    assert set(soak(Patient(complains_after="b"), 1.0, seed=0).problems) == {"after 'b': it hurts"}


@pytest.mark.usefixtures("three_cycles")
def test_a_death_ends_the_run() -> None:
    patient = Patient(dies_after="c")
    assert soak(patient, 1.0, seed=0).problems[0] == "it died"
    assert patient.order.count("c") == 1


@pytest.mark.usefixtures("three_cycles")
def test_rounds_in_which_the_machine_stood_still_are_counted_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soak.standstill.Standstills.any_since", lambda *_: True)
    record = soak(Patient(complains_after="b"), 1.0, seed=0)
    assert record.not_judged == sum(record.disturbances.values()) == 9
    assert record.problems == drifts([])  # no proof either


# ---- the bridge


def test_only_a_refusal_or_a_closed_connection_answers_nonsense() -> None:
    assert wrong_statuses([400, 422, None, 499]) == []
    assert wrong_statuses([200, 503]) == [f"nonsense was answered with status {status}" for status in (200, 503)]


def test_answers_are_counted_from_what_the_server_says_of_all_workers() -> None:
    pytest.importorskip("fastapi")
    from soak.bridge import served_in

    lines = [
        'depth_bridge_requests_total{method="POST",path="/metric_depth",status="200"} 7.0',
        'depth_bridge_requests_total{method="POST",path="/rel_depth",status="503"} 2.0',
        'depth_bridge_requests_total{method="POST",path="/pc",status="400"} 5.0',
        'depth_bridge_request_duration_seconds_count{path="/metric_depth"} 7.0',
    ]
    assert served_in("\n".join(lines)) == 9


# ---- the node is sent nonsense


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sample_of_malformed_messages_parameters_and_transitions_leaves_the_node_as_it_was() -> None:
    pytest.importorskip("rclpy")
    counts = ["--messages=200", "--parameter-sets=60", "--walks=4", f"--seed={random.randrange(10**6)}"]
    done = subprocess.run(
        [sys.executable, "-m", "soak.fuzz", *counts], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)["fuzz"]
    assert found["parameter_sets"]["values_taken"] > 10
    assert found["parameter_sets"]["values_refused"] > 10
    assert found["walks"]["transitions"] > 3


def test_a_walk_knows_what_a_lifecycle_refuses_and_ends_active() -> None:
    pytest.importorskip("rclpy")
    from lifecycle_msgs.msg import Transition

    from soak.walks import Step, random_walk, step_from

    assert step_from("active", Transition.TRANSITION_CLEANUP) == Step(Transition.TRANSITION_CLEANUP, False, "active")
    assert step_from("inactive", Transition.TRANSITION_CLEANUP).state == "unconfigured"
    walks = [random_walk(random.Random(seed)) for seed in range(50)]
    assert all(walk[-1].state == "active" for walk in walks)
    assert {step.state for walk in walks for step in walk} == {"active", "inactive", "unconfigured"}
    assert any(not step.succeeds for walk in walks for step in walk)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a parser library of ROS, about a module of Python's
def test_a_malformed_message_can_be_sent_and_is_rarely_the_good_one() -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from soak.fuzzed_node import CAMERAS
    from soak.good_messages import inputs_of
    from soak.malformed import malformed

    rng = random.Random(1)
    for _, good in [pair for name, own in CAMERAS.items() for pair in inputs_of(name, own)]:
        before = copy.deepcopy(good)
        sent = [malformed(good, rng) for _ in range(40)]
        for message in sent:
            assert isinstance(message, bytes) or serialize_message(message)
        assert sum(message == good for message in sent) < 10
        assert len({str(message) for message in sent}) > 20
        assert good == before
