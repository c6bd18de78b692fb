"""What is for GPUs: which shapes get a graph, what fp16 may not do, torch.compile.

Everything but the CUDA calls runs on the CPU here, with graphs that are none; the last
part needs a GPU.
"""

from __future__ import annotations

import logging
import os
import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in import Weights, save_official, stand_in_image
from torch import Tensor

from depth_anything_ros.backends import create_backend, parity, torch_backend
from depth_anything_ros.backends.cuda_graphs import CapturedGraph, Graphs, graphs_on
from depth_anything_ros.backends.torch_backend import CompiledNetwork, TorchBackend, is_finite, to_half
from depth_anything_ros.errors import BackendError, OutOfMemory, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.runtime.device import device_lock
from depth_anything_ros.runtime.transfer import stage, to_host, upload
from depth_anything_ros.serving.batcher import measure_plan
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import ModelSettings

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
SIZE = (56, 70)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def network(weights: Weights) -> DepthNetwork:
    built = build_model("toy", "hypersim").eval().requires_grad_(False)
    built.load_state_dict(weights)
    return built


# ---- which shapes get a graph


class Recorder:
    """Captures without CUDA: counts, and answers 2 from a graph where the network answers 1."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.captured: Counter[tuple[int, ...]] = Counter()
        self.released: list[tuple[int, ...]] = []

    def run(self, x: Tensor) -> tuple[Tensor]:
        return (torch.ones(x.shape[0]),)

    def capture(self, x: Tensor) -> Recorded:
        if self.failure is not None:
            raise self.failure
        self.captured[tuple(x.shape)] += 1
        return Recorded(self, tuple(x.shape))


class Recorded:
    def __init__(self, recorder: Recorder, shape: tuple[int, ...]) -> None:
        self.recorder, self.shape = recorder, shape

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        assert self.shape not in self.recorder.released
        assert tuple(x.shape) == self.shape, "a graph is for one shape"
        return (torch.full((x.shape[0],), 2.0),)

    def release(self) -> None:
        self.recorder.released.append(self.shape)


def shape(batch: int = 1, h: int = 14, w: int = 28) -> Tensor:
    return torch.zeros(batch, 3, h, w)


def answers(graphs: Graphs, *inputs: Tensor) -> list[int]:
    return [int(graphs(x)[0][0]) for x in inputs]


def test_a_shape_that_comes_again_gets_a_graph_and_every_batch_and_size_its_own() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder.run, recorder.capture)
    assert answers(graphs, *[shape()] * 4) == [1, 2, 2, 2]
    assert answers(graphs, shape(2), shape(h=28), shape(w=14)) == [1, 1, 1]
    assert answers(graphs, shape(2), shape(h=28), shape(w=14), shape()) == [2, 2, 2, 2]
    assert set(recorder.captured.values()) == {1}
    assert len(graphs) == 4


def test_the_graph_that_was_not_used_longest_makes_room_and_is_released_first() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder.run, recorder.capture, capacity=2)
    answers(graphs, shape(1), shape(1), shape(2), shape(2), shape(1))
    assert answers(graphs, shape(3), shape(3)) == [1, 2]
    assert (recorder.released, len(graphs)) == ([(2, 3, 14, 28)], 2)
    assert answers(graphs, shape(1), shape(2)) == [2, 1]


def test_more_shapes_than_are_kept_do_not_drive_each_other_out_at_every_image() -> None:
    recorder = Recorder()
    graphs = Graphs(recorder.run, recorder.capture, capacity=2)
    assert answers(graphs, *[shape(batch) for batch in (1, 2, 3, 4)] * 5) == [1] * 20
    assert not recorder.captured


@pytest.mark.parametrize(
    "failure", [RuntimeError("operation not permitted when stream is capturing"), torch.OutOfMemoryError("full")]
)
def test_where_a_capture_fails_the_network_runs_without_and_says_so_once(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(failure)
    graphs = Graphs(recorder.run, recorder.capture)
    assert answers(graphs, *[shape(), shape(2)] * 4) == [1] * 8
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"no CUDA graph for 1x14x28; continuing without graphs: {failure}" in caplog.text


class FakeStream:
    """In torch.cuda.Stream's place; the CPU does everything in order anyway."""

    def __init__(self, *_: object) -> None:
        self.waits = 0

    def wait_stream(self, _: FakeStream) -> None:
        self.waits += 1

    def synchronize(self) -> None:
        self.waits += 1


class FakeCudaGraph:
    """Replays what was run while it was captured, into the same output."""

    replays: ClassVar[list[Callable[[], object]]] = []
    was_reset = False

    def replay(self) -> None:
        self.replays[-1]()

    def reset(self) -> None:
        self.was_reset = True


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the CUDA calls of a capture; returns what `torch.cuda.graph` was last given."""
    given: dict[str, Any] = {}

    def capture(graph: object, **options: object) -> AbstractContextManager[None]:
        given.update(options)
        return nullcontext()

    current = FakeStream()
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeCudaGraph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    return given


def test_a_graph_copies_in_and_out_of_its_own_buffers(fake_cuda: dict[str, Any]) -> None:
    inputs: list[Tensor] = []

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        inputs.append(x)
        return x.sum(1), x.mean(1)

    first = torch.ones(1, 3, 2, 2)
    side, pool = FakeStream(), object()
    graph = CapturedGraph(run, first, side, pool, None)  # type: ignore[arg-type]
    assert len({x.data_ptr() for x in inputs}) == 1, "the same input at every run"
    assert inputs[0].data_ptr() != first.data_ptr(), "and not the caller's"
    assert side.waits == 1
    assert fake_cuda == {"pool": pool, "stream": side, "capture_error_mode": "thread_local"}

    def replay() -> None:
        for output, values in zip(graph._outputs, run(graph._input), strict=True):
            output.copy_(values)

    FakeCudaGraph.replays.append(replay)
    results = [graph(torch.full((1, 3, 2, 2), float(value))) for value in range(4)]
    told = [[float(output[0, 0, 0]) for output in result] for result in results]
    assert told == [[0, 0], [3, 1], [6, 2], [9, 3]], "no replay overwrites an earlier result"
    graph.release()
    assert graph._graph.was_reset  # type: ignore[attr-defined]


@pytest.mark.usefixtures("fake_cuda")
def test_a_graph_keeps_what_the_network_keeps_for_its_size() -> None:
    graphs = graphs_on(CPU, lambda x: (x.sum(1),), lambda h, w: (h, w))
    first, second = (graphs._capture(x) for x in (shape(1, 14, 28), shape(2, 28, 14)))
    assert (first._kept, second._kept) == ((14, 28), (28, 14))  # type: ignore[attr-defined]


def test_a_device_has_one_lock_for_all_models() -> None:
    with ThreadPoolExecutor(8) as pool:
        locks = set(pool.map(lambda n: device_lock(torch.device("cuda", n % 2)), range(64)))
    assert len(locks) == 2


# ---- copies


def test_images_of_any_strides_are_staged_as_they_are() -> None:
    picture = stand_in_image(9, 7, seed=1)
    views = [picture, picture[:, ::-1], picture[::-1]]
    for staged in (stage(views, torch.empty((3, 9, 7, 3), dtype=torch.uint8)), upload(views, CPU)):
        np.testing.assert_array_equal(staged.numpy(), np.stack(views))
    picture.flags.writeable = False
    np.testing.assert_array_equal(upload([picture], CPU).numpy(), picture[None])
    np.testing.assert_array_equal(to_host(torch.ones(2, 3, 4)), np.ones((2, 3, 4), np.float32))


# ---- fp16


def overflowing(weights: Weights) -> Weights:
    """Weights whose activations leave fp16's range, and cancel again: float32 sees nothing of it."""
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    changed["depth_head.scratch.output_conv1.weight"] *= 1e6
    changed["depth_head.scratch.output_conv1.bias"] *= 1e6
    changed["depth_head.scratch.output_conv2.0.weight"] *= 1e-6
    return changed


def test_an_overflow_is_seen_although_the_activation_hides_it(toy_weights: Weights) -> None:
    x, half = parity.probe_image(*SIZE), torch.float16
    assert is_finite(network(toy_weights).set_precision(half), x)
    spoilt = network(overflowing(toy_weights))
    expected = parity.reference(network(toy_weights), x)
    torch.testing.assert_close(parity.reference(spoilt, x), expected, rtol=0, atol=1e-4)
    assert not is_finite(spoilt.set_precision(half), x)
    assert is_finite(network(overflowing(toy_weights)).set_precision(torch.bfloat16), x)


def test_bf16_is_made_of_the_float32_weights_where_fp16_overflows(
    toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    kept, precision = to_half(network(toy_weights), CPU)
    assert (precision, kept.pretrained.pos_embed.dtype, caplog.text) == ("fp16", torch.float16, "")
    spoilt = network(overflowing(toy_weights))
    kept, precision = to_half(spoilt, CPU)
    assert kept is spoilt
    assert (precision, kept.pretrained.pos_embed.dtype) == ("bf16", torch.float32), "not yet converted"
    assert "fp16 overflows with these weights: using bf16" in caplog.text


def test_fp32_it_is_on_a_gpu_without_bf16(toy_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backend, "has_bf16", lambda _: False)
    assert to_half(network(overflowing(toy_weights)), CPU)[1] == "fp32"


# ---- torch.compile


def compile_with(backend: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile that traces, and leaves the rest to a function."""
    return partial(torch.compile, backend=backend)


@pytest.fixture
def traced_anew() -> None:
    torch.compiler.reset()


@pytest.mark.usefixtures("traced_anew")
def test_what_is_compiled_says_the_same_and_a_new_size_leaves_the_others_as_they_are(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []

    def count(graph: Any, _: list[Tensor]) -> Any:
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", compile_with(count))
    backend = create_backend("auto", network(toy_weights), CPU, "fp32", compile=True)
    assert backend.name == "torch"
    pictures = [parity.probe_image(28, 28), parity.probe_image(28, 42).repeat(2, 1, 1, 1)]
    counts = []
    for x in pictures * 2:
        found = backend(x)
        torch.testing.assert_close(found, parity.reference(network(toy_weights), x), rtol=0, atol=1e-5)
        counts.append(len(compiled))
    assert counts == [counts[0], *[2 * counts[0]] * 3]


@pytest.mark.usefixtures("traced_anew")
def test_what_cannot_be_compiled_says_why_and_is_not_tried_again(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def fail(*given: object) -> Any:
        tries.append(given)
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", compile_with(fail))
    compiled = CompiledNetwork(network(toy_weights))
    for _ in range(3):
        with pytest.raises(
            BackendError, match=r"torch\.compile failed: .*no compiler here.*compile: false to run without"
        ):
            compiled(parity.probe_image(28, 28))
    assert len(tries) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's about itself
@pytest.mark.usefixtures("traced_anew")
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_says_the_same(toy_weights: Weights) -> None:
    x = parity.probe_image(28, 28)
    found = TorchBackend(network(toy_weights), CPU, "fp32", compile=True)(x)
    torch.testing.assert_close(found, parity.reference(network(toy_weights), x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_only_torch_has_compile(backend: str, toy_checkpoint: Path) -> None:
    settings = ModelSettings("toy", checkpoint=str(toy_checkpoint), device="cpu", backend=backend, compile=True)
    with pytest.raises(SettingsError, match=f"for backend torch; backend {backend} compiles by itself"):
        DepthEstimator.from_settings(settings)
    with pytest.raises(SettingsError, match=r"for backend torch; .*toy\.onnx is a finished graph"):
        DepthEstimator.load("toy", checkpoint="toy.onnx", device="cpu", compile=True)


# ---- on a GPU


@pytest.fixture
def gpu_estimator(toy_checkpoint: Path) -> DepthEstimator:
    return DepthEstimator.load("toy", "hypersim", toy_checkpoint, 56, "cuda", "fp32", "torch")


def replayed(backend: object) -> int:
    graphs = backend._run  # type: ignore[attr-defined]
    assert isinstance(graphs, Graphs)
    return len(graphs)


@on_gpu
def test_a_graph_says_what_the_network_says_for_every_image(toy_weights: Weights) -> None:
    graph = TorchBackend(network(toy_weights), CUDA, "fp32")
    eager = TorchBackend(network(toy_weights), CUDA, "fp32", graphs=False)
    results = []
    for number in range(6):
        x = (parity.probe_image(*SIZE) + number / 10).to(CUDA)
        results.append((graph(x), eager(x)))
    assert replayed(graph) == 1
    for found, expected in results:  # only now: no replay has overwritten an earlier result
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@on_gpu
def test_graphs_outlive_what_the_network_forgets(toy_weights: Weights) -> None:
    backend = TorchBackend(network(toy_weights), CUDA, "fp32")
    x = parity.probe_image(*SIZE).to(CUDA)
    backend(x)
    first = backend(x)
    for columns in range(1, 12):  # more sizes than position embeddings are kept
        backend(parity.probe_image(28, 14 * columns).to(CUDA))
    backend.network.pretrained._pos_embeds.clear()
    junk = [torch.full_like(backend.network.pretrained.pos_embed, 1e3) for _ in range(64)]
    torch.testing.assert_close(backend(x), first, rtol=0, atol=1e-6)
    del junk


@on_gpu
def test_a_backend_that_is_let_go_takes_its_weights_along(toy_weights: Weights) -> None:
    backend = TorchBackend(network(toy_weights), CUDA, "fp32")
    for _ in range(3):
        backend(parity.probe_image(*SIZE).to(CUDA))
    gone = weakref.ref(backend.network)
    del backend
    assert gone() is None, "without the garbage collector: the next model may need the room"


@on_gpu
def test_depth_on_a_gpu_is_the_depth_on_a_cpu(gpu_estimator: DepthEstimator, toy_estimator: DepthEstimator) -> None:
    images = [stand_in_image(48, 64, seed=seed) for seed in range(4)]
    for _ in range(3):  # eager, captured, replayed
        for image, depth in zip(images, gpu_estimator.estimate_batch(images, [None, 5, 10, 80]), strict=True):
            expected = toy_estimator.estimate(image).values
            np.testing.assert_allclose(depth.values / depth.values.max(), expected / expected.max(), atol=5e-3)
            assert depth.values.flags.owndata


@on_gpu
def test_threads_on_a_gpu_get_their_own_depth_while_graphs_are_captured(gpu_estimator: DepthEstimator) -> None:
    images = [stand_in_image(40 + 9 * (n % 4), 70, seed=n) for n in range(12)]
    alone = [gpu_estimator.estimate(image).values for image in images]
    fresh = DepthEstimator(gpu_estimator.backend, key="toy", kind="metric", max_depth=20.0, input_size=56)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(fresh.estimate, images * 20))
    for number, depth in enumerate(together):
        np.testing.assert_allclose(depth.values, alone[number % 12], atol=2e-3)


@on_gpu
def test_auto_is_half_on_a_gpu_and_bf16_where_that_overflows(toy_weights: Weights, tmp_path: Path) -> None:
    assert TorchBackend(network(toy_weights), CUDA, "auto").precision == "fp16"
    path = save_official(overflowing(toy_weights), tmp_path / "spoilt.pth")
    estimator = DepthEstimator.load("toy", "hypersim", path, 56, "cuda")
    assert estimator.backend.precision == ("bf16" if torch_backend.has_bf16(CUDA) else "fp32")
    assert np.isfinite(estimator.estimate(stand_in_image(48, 64, seed=1)).values).all()


@on_gpu
def test_requests_of_threads_are_batched_on_a_gpu(toy_checkpoint: Path, photo: NDArray[np.uint8]) -> None:
    cache = ModelCache(devices=["cuda:0"])
    settings = ModelSettings("toy", checkpoint=str(toy_checkpoint), input_size=56, precision="fp32", backend="torch")
    alone = cache.get(settings).estimate(photo).values
    futures = [cache.submit(settings, photo) for _ in range(50)]
    for future in futures:
        np.testing.assert_allclose(future.result(60).values, alone, atol=2e-3)


@on_gpu
def test_the_plan_of_a_gpu_is_measured(gpu_estimator: DepthEstimator) -> None:
    plan = measure_plan(gpu_estimator, 8)
    assert plan.max_batch in (1, 2, 4, 8)
    assert plan.latency_s > 0
    assert replayed(gpu_estimator.backend) >= 1


@on_gpu
def test_out_of_memory_on_a_gpu_is_its_own_error_and_the_next_call_works(gpu_estimator: DepthEstimator) -> None:
    with pytest.raises(OutOfMemory):
        gpu_estimator.estimate_batch([np.zeros((4000, 4000, 3), np.uint8)] * 2000)
    assert np.isfinite(gpu_estimator.estimate(stand_in_image(48, 64, seed=1)).values).all()
