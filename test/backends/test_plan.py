"""The plan: the fastest way that is true enough is measured once for a machine, kept, and obeyed."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from stand_in import Weights

from depth_anything_ros.backends import create_backend, fidelity, linear_layout, parity, planned_backend
from depth_anything_ros.backends.fidelity import Room, Verdict, judge, looks_trained, rooms
from depth_anything_ros.backends.linear_layout import CONVOLUTION, MATMUL, PointwiseLinear, faster_of
from depth_anything_ros.backends.network_source import NetworkSource, twin
from depth_anything_ros.backends.plan import Candidate, Plan, PlanStore, Row, measure, table
from depth_anything_ros.backends.planned_backend import PlannedBackend, candidates_for
from depth_anything_ros.backends.protocol import Backend
from depth_anything_ros.backends.torch_backend import TorchBackend
from depth_anything_ros.cli import main
from depth_anything_ros.errors import BackendError
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.weights import DEMONSTRATION, load_model

CPU = torch.device("cpu")
SIZE = (28, 42)
FAST, SLOW, WRONG = Candidate("openvino", "bf16"), Candidate("torch", "fp32", MATMUL), Candidate("openvino", "fp32")
X = torch.zeros(1, 3, *SIZE)


def network(weights: Weights) -> DepthNetwork:
    built = build_model("toy", "hypersim").eval().requires_grad_(False)
    built.load_state_dict(weights)
    return built


def verdict(median: float = 0.0, p99: float = 0.0, abs_rel: float | None = 0.0, trained: bool = True) -> Verdict:
    return Verdict(trained, median, p99, abs_rel, sane=True)


class Stopped:
    """A clock that stands still, but for what candidates say that they take."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.runs: list[Candidate] = []

    def __call__(self) -> float:
        return self.now_s

    def taking(self, taken_s: dict[Candidate, float]) -> Callable[[Candidate], Callable[[torch.Tensor], Outputs]]:
        def make(candidate: Candidate) -> Callable[[torch.Tensor], Outputs]:
            def run(x: torch.Tensor) -> Outputs:
                self.now_s += taken_s[candidate]
                self.runs.append(candidate)
                return {"depth": torch.full((1, *x.shape[2:]), taken_s[candidate])}

            return run

        return make


def measured(taken_s: dict[Candidate, float], verdicts: dict[float, Verdict] | None = None) -> Plan:
    clock = Stopped()

    def says(found: Sequence[Outputs], *_: object) -> Verdict:
        return (verdicts or {}).get(round(float(found[0]["depth"].max()), 3), verdict())

    scenes = [Room(X, torch.ones(SIZE))] * 3
    return Plan(SIZE, measure(list(taken_s), clock.taking(taken_s), scenes, [{}] * 3, clock, says))


# ---- what is chosen


def test_the_fastest_is_chosen_that_is_true_enough() -> None:
    assert measured({SLOW: 0.5, FAST: 0.1, WRONG: 0.3}).best == FAST
    too_far = {0.1: verdict(median=0.003)}
    plan = measured({SLOW: 0.5, FAST: 0.1, WRONG: 0.3}, too_far)
    assert plan.best == WRONG
    assert [row.ms for row in plan.rows] == pytest.approx([500, 100, 300])


def test_what_is_twice_as_slow_as_another_of_its_precision_is_not_timed_any_further() -> None:
    clock = Stopped()
    scenes = [Room(X, torch.ones(SIZE))] * 3
    rows = measure([SLOW, WRONG], clock.taking({SLOW: 0.7, WRONG: 0.3}), scenes, [{}] * 3, clock, lambda *_: verdict())
    assert (rows[0].accepted, rows[1].accepted) == (False, True)
    assert (clock.runs.count(SLOW), clock.runs.count(WRONG)) == (3, 6)


def test_what_does_not_run_here_is_a_row_and_no_end() -> None:
    def make(candidate: Candidate) -> Callable[[torch.Tensor], Outputs]:
        if candidate == FAST:
            raise BackendError("no such instruction")
        return lambda x: {"depth": x[:, 0]}

    rows = measure([FAST, SLOW], make, [Room(X, torch.ones(SIZE))], [{}], verdict=lambda *_: verdict())
    assert (rows[0].ms, rows[0].says) == (None, "no such instruction")
    plan = Plan(SIZE, rows)
    assert plan.best == SLOW
    assert [line[:8] for line in table(plan)[1:]] == ["* torch ", "  openvi"]
    with pytest.raises(BackendError, match="nothing here runs this network as torch does: openvino bf16: no such"):
        Plan(SIZE, rows[:1]).best  # noqa: B018


def test_the_table_shows_the_fastest_first_and_marks_the_choice() -> None:
    lines = table(measured({SLOW: 0.5, FAST: 0.1}, {0.1: verdict(p99=0.02)}))
    assert lines[1].startswith("  openvino bf16")
    assert "too far from torch" in lines[1]
    assert lines[2].startswith("* torch fp32 (matmul)")


def test_names_leave_only_what_they_name() -> None:
    for backend, precision in itertools.product(("auto", "torch"), ("auto", "fp32", "bf16")):
        found = candidates_for(backend, precision, threads=2)
        assert found
        assert {each.precision for each in found} <= ({precision} if precision != "auto" else {"fp32", "bf16"})
        assert backend == "auto" or {each.backend for each in found} == {backend}
    assert {each.threads for each in candidates_for("openvino", "fp32", 8, thorough=True)} == {0, 4}


def test_the_layout_of_linear_layers_is_the_one_that_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Stopped()

    def takes(taken_s: float) -> Callable[..., torch.Tensor]:
        def forward(_: object, x: torch.Tensor) -> torch.Tensor:
            clock.now_s += taken_s
            return x

        return forward

    monkeypatch.setattr(torch.nn.Linear, "forward", takes(1.0))
    for taken_s, expected in ((0.5, CONVOLUTION), (0.99, MATMUL), (2.0, MATMUL)):
        monkeypatch.setattr(PointwiseLinear, "forward", takes(taken_s))
        assert faster_of(8, clock) == expected


def test_the_layout_is_measured_once_for_a_machine(toy_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_layout, "faster_of", lambda width: CONVOLUTION)
    TorchBackend(network(toy_weights), CPU, "fp32", cache_folder=cache_folder())
    monkeypatch.setattr(linear_layout, "faster_of", None)
    again = TorchBackend(network(toy_weights), CPU, "fp32", cache_folder=cache_folder())
    assert any(isinstance(module, PointwiseLinear) for module in again.network.modules())


# ---- true enough


def test_trained_weights_are_held_to_the_limits() -> None:
    assert verdict(0.002, 0.01, 0.0005).accepted
    for off in ({"median": 0.0021}, {"p99": 0.0101}, {"abs_rel": 0.0006}, {"abs_rel": -0.0006}, {"median": torch.nan}):
        assert not verdict(**off).accepted, off  # type: ignore[arg-type]
    assert verdict(abs_rel=None).accepted, "no truth to compare with"


def test_random_weights_are_not_refused_but_it_is_said_that_they_tell_nothing() -> None:
    random = verdict(0.01, 0.3, None, trained=False)
    assert random.accepted
    assert "look random, which cannot judge rounding" in str(random)
    assert not Verdict(False, 0.01, 0.3, None, sane=False).accepted, "no rounding moves depth so far"


def test_a_precision_by_name_is_obeyed() -> None:
    assert Verdict(True, 0.01, 0.3, None, sane=True, lenient=True).accepted
    assert not Verdict(True, 0.01, 0.3, None, sane=False, lenient=True).accepted


@pytest.fixture(scope="module")
def demonstration() -> tuple[DepthNetwork, list[Room], list[Outputs]]:
    """The demonstration model, rooms, and what torch says of them in fp32."""
    built, scenes = load_model(*DEMONSTRATION).network, rooms((168, 224), 3)
    return built, scenes, [parity.reference(built, room.x) for room in scenes]


def test_depth_that_goes_with_the_truth_tells_trained_weights(
    demonstration: tuple[DepthNetwork, list[Room], list[Outputs]], toy_weights: Weights
) -> None:
    _, scenes, expected = demonstration
    assert looks_trained(expected, scenes)
    inverse = [{"depth": 1 / says["depth"]} for says in expected]
    assert looks_trained(inverse, scenes), "relative depth is inverse"
    small = rooms(SIZE)
    assert not looks_trained([parity.reference(network(toy_weights), room.x) for room in small], small)


def test_the_demonstration_model_is_true_enough_in_bfloat16_and_not_in_less(
    demonstration: tuple[DepthNetwork, list[Room], list[Outputs]],
) -> None:
    built, scenes, expected = demonstration
    half = twin(built)
    for parameter in half.parameters():
        parameter.data = parameter.data.clone()
    running = TorchBackend(half, CPU, "bf16")
    said = judge([running(room.x) for room in scenes], expected, scenes)
    assert said.trained
    assert said.accepted, said
    assert 0 < said.median <= fidelity.MEDIAN_LIMIT
    assert said.abs_rel is not None
    farther = [{"depth": 1.003 * says["depth"]} for says in expected]
    assert not judge(farther, expected, scenes).accepted
    broken = [{"depth": torch.full_like(says["depth"], torch.nan)} for says in expected]
    assert not judge(broken, expected, scenes).accepted


# ---- what is kept


def store(folder: Path, *identity: object) -> PlanStore:
    return PlanStore(folder, identity, [FAST, SLOW])


def plan_of(size: tuple[int, int] = SIZE) -> Plan:
    return Plan(size, (Row(FAST, 10.0, True, "fine"), Row(SLOW, None, False, "does not run")))


def test_a_plan_is_kept_for_its_weights_machine_and_size_and_else_the_last_one_is_taken(tmp_path: Path) -> None:
    kept, other = plan_of(), plan_of((56, 56))
    store(tmp_path, "machine", "weights").keep(kept)
    store(tmp_path, "machine", "weights").keep(other)
    assert store(tmp_path, "machine", "weights").load(SIZE) == kept
    assert store(tmp_path, "machine", "weights").load((70, 70)) == other
    assert store(tmp_path, "machine", "other weights").load(SIZE) is None
    assert store(tmp_path, "other machine", "weights").load(SIZE) is None
    assert PlanStore(None, (), [FAST]).load(SIZE) is None


GOOD = json.loads(plan_of().to_json())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04N.",
        b"[" * 100_000,
        b"null",
        json.dumps(GOOD | {"size": [1]}).encode(),
        json.dumps(GOOD | {"rows": []}).encode(),
        json.dumps(GOOD | {"rows": [["../../etc/passwd", 1.0, True, ""]]}).encode(),
        json.dumps(GOOD | {"rows": [[str(FAST), -1.0, True, ""]]}).encode(),
        json.dumps(GOOD | {"rows": [[str(FAST), 1.0, "yes", ""]]}).encode(),
        json.dumps(GOOD | {"rows": [[str(FAST), 1.0, False, ""]]}).encode(),
    ],
)
def test_what_is_no_plan_is_ignored_with_a_word(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(tmp_path, "machine")
    kept._cache.store(content, SIZE, *kept._identity)
    assert kept.load(SIZE) is None
    assert "a kept plan is ignored" in caplog.text


def test_a_damaged_file_is_ignored(tmp_path: Path) -> None:
    store(tmp_path).keep(plan_of())
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert store(tmp_path).load(SIZE) is None


# ---- the backend that goes by it


def planned(source: NetworkSource, build: Callable[[Candidate], Backend], background: bool = False) -> PlannedBackend:
    return PlannedBackend(source, [FAST, SLOW], cache_folder(), build=build, background=background)


def torch_backend(source: NetworkSource) -> Callable[[Candidate], Backend]:
    """Runs everything in torch."""
    return lambda candidate: TorchBackend(twin(source.get()), CPU, "fp32", layout=MATMUL)


def test_the_second_start_obeys_the_plan_and_measures_nothing(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = NetworkSource(network(toy_weights))
    rows = (Row(FAST, 1.0, True, "fine"), Row(SLOW, 9.0, True, "fine"))

    def taken(candidates: object, make: Callable[[Candidate], object], *_: object, **__: object) -> tuple[Row, ...]:
        make(FAST)
        return rows

    monkeypatch.setattr(planned_backend, "measure", taken)
    planned(source, torch_backend(source))(X)
    assert "measuring 2 ways to run this network" in caplog.text
    monkeypatch.setattr(planned_backend, "measure", None)
    chosen: list[Candidate] = []

    def build(candidate: Candidate) -> Backend:
        chosen.append(candidate)
        return torch_backend(source)(candidate)

    again = planned(source, build)
    assert (again.name, again.precision) == ("openvino", "bf16"), "what will run, before it does"
    again(X)
    again(torch.zeros(1, 3, 56, 56))
    assert chosen == [FAST]
    assert "openvino bf16: by the plan measured here before" in caplog.text


def test_auto_measures_real_backends_and_says_what_torch_says(
    toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = create_backend("auto", network(toy_weights), CPU, "fp32", cache_folder())
    x = parity.probe_image(*SIZE)
    assert parity.difference(backend(x), parity.reference(network(toy_weights), x)).within(parity.FP32_LIMIT)
    assert backend.precision == "fp32"
    assert "measuring 3 ways" in caplog.text
    for name in ("openvino fp32", "torch fp32 (matmul)", "torch fp32 (1x1 convolution)"):
        assert f"{name}: " in caplog.text
    caplog.clear()
    create_backend("auto", network(toy_weights), CPU, "fp32", cache_folder())(x)
    assert "measuring" not in caplog.text


def test_auto_falls_back_to_torch_for_good_where_the_chosen_backend_fails(
    toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        name, precision, device, max_batch, weight_bytes = "openvino", "bf16", CPU, 1, 0
        calls = 0

        def __call__(self, x: torch.Tensor) -> Outputs:
            self.calls += 1
            raise BackendError("openvino differs from torch by 1")

    source, failing = NetworkSource(network(toy_weights)), Failing()
    build = torch_backend(source)
    backend = PlannedBackend(
        source, [FAST], cache_folder(), build=lambda each: failing if each == FAST else build(each)
    )
    expected = parity.reference(network(toy_weights), X)
    for _ in range(3):
        torch.testing.assert_close(backend(X), expected, rtol=0, atol=1e-5)
    assert (backend.name, backend.precision) == ("torch", "fp32")
    assert caplog.text.count("backend torch from here on: openvino differs") == 1
    assert failing.calls == 1


def test_auto_takes_torch_where_nothing_can_be_planned(toy_weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    def build(candidate: Candidate) -> Backend:
        if candidate == FAST:
            raise BackendError("not here")
        return torch_backend(source)(candidate)

    source = NetworkSource(network(toy_weights))
    backend = PlannedBackend(source, [FAST], None, build=build)
    backend.prepare(SIZE)
    assert (backend.name, backend.precision) == ("torch", "fp32")
    assert "backend torch: not here" in caplog.text
    with pytest.raises(BackendError, match="not here"):
        PlannedBackend(source, [FAST], None, build=build, falls_back=False)(X)


def test_without_openvino_torch_is_what_there_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert {each.backend for each in candidates_for("auto", "auto", 2)} == {"torch", "onnxruntime"}
    assert "OpenVINO cannot be imported" in caplog.text


def test_in_the_background_torch_answers_while_a_plan_is_made(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    source = NetworkSource(network(toy_weights))
    rows = (Row(FAST, 1.0, True, "fine"),)

    def taken(candidates: object, make: Callable[[Candidate], object], *_: object, **__: object) -> tuple[Row, ...]:
        assert go.wait(60)
        make(FAST)
        return rows

    monkeypatch.setattr(planned_backend, "measure", taken)
    backend = planned(source, torch_backend(source), background=True)
    assert torch.equal(backend(X)["depth"], parity.reference(network(toy_weights), X)["depth"])
    for _ in range(3):
        backend(X)  # nobody waits
    assert backend._running is None
    go.set()
    backend.prepare(SIZE)  # waits for it
    assert backend._running is not None


def test_tune_shows_the_table_and_renews_the_plan(
    toy_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_backend, "candidates_for", lambda *_, **__: [SLOW, Candidate("torch", "bf16")])
    model = ["--encoder=toy", "--dataset=hypersim", f"--checkpoint={toy_checkpoint}", "--input-size=56"]
    assert main(["tune", *model, "--height=48", "--width=64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("network input 70x56")
    assert sum(line.startswith("* ") for line in lines) == 1
    assert len(list((cache_folder() / "plans").glob("*.blob"))) == 2
    assert main(["tune", *model, "--backend=onnxruntime"]) == 1
    assert "nothing to choose with backend onnxruntime" in capsys.readouterr().err
