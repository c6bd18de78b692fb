"""Every way to run the network says what torch says, or says that it cannot."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in import GOLDEN, Weights, save_official, stand_in_image, stand_in_weights

from depth_anything_ros.backends import (
    blob_cache,
    create_backend,
    onnx_files,
    openvino_backend,
    openvino_conversion,
    parity,
)
from depth_anything_ros.backends.blob_cache import BlobCache
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.onnx_files import check_content
from depth_anything_ros.backends.openvino_backend import OpenVinoBackend
from depth_anything_ros.backends.per_shape import MAX_SHAPES, PerShape
from depth_anything_ros.cli import main
from depth_anything_ros.errors import (
    BackendError,
    CheckpointInvalid,
    CheckpointMismatch,
    CheckpointNotFound,
    ImageError,
    SettingsError,
)
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_search import cache_folder
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.settings import ModelSettings

CPU = torch.device("cpu")
SIZE = (56, 70)
# As in test_parity, for values in 0..1 and relative depth's largest value.
MAX_DIFFERENCE, MEAN_DIFFERENCE, MAX_RELATIVE_DIFFERENCE = 2e-4, 1e-5, 1e-4

CASES = [case for case in json.loads((GOLDEN / "manifest.json").read_text()) if case["encoder"] == "vits"]
# One of each kind: what the others show is shown in torch by test_parity, and every conversion is compared with torch.
small_cases = [case for case in CASES if case["input_size"] == (126 if case["head"] == "metric" else 252)]
DATASETS = {"metric": "hypersim", "relative": "relative"}
both = pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
has_bf16 = pytest.mark.skipif(
    not openvino_backend.has_bf16(),
    reason="this processor has no bfloat16",
)


def network(weights: Weights) -> DepthNetwork:
    built = build_model("toy", "hypersim").eval().requires_grad_(False)
    built.load_state_dict(weights)
    return built


def source(weights: Weights) -> NetworkSource:
    return NetworkSource(network(weights))


@cache
def calm_weights() -> Weights:
    """Toy weights whose head averages, as trained ones do, instead of cancelling: rounding moves it little."""

    def calm(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("gamma"):
            return 0.02 * tensor
        if name.endswith("weight") and any(part in name for part in ("output_conv", "out_conv", "_rn")):
            return tensor.abs() / tensor.abs().flatten(1).sum(1).view(-1, 1, 1, 1)
        return tensor

    return {name: calm(name, tensor) for name, tensor in stand_in_weights("toy").items()}


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vits with the weights that the golden outputs belong to."""
    return save_official(stand_in_weights("vits"), tmp_path_factory.mktemp("vits") / "checkpoint.pth")


# ---- they say what torch says


@both
@pytest.mark.parametrize("case", small_cases, ids=lambda case: str(case["name"]))
def test_depth_is_the_official_one(case: dict[str, Any], backend: str, small_checkpoint: Path) -> None:
    dataset = DATASETS[case["head"]]
    estimator = DepthEstimator.load("vits", dataset, small_checkpoint, case["input_size"], "cpu", "fp32", backend)
    picture = stand_in_image(case["height"], case["width"], case["image_seed"])
    depth = estimator.estimate(picture, max_depth=1.0).values
    assert (estimator.backend.name, estimator.backend.precision) == (backend, "fp32")
    golden = np.load(GOLDEN / f"{case['name']}.npz")["depth"]
    difference = np.abs(depth[:: case["step"], :: case["step"]] - golden)
    if case["head"] == "metric":
        assert difference.max() <= MAX_DIFFERENCE
        assert difference.mean() <= MEAN_DIFFERENCE
    else:
        assert difference.max() <= MAX_RELATIVE_DIFFERENCE * golden.max()


def test_torch_runs_linear_layers_another_way_but_says_the_same(toy_weights: Weights) -> None:
    plain, x = network(toy_weights), parity.probe_image(*SIZE)
    expected, running = parity.reference(plain, x), network(toy_weights)
    found = create_backend("torch", running, CPU, "fp32")(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert running.state_dict().keys() == plain.state_dict().keys()
    pair = create_backend("torch", running, CPU, "fp32")(x.repeat(2, 1, 1, 1))
    torch.testing.assert_close(pair["depth"], expected["depth"].repeat(2, 1, 1), rtol=0, atol=1e-5)


@has_bf16
def test_bfloat16_moves_a_calm_network_by_less_than_a_hundredth() -> None:
    backend = OpenVinoBackend(source(calm_weights()), "bf16")
    x = parity.probe_image(112, 154)
    found, expected = backend(x), parity.reference(network(calm_weights()), x)
    assert backend.precision == "bf16"
    assert found["depth"].dtype == torch.float32
    off = parity.difference(found, expected)
    assert 0 < off.max <= 0.01
    assert off.mean <= 0.001


@pytest.mark.parametrize(("precision", "error"), [("fp16", "no precision 'fp16'; it has auto, fp32, bf16")])
def test_openvino_refuses_what_it_does_not_have(precision: str, error: str, toy_weights: Weights) -> None:
    with pytest.raises(SettingsError, match=error):
        create_backend("openvino", network(toy_weights), CPU, precision)
    with pytest.raises(BackendError, match="runs on the CPU, not on cuda:0"):
        create_backend("openvino", network(toy_weights), torch.device("cuda:0"), "auto")


def test_onnxruntime_refuses_what_it_does_not_have(toy_weights: Weights) -> None:
    for precision in ("fp16", "bf16"):
        with pytest.raises(SettingsError, match=f"no precision '{precision}' here; it has auto, fp32"):
            create_backend("onnxruntime", network(toy_weights), CPU, precision)
    with pytest.raises(BackendError, match=r"no provider for cuda:0, only .*CPUExecutionProvider"):
        create_backend("onnxruntime", network(toy_weights), torch.device("cuda:0"), "auto")


# ---- or say that they cannot


@both
def test_a_conversion_that_says_something_else_is_refused_with_the_numbers(
    backend: str, toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = network({name: 1.1 * tensor for name, tensor in toy_weights.items()})
    monkeypatch.setattr(parity, "reference", lambda _, x: other.named(other(x)))
    wrong = create_backend(backend, network(toy_weights), CPU, "fp32")
    with pytest.raises(BackendError, match=r"differs from torch by 0\.\d+ \(mean 0\.\d+\) .* allowed: 0\.001"):
        wrong(parity.probe_image(*SIZE))


def test_a_result_that_is_no_number_is_not_within_any_limit() -> None:
    expected = {"depth": torch.rand(1, 4, 4), "sky": torch.rand(1, 4, 4)}
    for name in expected:
        found = expected | {name: torch.full((1, 4, 4), torch.nan)}
        assert not parity.difference(found, expected).within(parity.HALF_LIMIT), name


@both
def test_a_missing_library_is_told_with_how_to_get_it(
    backend: str, toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    extra = {"openvino": "openvino", "onnxruntime": "onnx"}[backend]
    with pytest.raises(BackendError, match=rf"pip install 'depth_anything_ros\[{extra}\]'"):
        create_backend(backend, network(toy_weights), CPU, "auto")


@both
def test_threads_of_a_backend_may_run_on_every_core(backend: str, toy_weights: Weights) -> None:
    """Bound to cores, those of two processes would share the same ones, whatever else is idle."""
    running = create_backend(backend, network(toy_weights), CPU, "fp32")
    running(parity.probe_image(56, 70))
    status = [file.read_text() for file in Path("/proc/self/task").glob("*/status")]
    allowed = {re.search(r"Cpus_allowed_list:\s*(.*)", text)[1] for text in status}  # type: ignore[index]
    assert len(allowed) == 1


def test_openvino_keeps_no_telemetry() -> None:
    openvino_conversion.import_openvino()
    assert "openvino_telemetry.main" not in sys.modules


SIGNAL_AFTER_NETWORKS = """
import signal
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.openvino_backend import OpenVinoBackend, has_bf16
from depth_anything_ros.model.build import build_model

source = NetworkSource(build_model("toy", "hypersim"))
signal.signal(signal.SIGINT, lambda *_: print("handled"))
first, second = OpenVinoBackend(source), OpenVinoBackend(source)
del first
del second
has_bf16()
freed = [bytearray(65536) for _ in range(1000)]
del freed
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_networks_were_let_go() -> None:
    """OpenVINO's CPU plugin moves the thread's signal stack; left in freed memory, a signal ends the process."""
    ran = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_NETWORKS], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "handled\n"), ran.stderr


# ---- threads, and what is kept in memory


@both
def test_threads_with_several_sizes_share_what_is_built_once(
    backend: str, toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shared = create_backend(backend, network(toy_weights), CPU, "fp32")
    pictures = [parity.probe_image(*size) for size in ((28, 42), (42, 28))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared, pictures * 24))
    for number, depth in enumerate(found):
        expected = parity.reference(network(toy_weights), pictures[number % 2])
        assert parity.difference(depth, expected).within(parity.FP32_LIMIT)
    assert len([line for line in caplog.messages if line.startswith(backend)]) == 2


def test_what_is_built_is_kept_for_a_few_sizes_and_a_failure_is_not_kept() -> None:
    built: Counter[tuple[int, int]] = Counter()

    def build(size: tuple[int, int]) -> tuple[int, int]:
        built[size] += 1
        if size == (0, 0) and built[size] == 1:
            raise BackendError("once")
        return size

    shapes = PerShape(build)
    with pytest.raises(BackendError, match="once"):
        shapes.get((0, 0))
    for number in range(MAX_SHAPES + 1):
        assert shapes.get((number, 0)) == (number, 0)
    assert len(shapes) == MAX_SHAPES
    shapes.get((1, 0))
    shapes.get((0, 0))
    assert (built[1, 0], built[0, 0]) == (1, 3)


def test_twelve_sizes_in_turn_build_nothing_after_the_first_round(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(openvino_backend, "MAX_OWN_SIZES", 1)
    backend = OpenVinoBackend(source(toy_weights), "fp32")
    pictures = [parity.probe_image(28 + 14 * (number % 4), 28 + 14 * (number // 4)) for number in range(12)]
    plain = network(toy_weights)
    for x in pictures:
        assert parity.difference(backend(x), parity.reference(plain, x)).within(parity.FP32_LIMIT)
    built = [line for line in caplog.messages if "openvino compiled" in line]
    assert len(built) == 2
    assert "for every size" in built[-1]
    weight_bytes = backend.weight_bytes
    for x in pictures:
        backend(x)
    assert len([line for line in caplog.messages if "openvino compiled" in line]) == len(built)
    assert backend.weight_bytes == weight_bytes


def test_in_the_background_torch_answers_until_the_converted_network_is_there(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, converted = threading.Event(), threading.Event()
    convert = openvino_conversion.convert

    def slowly(*given: Any) -> Any:
        assert go.wait(60)
        converted.set()
        return convert(*given)

    monkeypatch.setattr(openvino_backend, "convert", slowly)
    backend = OpenVinoBackend(source(toy_weights), "fp32", background=True)
    x = parity.probe_image(*SIZE)
    expected = parity.reference(network(toy_weights), x)
    assert torch.equal(backend(x)["depth"], expected["depth"]), "torch itself"
    assert not converted.is_set()
    go.set()
    backend.prepare(SIZE)  # waits
    found = backend(x)["depth"]
    assert parity.difference({"depth": found}, expected).within(parity.FP32_LIMIT)
    assert not torch.equal(found, expected["depth"]), "the converted network"


def test_the_torch_network_is_let_go_and_loaded_again_for_a_new_size(toy_weights: Weights) -> None:
    loads: list[DepthNetwork] = []

    def load() -> DepthNetwork:
        loads.append(network(toy_weights))
        return loads[-1]

    held = NetworkSource(network(toy_weights), load)
    backend = OpenVinoBackend(held, "fp32")
    before = backend.weight_bytes
    assert before == held.loaded_bytes > 0
    backend(parity.probe_image(*SIZE))
    assert (held.loaded_bytes, len(loads)) == (0, 0)
    assert backend.weight_bytes == before, "OpenVINO's copy instead of torch's"
    x = parity.probe_image(70, 56)
    assert parity.difference(backend(x), parity.reference(network(toy_weights), x)).within(parity.FP32_LIMIT)
    assert (held.loaded_bytes, len(loads)) == (0, 1)


def test_position_embeddings_of_many_sizes_in_turn_are_made_once(toy_weights: Weights) -> None:
    source = NetworkSource(network(toy_weights))
    grids = [(3, columns) for columns in range(1, 21)]
    first = [source.pos_embed(*grid) for grid in grids]
    assert all(source.pos_embed(*grid) is kept for grid, kept in zip(grids, first, strict=True))


def test_a_checkpoint_that_was_exchanged_meanwhile_is_refused(toy_weights: Weights) -> None:
    held = NetworkSource(network(toy_weights), lambda: network(other_weights(toy_weights)))
    with held.held():
        pass
    with pytest.raises(BackendError, match="checkpoint has changed since it was loaded"):
        held.get()


def test_a_checkpoint_that_is_gone_is_missed_at_a_new_size_only(toy_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / toy_checkpoint.name
    file.write_bytes(toy_checkpoint.read_bytes())
    estimator = DepthEstimator.load("toy", "hypersim", file, 56, "cpu", "fp32", "openvino")
    picture = np.zeros((48, 64, 3), np.uint8)
    before = estimator.estimate(picture).values
    file.unlink()
    np.testing.assert_array_equal(estimator.estimate(picture).values, before)
    with pytest.raises(BackendError, match="a new image size needs the weights once more, and they cannot be read"):
        estimator.estimate(picture.transpose(1, 0, 2))


def test_an_openvino_device_that_is_not_here_is_told_with_those_that_are(toy_weights: Weights) -> None:
    with pytest.raises(BackendError, match=r"no device 'NPU' here, only .*CPU"):
        create_backend("openvino:NPU", network(toy_weights), CPU, "auto")


# ---- what is kept on disk


def compiled_files() -> set[Path]:
    return set((cache_folder() / "openvino").glob("*"))


def test_a_network_in_bf16_is_kept_with_weights_of_two_bytes(toy_weights: Weights) -> None:
    kept = {}
    for precision in ("fp32", "bf16"):
        before = compiled_files()
        OpenVinoBackend(source(toy_weights), precision, cache_folder())(parity.probe_image(*SIZE))
        (file,) = compiled_files() - before
        kept[precision] = file.stat().st_size
    assert kept["bf16"] < 0.8 * kept["fp32"], "a tiny network's description does not shrink"


def test_the_second_start_loads_what_the_first_compiled(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    x = parity.probe_image(*SIZE)
    first = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    files = compiled_files()
    monkeypatch.setattr(openvino_backend, "convert", None)  # not needed any more
    second = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    assert torch.equal(first["depth"], second["depth"])
    assert "openvino loaded for 56x70" in caplog.text
    assert compiled_files() == files


def test_the_second_start_does_not_ask_torch_again_but_compares_all_the_same(
    toy_weights: Weights, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = parity.probe_image(*SIZE)
    first = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "reference", None)
        caplog.set_level(logging.INFO)
        again = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    assert torch.equal(again["depth"], first["depth"])
    assert "off by" in caplog.text
    monkeypatch.setattr(openvino_backend.Executor, "__call__", lambda _, x: {"depth": 1 - first["depth"]})
    with pytest.raises(BackendError, match="differs from torch"):
        OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)


def test_what_torch_said_is_kept_for_these_weights_and_this_picture_only(toy_weights: Weights, tmp_path: Path) -> None:
    kept, asked, x = BlobCache(tmp_path), source(toy_weights), parity.probe_image(*SIZE)
    expected = parity.cached_reference(asked, x, kept, "weights")
    assert torch.equal(parity.cached_reference(asked, x, kept, "weights")["depth"], expected["depth"])
    assert not torch.equal(parity.cached_reference(asked, x + 0.1, kept, "weights")["depth"], expected["depth"])
    assert len(list(tmp_path.glob("*.blob"))) == 2
    parity.cached_reference(asked, x, kept, "other weights")
    assert len(list(tmp_path.glob("*.blob"))) == 3


def test_a_conversion_after_a_kept_reference_has_the_right_position_embedding(toy_weights: Weights) -> None:
    x = parity.probe_image(*SIZE)
    first = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    for file in compiled_files():
        file.unlink()
    again = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)  # compiled anew, the reference is there
    assert torch.equal(again["depth"], first["depth"])


def test_other_weights_sizes_and_precisions_get_files_of_their_own(toy_weights: Weights) -> None:
    others = other_weights(toy_weights)
    runs: list[tuple[Weights, tuple[int, int], str]] = [
        (toy_weights, SIZE, "fp32"),
        (others, SIZE, "fp32"),
        (toy_weights, (70, 56), "fp32"),
        (toy_weights, SIZE, "bf16"),
    ]
    for number, (weights, size, precision) in enumerate(runs):
        x = parity.probe_image(*size)
        OpenVinoBackend(source(weights), precision, cache_folder())(x)
        assert len(compiled_files()) == number + 1


def test_a_damaged_file_is_made_anew(toy_weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    x = parity.probe_image(*SIZE)
    first = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    for file in compiled_files():
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert torch.equal(OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)["depth"], first["depth"])
    assert "is damaged or belongs to another network" in caplog.text
    caplog.clear()
    assert torch.equal(OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)["depth"], first["depth"])
    assert "building it again" not in caplog.text


def other_weights(weights: Weights) -> Weights:
    """The same, but depth is a little farther: less than the comparison with torch would notice."""
    return {name: tensor + 1e-3 if name.endswith("output_conv2.2.bias") else tensor for name, tensor in weights.items()}


def test_what_was_kept_for_other_weights_is_not_taken_under_another_name(
    toy_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    x = parity.probe_image(*SIZE)
    expected = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    mine = compiled_files()
    OpenVinoBackend(source(other_weights(toy_weights)), "fp32", cache_folder())(x)
    for file, other in zip(sorted(mine), sorted(compiled_files() - mine), strict=True):
        file.write_bytes(other.read_bytes())
    again = OpenVinoBackend(source(toy_weights), "fp32", cache_folder())(x)
    assert torch.equal(again["depth"], expected["depth"])
    assert caplog.text.count("is damaged or belongs to another network") == 1


@pytest.mark.parametrize(
    ("backend", "trouble"), [("openvino", "departs"), ("openvino", "does not load"), ("onnxruntime", "departs")]
)
def test_a_kept_network_that_does_not_load_or_departs_from_torch_is_made_anew(
    backend: str, trouble: str, toy_weights: Weights, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {name: 1.1 * tensor for name, tensor in toy_weights.items()}
    kept = made_by(backend, others, (28, 42)) if trouble == "departs" else b"not a network"
    monkeypatch.setattr(BlobCache, "load", lambda _, *key: None if "reference" in key else kept)
    x = parity.probe_image(28, 42)
    found = create_backend(backend, network(toy_weights), CPU, "fp32", cache_folder())(x)
    assert parity.difference(found, parity.reference(network(toy_weights), x)).within(parity.FP32_LIMIT)
    assert len(re.findall(r"(?:compiling it|exporting) again", caplog.text)) == 1


def made_by(backend: str, weights: Weights, size: tuple[int, int]) -> bytes:
    """What a backend keeps of a network."""
    kept: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlobCache, "store", lambda _, blob, *key: None if "reference" in key else kept.append(blob))
        create_backend(backend, network(weights), CPU, "fp32", cache_folder())(parity.probe_image(*size))
    return kept[0]


def test_the_cache_is_bounded_and_does_without_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = BlobCache(tmp_path, max_bytes=3 * 132)
    for number in range(5):
        kept.store(bytes(100), number)
        assert kept.load(0) is not None, "used just now"
    assert [kept.load(number) is not None for number in range(5)] == [True, False, False, True, True]
    assert not list(tmp_path.glob(".partial-*"))
    (tmp_path / "file").touch()
    nowhere = BlobCache(tmp_path / "file" / "folder")
    nowhere.store(b"blob", 1)
    assert nowhere.load(1) is None
    assert "cannot keep a compiled network" in caplog.text
    assert BlobCache(None).load(1) is None


def test_what_is_no_sound_file_in_the_cache_is_not_read(tmp_path: Path) -> None:
    kept = BlobCache(tmp_path, max_bytes=1000)
    kept.store(b"blob", 1)
    [path] = tmp_path.iterdir()
    os.truncate(path, 1 << 40)
    assert kept.load(1) is None
    path.unlink()
    os.mkfifo(path)
    assert kept.load(1) is None
    kept.store(b"blob", 1)
    assert kept.load(1) == b"blob"


def test_the_fingerprint_sees_every_value_and_the_kind(toy_weights: Weights) -> None:
    one, other = network(toy_weights), build_model("toy", "relative")
    other.load_state_dict(toy_weights)
    assert blob_cache.fingerprint(one) == blob_cache.fingerprint(network(toy_weights))
    assert blob_cache.fingerprint(one) != blob_cache.fingerprint(other)


# ---- files for other machines


@pytest.fixture(scope="module")
def export_said(tmp_path_factory: pytest.TempPathFactory, toy_checkpoint: Path) -> dict[str, Any]:
    """What `export` prints of a file of the toy network, any number of images of 64 x 48 pixels at input size 56."""
    path = tmp_path_factory.mktemp("exported") / "toy.onnx"
    arguments = ["--height=48", "--width=64", "--input-size=56", f"--checkpoint={toy_checkpoint}", "--dynamic-batch"]
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["export", "toy", "hypersim", f"--out={path}", *arguments]) == 0
    return dict(json.loads(printed.getvalue().splitlines()[-1]))


@pytest.fixture(scope="module")
def exported(export_said: dict[str, Any]) -> Path:
    """The file; do not change it."""
    return Path(export_said["file"])


def test_an_exported_file_is_described_and_runs(
    exported: Path, export_said: dict[str, Any], toy_estimator: DepthEstimator, photo: NDArray[np.uint8]
) -> None:
    assert (export_said["shape"], export_said["opset"]) == (["batch", 3, 56, 70], 18)
    assert export_said["max_difference"] < 1e-4
    assert export_said["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert list(exported.parent.iterdir()) == [exported]
    settings = ModelSettings("toy", "hypersim", str(exported), 56, "cpu")
    estimator = DepthEstimator.from_settings(settings)
    assert (estimator.source, estimator.sha256) == (str(exported), export_said["sha256"])
    assert (estimator.backend.name, estimator.backend.precision) == ("onnxruntime", "fp32")
    np.testing.assert_allclose(estimator.estimate(photo).values, toy_estimator.estimate(photo).values, atol=2e-3)
    with pytest.raises(ImageError, match=r"becomes 56x56 pixels .* made for 70x56"):
        estimator.estimate(photo[:, :48])


def test_openvino_runs_an_exported_file_where_it_is_asked_for(
    exported: Path, toy_estimator: DepthEstimator, photo: NDArray[np.uint8]
) -> None:
    estimator = DepthEstimator.load("toy", "hypersim", exported, 56, "cpu", backend="openvino")
    assert (estimator.backend.name, estimator.backend.precision) == ("openvino", "fp32")
    np.testing.assert_allclose(estimator.estimate(photo).values, toy_estimator.estimate(photo).values, atol=2e-3)
    with pytest.raises(ImageError, match=r"becomes 56x56 pixels .* made for 70x56"):
        estimator.estimate(photo[:, :48])
    with pytest.raises(BackendError, match="OpenVINO has no device 'NPU' here, only CPU"):
        DepthEstimator.load("toy", "hypersim", exported, 56, "cpu", backend="openvino:NPU")


@pytest.mark.parametrize("batch", [1, 3])
def test_an_exported_file_takes_as_many_images_as_it_says(batch: int, exported: Path, toy_weights: Weights) -> None:
    import onnxruntime

    x = parity.probe_image(*SIZE).repeat(batch, 1, 1, 1)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"image": x.numpy()})
    expected = parity.reference(network(toy_weights), x)
    assert parity.difference({"depth": torch.from_numpy(found)}, expected).within(parity.FP32_LIMIT)


def test_an_export_of_the_demonstration_model_says_what_it_is_for(
    exported: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_files, "DEMONSTRATION", ("toy", "hypersim"))
    DepthEstimator.load("toy", "hypersim", exported, 56, "cpu")
    assert "not for robots" in caplog.text


def test_exporting_does_not_warn_of_libraries_that_no_network_here_needs(exported: Path) -> None:
    assert exported.is_file()
    assert not logging.getLogger("torch.onnx._internal.exporter._registration").isEnabledFor(logging.WARNING)


def test_a_wrong_file_is_refused(exported: Path, tmp_path: Path) -> None:
    for encoder, dataset, said in (("vits", "hypersim", "encoder 'toy'"), ("toy", "vkitti", "dataset 'hypersim'")):
        with pytest.raises(CheckpointMismatch, match=f"says {said}, but '(vits|vkitti)' was asked for"):
            DepthEstimator.load(encoder, dataset, exported, 56, "cpu")
    with pytest.raises(BackendError, match="is run by backend onnxruntime or openvino, not by torch on cpu"):
        DepthEstimator.load("toy", "hypersim", exported, 56, "cpu", backend="torch")
    with pytest.raises(CheckpointNotFound, match=r"none\.onnx' does not exist"):
        DepthEstimator.load("toy", "hypersim", tmp_path / "none.onnx", 56, "cpu")


@pytest.mark.parametrize("spoil", [lambda content: content[: len(content) // 2], lambda _: b"", lambda _: b"\x80" * 99])
def test_a_damaged_file_is_refused(spoil: Callable[[bytes], bytes], exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "spoilt.onnx"
    path.write_bytes(spoil(exported.read_bytes()))
    with pytest.raises(CheckpointInvalid, match=r"spoilt\.onnx (is not an ONNX file|was not made by)"):
        DepthEstimator.load("toy", "hypersim", path, 56, "cpu")


def test_a_file_that_refers_to_other_files_is_refused(exported: Path) -> None:
    import onnx

    for location in ("../../secret", "beside.bin"):
        model = onnx.load_model_from_string(exported.read_bytes())
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        with pytest.raises(CheckpointInvalid):
            check_content(model.SerializeToString(), "it", "toy", "hypersim")


def test_a_file_whose_weights_were_changed_is_found_out_where_it_runs(exported: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(exported.read_bytes())
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name.endswith("output_conv2.2.bias")]
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + 0.5).tobytes()
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match="the ONNX file on this machine differs from torch by"):
        DepthEstimator.load("toy", "hypersim", path, 56, "cpu")


def test_an_export_that_cannot_be_written_leaves_nothing(
    exported: Path,
    toy_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_files, "export_network", lambda *_, **__: exported.read_bytes())
    (tmp_path / "file").touch()
    arguments = ["--height=48", "--width=64", "--input-size=56", f"--checkpoint={toy_checkpoint}"]
    assert main(["export", "toy", "hypersim", f"--out={tmp_path / 'file' / 'toy.onnx'}", *arguments]) == 1
    assert "toy.onnx cannot be written: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_of_an_encoder_that_takes_small_images_runs_on_the_images_it_was_exported_for(tmp_path: Path) -> None:
    path = tmp_path / "vitt.onnx"
    assert main(["export", "vitt", "synthetic", f"--out={path}", "--height=120", "--width=160"]) == 0
    estimator = DepthEstimator.load("vitt", "synthetic", path, device="cpu")
    picture = stand_in_image(120, 160, seed=4)
    assert estimator.estimate(picture).values.shape == (120, 160)
