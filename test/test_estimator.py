"""DepthEstimator: any uint8 image in, depth in the right unit out, and errors that can be told apart."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in import stand_in_image

from depth_anything_ros.backends import create_backend
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import (
    BackendError,
    DeviceError,
    ImageError,
    OutOfMemory,
    SettingsError,
)
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.dinov2 import MAX_POS_EMBEDS
from depth_anything_ros.model.weights import UNTRAINED
from depth_anything_ros.runtime.device import memory_errors, select_device
from depth_anything_ros.settings import InputLimits, ModelSettings

Image = NDArray[np.uint8]
CPU = torch.device("cpu")


# ---- what comes out


def test_depth_has_the_images_size_type_and_name(toy_estimator: DepthEstimator, photo: Image) -> None:
    depth = toy_estimator.estimate(photo)
    assert depth.values.shape == photo.shape[:2]
    assert depth.values.dtype == np.float32
    assert (depth.kind, depth.unit, depth.model_key) == ("metric", "m", "toy_hypersim_56")
    assert depth.values.flags.c_contiguous
    assert depth.values.min() >= 0
    assert depth.values.max() <= 20


@pytest.mark.parametrize("max_depth", [0.0, -1.0, math.nan, math.inf])
def test_max_depth_that_is_no_positive_number_is_refused(
    max_depth: float, toy_estimator: DepthEstimator, photo: Image
) -> None:
    with pytest.raises(SettingsError, match=f"max_depth must be a positive number of metres, got {max_depth}"):
        toy_estimator.estimate(photo, max_depth)


@pytest.mark.parametrize("dataset", ["hypersim", "vkitti", "relative"])
def test_max_depth_scales_metric_depth_of_one_shared_network(dataset: str, toy_folder: Path, photo: Image) -> None:
    [checkpoint] = toy_folder.glob(f"*{'v2_toy' if dataset == 'relative' else dataset}*")
    estimator = DepthEstimator.load("toy", dataset, checkpoint, 56, device="cpu", backend="torch")
    default, one, forty = (estimator.estimate(photo, max_depth).values for max_depth in (None, 1.0, 40.0))
    if dataset == "relative":
        assert estimator.max_depth == 1.0
        np.testing.assert_array_equal(forty, one)
        np.testing.assert_array_equal(default, one)
    else:
        assert estimator.max_depth == {"hypersim": 20, "vkitti": 80}[dataset]
        np.testing.assert_allclose(forty, 40 * one, rtol=1e-6)
        np.testing.assert_allclose(default, estimator.max_depth * one, rtol=1e-6)


def test_relative_depth_has_no_unit_and_is_not_negative(toy_folder: Path, photo: Image) -> None:
    checkpoint = toy_folder / "depth_anything_v2_toy.pth"
    depth = DepthEstimator.load("toy", "relative", checkpoint, 56, "cpu", backend="torch").estimate(photo)
    assert (depth.kind, depth.unit) == ("relative", "")
    assert depth.values.min() >= 0


def test_estimate_is_the_tensor_brought_home(toy_estimator: DepthEstimator, photo: Image) -> None:
    tensor = toy_estimator.estimate_tensors([photo]).depth[0]
    assert (tensor.device, tensor.dtype, tuple(tensor.shape)) == (CPU, torch.float32, photo.shape[:2])
    np.testing.assert_array_equal(tensor.numpy(), toy_estimator.estimate(photo).values)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_depth_of_a_batch_is_each_images_own(count: int, toy_estimator: DepthEstimator) -> None:
    images = [stand_in_image(48, 64, seed=seed) for seed in range(count)]
    images[0] = images[0][:, ::-1]
    max_depths: list[float | None] = [None if number == 1 else 5.0 + number for number in range(count)]
    together = toy_estimator.estimate_batch(images, max_depths)
    assert len(together) == count
    for image, max_depth, depth in zip(images, max_depths, together, strict=True):
        alone = toy_estimator.estimate(image, max_depth)
        assert (depth.kind, depth.model_key) == (alone.kind, alone.model_key)
        np.testing.assert_allclose(depth.values, alone.values, rtol=0, atol=1e-5 * 20)


def test_a_batch_is_one_forward_and_no_more_than_the_backend_takes(photo: Image) -> None:
    backend = FakeBackend()
    for max_batch, expected in ((8, [5]), (2, [2, 2, 1]), (1, [1] * 5)):
        backend.max_batch, backend.batches = max_batch, []
        assert injected(backend).estimate_tensors([photo] * 5).depth.shape == (5, *photo.shape[:2])
        assert backend.batches == expected


@pytest.mark.parametrize(
    ("sizes", "said"), [([(48, 64), (64, 48), (48, 64)], "one size, got 64x48, 48x64"), ([], "one size, got none")]
)
def test_images_of_several_sizes_are_no_batch(
    sizes: list[tuple[int, int]], said: str, toy_estimator: DepthEstimator
) -> None:
    with pytest.raises(ImageError, match=said):
        toy_estimator.estimate_batch([np.zeros((*size, 3), np.uint8) for size in sizes])


def test_a_batch_has_a_max_depth_for_every_image(toy_estimator: DepthEstimator, photo: Image) -> None:
    with pytest.raises(SettingsError, match="2 images, and a max_depth for 1"):
        toy_estimator.estimate_batch([photo, photo], [5.0])
    with pytest.raises(SettingsError, match="max_depth must be a positive"):
        toy_estimator.estimate_batch([photo, photo], [5.0, -1.0])


def test_what_was_loaded_is_known(toy_checkpoint: Path, toy_estimator: DepthEstimator) -> None:
    assert toy_estimator.source == str(toy_checkpoint)
    assert len(toy_estimator.sha256) == 64
    assert toy_estimator.device == CPU
    assert toy_estimator.weight_bytes == sum(4 * p.numel() for p in build_model("toy", "hypersim").parameters())


def test_settings_and_arguments_load_the_same_model(toy_checkpoint: Path, photo: Image) -> None:
    settings = ModelSettings("toy", "hypersim", str(toy_checkpoint), 70, "cpu", "fp32", "torch", download=False)
    estimator = DepthEstimator.from_settings(settings)
    assert estimator.key == settings.key == "toy_hypersim_70"
    other = DepthEstimator.load("toy", "hypersim", toy_checkpoint, 70, "cpu", "fp32", "torch")
    np.testing.assert_array_equal(estimator.estimate(photo).values, other.estimate(photo).values)


# ---- what goes in


@pytest.mark.parametrize(
    "seen",
    [
        lambda image: image.copy(),
        np.asfortranarray,
        lambda image: np.repeat(image, 2, axis=1)[:, ::2],
        lambda image: image[::-1].copy()[::-1],
        lambda image: image[:, ::-1].copy()[:, ::-1],
        lambda image: image[:, :, ::-1].copy()[:, :, ::-1],
        lambda image: np.pad(image, ((0, 0), (0, 5), (0, 0)))[:, :-5],
        lambda image: np.dstack([image, image])[:, :, :3],
    ],
    ids=["plain", "fortran", "every other", "rows back", "columns back", "rgb view", "padded rows", "of six channels"],
)
def test_any_strides_give_the_same_depth(seen: Any, toy_estimator: DepthEstimator, photo: Image) -> None:
    np.testing.assert_array_equal(toy_estimator.estimate(seen(photo)).values, toy_estimator.estimate(photo).values)


def test_read_only_image_is_taken_and_no_image_is_changed(toy_estimator: DepthEstimator, photo: Image) -> None:
    assert not photo.flags.writeable  # torch warns of such arrays, and warnings are errors here
    mine = photo.copy()
    toy_estimator.estimate(mine)
    np.testing.assert_array_equal(mine, photo)
    np.testing.assert_array_equal(toy_estimator.estimate(photo).values, toy_estimator.estimate(mine).values)
    constant = np.broadcast_to(np.uint8(7), (20, 30, 3))
    assert toy_estimator.estimate(constant).values.shape == (20, 30)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), "uint8 NumPy array, got float32"),
        (np.zeros((8, 8, 3), np.int8), "got int8"),
        ([[1, 2, 3]], "got list"),
        (None, "got NoneType"),
        (np.zeros((8, 8), np.uint8), r"shape \(H, W, 3\), got \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"got \(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (np.zeros((8, 0, 3), np.uint8), "empty"),
        (np.zeros((1, 4000, 3), np.uint8), "aspect ratio"),
    ],
)
def test_image_that_cannot_be_used_is_refused(image: Any, message: str, toy_estimator: DepthEstimator) -> None:
    with pytest.raises(ImageError, match=message):
        toy_estimator.estimate(image)


def test_limits_are_the_callers(toy_checkpoint: Path) -> None:
    limits = InputLimits(max_aspect_ratio=1.5, max_tokens=20)
    estimator = DepthEstimator.load("toy", "hypersim", toy_checkpoint, 56, device="cpu", backend="torch", limits=limits)
    with pytest.raises(ImageError, match=r"up to 1\.5:1"):
        estimator.estimate(np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(ImageError, match="up to 20:"):
        estimator.estimate(np.zeros((10, 14, 3), np.uint8))
    assert estimator.estimate(np.zeros((10, 10, 3), np.uint8)).values.shape == (10, 10)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (13, 5), (300, 40)])
def test_small_and_odd_images_work(size: tuple[int, int], toy_estimator: DepthEstimator) -> None:
    values = toy_estimator.estimate(np.full((*size, 3), 90, np.uint8)).values
    assert values.shape == size
    assert np.isfinite(values).all()


# ---- settings


@pytest.mark.parametrize("input_size", [13, 0, -518])
def test_input_size_below_a_patch_is_refused(input_size: int) -> None:
    with pytest.raises(SettingsError, match=f"at least 14 pixels, got {input_size}"):
        DepthEstimator.load("toy", checkpoint=UNTRAINED, input_size=input_size, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "int8"}, SettingsError, "unknown precision 'int8'; known: auto, fp32, bf16, fp16"),
        ({"backend": "tensorflow"}, BackendError, "unknown backend 'tensorflow'; known: auto, torch, openvino"),
        ({"encoder": "vitx"}, SettingsError, "unknown encoder 'vitx'; known: vits"),
        ({"dataset": "nyu"}, SettingsError, "unknown dataset 'nyu'; known: hypersim"),
        ({"device": "tpu"}, DeviceError, "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        ({"device": ""}, DeviceError, "unknown device ''"),
        ({"device": "cuda:-1"}, DeviceError, "cuda:-1"),
        ({"device": "meta"}, DeviceError, "'meta' is not supported; allowed: auto, cpu, cuda, cuda:N"),
        ({"device": "cuda:99"}, DeviceError, "'cuda:99' does not exist: this machine has"),
    ],
)
def test_unknown_settings_are_refused_with_what_is_allowed(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        DepthEstimator.load(**{"encoder": "toy", "checkpoint": UNTRAINED, "device": "cpu", **arguments})


@pytest.mark.parametrize(
    ("count", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_devices_are_chosen_from_those_there_are(
    count: int, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert select_device(name) == torch.device(expected)
    with pytest.raises(DeviceError, match=f"this machine has {count} CUDA devices"):
        select_device(f"cuda:{count}")


# ---- precision

# Of the full range 1. The stand-in weights spread the sigmoid's input wider than trained ones do, so the
# depth of single pixels moves further; 8 bits of mantissa (bf16) move it further than 11 (fp16).
PRECISIONS = {"bf16": (0.08, 0.008), "fp16": (0.015, 0.001)}


def toy_depth(checkpoint: Path, image: Image, precision: str) -> NDArray[np.float32]:
    estimator = DepthEstimator.load("toy", "hypersim", checkpoint, 126, "cpu", precision, "torch")
    return estimator.estimate(image, 1.0).values


@pytest.mark.parametrize("precision", PRECISIONS)
def test_half_precision_is_close_to_single(precision: str, toy_checkpoint: Path) -> None:
    image = stand_in_image(120, 160, seed=4)
    single = toy_depth(toy_checkpoint, image, "fp32")
    difference = np.abs(toy_depth(toy_checkpoint, image, precision) - single)
    worst, mean = PRECISIONS[precision]
    assert 0 < difference.max() < worst
    assert difference.mean() < mean


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_keeps_the_last_convolution_and_the_output_single(precision: str, dtype: torch.dtype) -> None:
    network = build_model("toy", "hypersim")
    backend = create_backend("torch", network, CPU, precision)
    last = network.depth_head.scratch.output_conv2[2]
    assert {parameter.dtype for parameter in last.parameters()} == {torch.float32}
    others = {p.dtype for name, p in network.named_parameters() if "output_conv2.2" not in name}
    assert others == {dtype}
    with torch.inference_mode():
        out = backend(torch.zeros(1, 3, 28, 42))["depth"]
    assert (out.dtype, tuple(out.shape)) == (torch.float32, (1, 28, 42))
    assert backend.weight_bytes < sum(4 * parameter.numel() for parameter in network.parameters())


def test_precision_auto_of_torch_is_single_on_a_cpu(toy_estimator: DepthEstimator) -> None:
    assert (toy_estimator.backend.name, toy_estimator.backend.precision) == ("torch", "fp32")


def test_position_embeddings_are_kept_for_the_sizes_used_last() -> None:
    encoder = build_model("toy", "hypersim").pretrained
    with torch.inference_mode():
        first = encoder.pos_embed_for(3, 4)
        for rows in range(1, 3 * MAX_POS_EMBEDS):
            encoder.pos_embed_for(rows, 2)
            assert encoder.pos_embed_for(3, 4) is first
        for rows in range(1, 1 + MAX_POS_EMBEDS):
            encoder.pos_embed_for(rows, 5)
        assert encoder.pos_embed_for(3, 4) is not first
        assert torch.equal(encoder.pos_embed_for(3, 4), first)
    assert encoder.pos_embed_for(3, 4).requires_grad, "a network that is trained must not reuse old ones"


def test_position_embeddings_follow_new_weights() -> None:
    encoder = build_model("toy", "hypersim").pretrained
    with torch.inference_mode():
        before = encoder.pos_embed_for(3, 4)
    encoder.load_state_dict({**encoder.state_dict(), "pos_embed": torch.ones_like(encoder.pos_embed)})
    with torch.inference_mode():
        after = encoder.pos_embed_for(3, 4)
    assert torch.allclose(after, torch.ones(()), atol=1e-5)
    assert not torch.equal(before, after)


# ---- running out of memory


class FakeBackend:
    """Answers with a constant, or fails as often as it is told to."""

    name, precision, device, weight_bytes, max_batch = "fake", "fp32", CPU, 0, 1

    def __init__(self, failure: Exception | None = None, times: int = 1) -> None:
        self.failure, self.times = failure, times
        self.batches: list[int] = []

    def __call__(self, x: torch.Tensor) -> Outputs:
        if self.failure is not None and self.times > 0:
            self.times -= 1
            raise self.failure
        self.batches.append(x.shape[0])
        return {"depth": torch.full((x.shape[0], *x.shape[2:]), 0.5)}


def injected(backend: FakeBackend) -> DepthEstimator:
    return DepthEstimator(backend, key="fake_hypersim_28", kind="metric", max_depth=20.0, input_size=28)


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "cuda runtime", "cublas", "python"],
)
def test_out_of_memory_is_its_own_error_and_the_next_call_works(failure: Exception, photo: Image) -> None:
    estimator = injected(FakeBackend(failure))
    with pytest.raises(OutOfMemory, match="cpu has no memory left") as caught:
        estimator.estimate(photo)
    assert caught.value.__cause__ is failure
    np.testing.assert_allclose(estimator.estimate(photo).values, 10.0, rtol=1e-6)


def test_the_real_allocators_complaint_is_recognised() -> None:
    with pytest.raises(OutOfMemory), memory_errors(CPU):
        torch.empty(2**60, dtype=torch.uint8)


def test_the_cache_of_a_cuda_device_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    with pytest.raises(OutOfMemory, match="cuda:1 has no memory left"), memory_errors(torch.device("cuda:1")):
        raise torch.OutOfMemoryError
    assert emptied == [True]


def test_other_failures_of_a_backend_are_passed_on(photo: Image) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        injected(FakeBackend(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))).estimate(photo)


# ---- threads


def test_depth_that_is_not_finite_is_a_failure_of_the_device(toy_checkpoint: Path, photo: Image) -> None:
    estimator = DepthEstimator.load("toy", "hypersim", toy_checkpoint, 56, device="cpu", backend="torch")
    network: Any = getattr(estimator.backend, "network")  # noqa: B009 - of this backend, not of all
    network.depth_head.scratch.output_conv2[2].bias.data.fill_(math.nan)
    with pytest.raises(DeviceError, match="cpu answered with numbers that are not finite"):
        estimator.estimate(photo)


def test_threads_that_share_an_estimator_get_the_same_depth(toy_estimator: DepthEstimator) -> None:
    images = [stand_in_image(40 + 9 * n, 70, seed=n) for n in range(12)]  # more sizes than are kept
    alone = [toy_estimator.estimate(image).values for image in images]
    with ThreadPoolExecutor(8) as pool:
        together: list[DepthMap] = list(pool.map(toy_estimator.estimate, images * 6))
    for number, depth in enumerate(together):
        np.testing.assert_array_equal(depth.values, alone[number % 12])
