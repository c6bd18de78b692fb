"""A plan: which backend, precision and layout of linear layers is fastest here and true enough. Measured, then kept."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.backends.fidelity import Room, Verdict, judge
from depth_anything_ros.backends.per_shape import Size
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.depth_network import Outputs

logger = logging.getLogger(__name__)

Run = Callable[[Tensor], Outputs]
Clock = Callable[[], float]
Judge = Callable[[Sequence[Outputs], Sequence[Outputs], Sequence[Room]], Verdict]
# A candidate that is this many times slower than another of its precision is not timed any further.
HOPELESS = 2.0
FIRST_RUNS = 2
MAX_PLAN_BYTES = 1 << 16


@dataclass(frozen=True)
class Candidate:
    """One way to run a network.

    Attributes:
        backend, precision: as in `protocol`; the precision is never `auto`.
        layout: of torch's linear layers in fp32, a name in `torch_backend.LAYOUTS`; empty elsewhere.
        threads: of one inference; 0 is torch's number.
    """

    backend: str
    precision: str
    layout: str = ""
    threads: int = 0

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.backend} {self.precision}" + (f" ({self.layout})" if self.layout else "") + threads


@dataclass(frozen=True)
class Row:
    """What came out for one candidate: milliseconds an image (None: it does not run), whether to use it, and why."""

    candidate: Candidate
    ms: float | None
    accepted: bool
    says: str


@dataclass(frozen=True)
class Plan:
    """All candidates, measured at one size of the network's input (h, w)."""

    size: Size
    rows: tuple[Row, ...]

    @property
    def best(self) -> Candidate:
        """The fastest candidate that may be used. Raises BackendError: there is none."""
        usable = [(row.ms, index) for index, row in enumerate(self.rows) if row.accepted and row.ms is not None]
        if not usable:
            said = "; ".join(f"{row.candidate}: {row.says}" for row in self.rows)
            raise BackendError(f"nothing here runs this network as torch does: {said}")
        return self.rows[min(usable)[1]].candidate

    def to_json(self) -> bytes:
        """As `from_json` reads it."""
        rows = [[str(row.candidate), row.ms, row.accepted, row.says] for row in self.rows]
        return json.dumps({"size": self.size, "rows": rows}).encode()

    @staticmethod
    def from_json(content: bytes, candidates: Sequence[Candidate]) -> Plan:
        """Read a plan that names these candidates, and no others. Raises ValueError for anything else."""
        known = {str(candidate): candidate for candidate in candidates}
        try:
            if len(content) > MAX_PLAN_BYTES:
                raise ValueError("it is too large")
            said = json.loads(content)
            height, width = map(int, said["size"])
            rows = tuple(_row(known, *row) for row in said["rows"])
            plan = Plan((height, width), rows)
            plan.best  # noqa: B018  # raises without one
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, BackendError) as error:
            raise ValueError(f"this is no plan: {error}") from error
        return plan


def _row(known: dict[str, Candidate], name: str, ms: float | None, accepted: bool, says: str) -> Row:
    if not isinstance(accepted, bool) or not isinstance(says, str):
        raise ValueError("a row of another kind")
    if ms is not None and not 0 < float(ms) < float("inf"):
        raise ValueError("a time that is none")
    return Row(known[name], None if ms is None else float(ms), accepted, says)


class PlanStore:
    """Keeps the plans of one network on one machine.

    Args:
        folder: where; None keeps nothing.
        identity: what a plan depends on, beside the size: weights, processor, versions, threads, what was asked for.
        candidates: that a plan may name.
    """

    def __init__(self, folder: Path | None, identity: tuple[object, ...], candidates: Sequence[Candidate]) -> None:
        self._cache = BlobCache(folder)
        self._identity = ("plan", *identity)
        self._candidates = candidates

    def load(self, size: Size | None) -> Plan | None:
        """Return the plan of a size, or the last one of any size, which tells nearly as much; None without one."""
        for key in (size, "any"):
            content = None if key is None else self._cache.load(key, *self._identity)
            if content is None:
                continue
            try:
                return Plan.from_json(content, self._candidates)
            except ValueError as error:
                logger.warning("a kept plan is ignored: %s", error)
        return None

    def keep(self, plan: Plan) -> None:
        """Keep a plan for its size, and as the last one."""
        for key in (plan.size, "any"):
            self._cache.store(plan.to_json(), key, *self._identity)


def measure(
    candidates: Sequence[Candidate],
    make: Callable[[Candidate], Run],
    scenes: Sequence[Room],
    expected: Sequence[Outputs],
    clock: Clock = time.perf_counter,
    verdict: Judge = judge,
) -> tuple[Row, ...]:
    """Time candidates on the pictures of rooms, in turn, and judge what they say.

    Args:
        make: builds a candidate. What raises BackendError does not run here.
        expected: what torch says of the pictures in fp32.
    """
    rows: dict[Candidate, Row] = {}
    running: dict[Candidate, Run] = {}
    first_s: dict[Candidate, float] = {}
    for candidate in candidates:
        try:
            running[candidate] = run = make(candidate)
            run(scenes[0].x)  # what is built at the first image
            first_s[candidate] = min(_timed(run, scenes[0].x, clock)[0] for _ in range(FIRST_RUNS))
        except BackendError as error:
            running.pop(candidate, None)
            rows[candidate] = Row(candidate, None, False, str(error))
    for candidate, taken_s in first_s.items():
        rivals = [other_s for other, other_s in first_s.items() if other.precision == candidate.precision]
        if taken_s > HOPELESS * min(rivals):
            del running[candidate]
            rows[candidate] = Row(candidate, 1e3 * taken_s, False, "slower than another way to the same precision")
    times_s: dict[Candidate, list[float]] = {candidate: [] for candidate in running}
    found: dict[Candidate, list[Outputs]] = {candidate: [] for candidate in running}
    for room in scenes:
        for candidate, run in running.items():
            taken_s, outputs = _timed(run, room.x, clock)
            times_s[candidate].append(taken_s)
            found[candidate].append(outputs)
    for candidate in running:
        said = verdict(found[candidate], expected, scenes)
        ms = 1e3 * min(times_s[candidate])  # other work on the machine can only add to it
        rows[candidate] = Row(candidate, ms, said.accepted, str(said))
    return tuple(rows[candidate] for candidate in candidates)


def _timed(run: Run, x: Tensor, clock: Clock) -> tuple[float, Outputs]:
    start = clock()
    outputs = run(x)
    return clock() - start, outputs


def table(plan: Plan) -> list[str]:
    """The plan as lines of text, fastest first; the chosen candidate is marked."""
    height, width = plan.size
    ordered = sorted(plan.rows, key=lambda row: float("inf") if row.ms is None else row.ms)
    lines = [f"{'':2}{'candidate':<34}{'ms':>9}  against torch fp32, network input {width}x{height}"]
    for row in ordered:
        mark = "* " if row.candidate == plan.best else "  "
        ms = "-" if row.ms is None else f"{row.ms:.1f}"
        lines.append(f"{mark}{row.candidate!s:<34}{ms:>9}  {row.says}")
    return lines
