"""A fleet of replicas, simulated with SimPy: where requests go, how long they wait, how many replicas there are.

What is modelled is what decides: turns on a replica's devices, batches, the bounded queue and its two refusals, Ray
Serve's choice of a replica and its autoscaling. What is not: the network, the proxies, and how processes of one
machine take cores from each other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import simpy

from bridge.server.admission import USABLE

TurnTime = Callable[[int, Random], float]  # seconds that a batch of so many images takes
Process = Generator[simpy.Event, Any, None]

CONTROL_PERIOD_S = 0.5
LOOK_BACK_S = 30.0  # Ray Serve's default look_back_period_s
LATENCY_RUNS = 99


@dataclass(frozen=True)
class ReplicaSpec:
    """What each replica has; the limits are the bridge's settings of these names.

    Attributes:
        turn_s: time of a batch.
        devices: batches that run at once.
        max_batch: images in one.
        max_waiting: requests that may wait beyond those that run.
        deadline_s: what would hardly be answered in time is turned away; what would end later is not begun.
        start_s: from the decision for a replica until it takes requests.
    """

    turn_s: TurnTime
    devices: int = 1
    max_batch: int = 1
    max_waiting: int = 64
    deadline_s: float = math.inf
    start_s: float = 10.0

    @property
    def at_once(self) -> int:
        """Images that its devices work on at once."""
        return self.devices * self.max_batch

    @property
    def places(self) -> int:
        """Requests that are in it at most."""
        return self.at_once + self.max_waiting

    def mean_turn_s(self) -> float:
        """Mean time of a full batch."""
        random = Random(0)
        return sum(self.turn_s(self.max_batch, random) for _ in range(LATENCY_RUNS)) / LATENCY_RUNS


@dataclass(frozen=True)
class Scaling:
    """How many replicas there are; the delays are Ray Serve's defaults.

    Attributes:
        target_ongoing_requests: for each replica, in the mean of the last 30 s; more adds replicas, less removes some.
        upscale_delay_s: for so long it has to be more.
        downscale_delay_s: for so long it has to be less.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0

    @staticmethod
    def fixed(replicas: int) -> Scaling:
        """So many at all times."""
        return Scaling(replicas, replicas)

    def wanted(self, ongoing: float) -> int:
        """Replicas for so many requests that wait or run."""
        wanted = math.ceil(ongoing / self.target_ongoing_requests - 1e-9)
        return min(self.max_replicas, max(self.min_replicas, wanted))


@dataclass
class Outcome:
    """What came of the requests.

    Attributes:
        latencies_s: of those that were answered, from arrival to answer.
        refused: turned away at once: the queue was full, or the answer would have come too late.
        late: given up when their turn came, because it would have ended after their deadline.
        unfinished: neither, when the simulation ended.
        replica_s: seconds that replicas were there, starting ones included.
        busy_s: seconds that their devices worked.
        span_s: seconds that were simulated.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    late: int = 0
    unfinished: int = 0
    replica_s: float = 0.0
    busy_s: float = 0.0
    span_s: float = 0.0

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return len(self.latencies_s)

    @property
    def offered(self) -> int:
        """Requests that came."""
        return self.answered + self.refused + self.late + self.unfinished

    @property
    def images_per_s(self) -> float:
        """Rate of answers."""
        return self.answered / self.span_s

    @property
    def mean_replicas(self) -> float:
        """Replicas that were paid for, in the mean."""
        return self.replica_s / self.span_s

    def latency_s(self, share: float) -> float:
        """Quantile of the latencies; NaN without an answer."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan

    def cost_per_million(self, price_per_hour: float) -> float:
        """What a million answers cost at a price for one replica's hour; infinite without an answer."""
        return price_per_hour * self.replica_s / 3600 / self.answered * 1e6 if self.answered else math.inf


class Replica:
    """One replica: a queue, and a process for each device that takes batches from it."""

    def __init__(self, env: simpy.Environment, spec: ReplicaSpec, outcome: Outcome, random: Random) -> None:
        self._env = env
        self._spec = spec
        self._outcome = outcome
        self._random = random
        self._turn_s = spec.mean_turn_s()
        self._waiting: deque[float] = deque()
        self._idle: list[simpy.Event] = []
        self._running = 0
        for _ in range(spec.devices):
            env.process(self._work())

    @property
    def ongoing(self) -> int:
        """Requests that wait or run."""
        return len(self._waiting) + self._running

    def offer(self, arrived_s: float) -> None:
        """Take a request, or refuse it as the bridge does: no place, or the answer would come too late."""
        turns = self.ongoing // self._spec.at_once + 1
        left_s = arrived_s + self._spec.deadline_s - self._env.now
        is_late = self.ongoing > 0 and turns * self._turn_s > USABLE * left_s
        if is_late or self.ongoing >= self._spec.places:
            self._outcome.refused += 1
            return
        self._waiting.append(arrived_s)
        if self._idle:
            self._idle.pop().succeed()

    def _work(self) -> Process:
        while True:
            batch = self._next_batch()
            if not batch:
                woken = self._env.event()
                self._idle.append(woken)
                yield woken
                continue
            self._running += len(batch)
            took_s = self._spec.turn_s(len(batch), self._random)
            yield self._env.timeout(took_s)
            self._running -= len(batch)
            self._outcome.busy_s += took_s
            self._outcome.latencies_s += [self._env.now - arrived_s for arrived_s in batch]

    def _next_batch(self) -> list[float]:
        batch: list[float] = []
        while self._waiting and len(batch) < self._spec.max_batch:
            arrived_s = self._waiting.popleft()
            waited_s = self._env.now - arrived_s
            if waited_s > 0 and waited_s + self._turn_s > self._spec.deadline_s:
                self._outcome.late += 1
            else:
                batch.append(arrived_s)
        return batch


class Fleet:
    """Replicas behind a router that also starts and removes them.

    Args:
        seed: of all that is random; the same seed gives the same outcome.
    """

    def __init__(self, spec: ReplicaSpec, scaling: Scaling, seed: int = 0) -> None:
        self._env = simpy.Environment()
        self._spec = spec
        self._scaling = scaling
        self._random = Random(seed)
        self._outcome = Outcome()
        self._ready: list[Replica] = []
        self._leaving: list[Replica] = []
        self._starting = 0
        self._held: deque[float] = deque()  # before the replicas, while none is there

    def run(self, arrivals: Iterable[float], span_s: float) -> Outcome:
        """Let requests arrive at these seconds, which ascend, until `span_s`."""
        for _ in range(self._scaling.min_replicas):
            self._add()
        self._env.process(self._arrive(arrivals))
        self._env.process(self._control())
        self._env.run(until=span_s)
        replicas = [*self._ready, *self._leaving]
        self._outcome.unfinished = len(self._held) + sum(replica.ongoing for replica in replicas)
        self._outcome.span_s = span_s
        return self._outcome

    def _arrive(self, arrivals: Iterable[float]) -> Process:
        for time_s in arrivals:
            yield self._env.timeout(time_s - self._env.now)
            self._route()

    def _route(self) -> None:
        """Take two replicas by chance, and of them the one with less to do, as Ray Serve does."""
        if self._ready:
            pair = (self._random.choice(self._ready), self._random.choice(self._ready))
            min(pair, key=lambda replica: replica.ongoing).offer(self._env.now)
        elif len(self._held) < self._spec.places:
            self._held.append(self._env.now)
        else:
            self._outcome.refused += 1

    def _control(self) -> Process:
        """Ray Serve's rule: replicas for the mean load of the last while, once that has held for the delay."""
        loads: deque[int] = deque(maxlen=round(LOOK_BACK_S / CONTROL_PERIOD_S))
        beyond_s = below_s = 0.0
        while True:
            yield self._env.timeout(CONTROL_PERIOD_S)
            present = len(self._ready) + self._starting
            self._outcome.replica_s += CONTROL_PERIOD_S * (present + len(self._leaving))
            self._leaving = [replica for replica in self._leaving if replica.ongoing]
            loads.append(len(self._held) + sum(replica.ongoing for replica in self._ready))
            wanted = self._scaling.wanted(sum(loads) / len(loads))
            if self._held and not present:
                self._start(max(1, wanted))  # without a delay
                continue
            beyond_s = beyond_s + CONTROL_PERIOD_S if wanted > present else 0.0
            below_s = below_s + CONTROL_PERIOD_S if wanted < present else 0.0
            if beyond_s > self._scaling.upscale_delay_s:
                self._start(wanted - present)
                beyond_s = 0.0
            elif below_s > self._scaling.downscale_delay_s:
                self._remove(present - wanted)
                below_s = 0.0

    def _start(self, count: int) -> None:
        self._starting += count
        for _ in range(count):
            self._env.process(self._load())

    def _load(self) -> Process:
        yield self._env.timeout(self._spec.start_s)
        self._starting -= 1
        self._add()

    def _add(self) -> None:
        replica = Replica(self._env, self._spec, self._outcome, self._random)
        self._ready.append(replica)
        while self._held:
            replica.offer(self._held.popleft())

    def _remove(self, count: int) -> None:
        """Those with least to do get nothing new, and go once they have answered what they have."""
        self._ready.sort(key=lambda replica: replica.ongoing, reverse=True)
        keep = max(0, len(self._ready) - count)
        self._leaving += self._ready[keep:]
        del self._ready[keep:]
