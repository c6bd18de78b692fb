"""Every backend says of Depth Anything 3 what torch says: depth, sky, confidence, field of view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in_da3 import save_da3, toy_da3_weights

from depth_anything_ros.backends import create_backend, parity
from depth_anything_ros.backends.int8 import MIN_PICTURES
from depth_anything_ros.backends.network_source import NetworkSource
from depth_anything_ros.backends.openvino_conversion import convert, the_core, with_single_ends
from depth_anything_ros.cli import main
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import encode_png
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.da3_names import from_da3_names
from depth_anything_ros.model.depth_network import DepthNetwork
from depth_anything_ros.model.registry import network_spec
from depth_anything_ros.runtime.device import select_device

CPU = select_device("cpu")
SIZE = (56, 70)
each_dataset = pytest.mark.parametrize("dataset", ["da3metric", "da3"])  # one of each architecture


def network(dataset: str) -> DepthNetwork:
    built = build_model("toy", dataset)
    built.load_state_dict(dict(from_da3_names(toy_da3_weights(dataset))))
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A toy checkpoint of each architecture, as an official file."""
    folder = tmp_path_factory.mktemp("da3")
    return {
        name: save_da3(toy_da3_weights(name), folder / name / "weights.safetensors") for name in ("da3metric", "da3")
    }


@pytest.mark.parametrize(
    ("dataset", "backend"),
    [("da3metric", "openvino"), ("da3metric", "onnxruntime"), ("da3", "torch"), ("da3", "openvino")],
)  # ONNX Runtime has da3 below
def test_every_backend_says_all_that_the_network_says(dataset: str, backend: str) -> None:
    x = parity.probe_image(*SIZE)
    expected = parity.reference(network(dataset), x)
    found = create_backend(backend, network(dataset), CPU, "fp32")(x)
    assert tuple(found) == network_spec(dataset).outputs
    for name, values in found.items():
        assert (values.dtype, values.shape) == (torch.float32, expected[name].shape)
        assert values.std() > 0, f"{name} that is the same everywhere would agree with anything"
    assert parity.difference(found, expected).within(parity.FP32_LIMIT)


@each_dataset
def test_half_precision_keeps_what_is_before_the_exponential_single(dataset: str) -> None:
    backend = create_backend("torch", network(dataset), CPU, "bf16")
    found = backend(parity.probe_image(*SIZE).repeat(2, 1, 1, 1))
    assert {values.dtype for values in found.values()} == {torch.float32}
    assert {len(values) for values in found.values()} == {2}
    expected = parity.reference(network(dataset), parity.probe_image(*SIZE))
    first = {name: values[:1] for name, values in found.items()}
    assert parity.difference(first, expected).within(parity.HALF_LIMIT)
    single = {name for name, p in backend.network.named_parameters() if p.dtype == torch.float32}  # type: ignore[attr-defined]
    ends = ("output_conv2.2.weight", "output_conv2.2.bias")
    assert {name for name in single if not name.startswith("cam_dec.")} == {
        f"depth_head.scratch.{branch}{end}" for branch in ("", "sky_")[: 2 - (dataset == "da3")] for end in ends
    }


def test_openvino_ends_in_single_precision_with_as_many_channels_as_there_are() -> None:
    source, x = NetworkSource(network("da3")), parity.probe_image(*SIZE)
    model = convert(source, SIZE)
    rewritten = with_single_ends(model)
    core = the_core()
    inputs = [x.numpy(), source.pos_embed(SIZE[0] // 14, SIZE[1] // 14).numpy()]
    compiled = [core.compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) for each in (rewritten, model)]
    found, expected = (each(inputs) for each in compiled)
    for index in range(len(network_spec("da3").outputs)):
        np.testing.assert_allclose(found[index], expected[index], rtol=1e-4, atol=1e-5)
    sums = [op for op in rewritten.get_ordered_ops() if op.get_type_name() == "ReduceSum"]
    assert len(sums) >= 2, "one for each channel"


def test_batches_and_single_images_agree(checkpoints: dict[str, Path], photo: NDArray[np.uint8]) -> None:
    estimator = DepthEstimator.load("toy", "da3", checkpoints["da3"], 56, "cpu", backend="torch")
    images = [photo, photo[:, ::-1], photo[::-1]]
    for alone, together in zip(map(estimator.estimate, images), estimator.estimate_batch(images), strict=True):
        np.testing.assert_allclose(together.values, alone.values, rtol=1e-4)
        assert together.confidence is not None
        assert alone.confidence is not None
        np.testing.assert_allclose(together.confidence, alone.confidence, rtol=1e-4)
        assert together.focal_px == pytest.approx(alone.focal_px, rel=1e-4)


@pytest.mark.parametrize("dataset", ["da3metric", "da3mono", "da3"])
def test_an_exported_file_says_all_that_the_network_says_whatever_runs_it(
    checkpoints: dict[str, Path], tmp_path: Path, photo: NDArray[np.uint8], dataset: str
) -> None:
    file, checkpoint = tmp_path / "toy.onnx", checkpoints["da3" if dataset == "da3" else "da3metric"]
    sizes = ["--height=48", "--width=64", "--input-size=56"]
    assert main(["export", "toy", dataset, f"--out={file}", f"--checkpoint={checkpoint}", *sizes]) == 0
    expected = DepthEstimator.load("toy", dataset, checkpoint, 56, "cpu", backend="torch").estimate(photo, focal_px=50)
    for backend in ("onnxruntime", "openvino"):
        estimator = DepthEstimator.load("toy", dataset, file, 56, "cpu", backend=backend)
        assert estimator.backend.name == backend
        exported = estimator.estimate(photo, focal_px=50)
        np.testing.assert_allclose(exported.values, expected.values, rtol=1e-3)
        for found, wanted in ((exported.confidence, expected.confidence), (exported.sky, expected.sky)):
            assert (found is None) == (wanted is None)
            if found is not None and wanted is not None:
                np.testing.assert_allclose(found, wanted, rtol=1e-3)
        assert (exported.focal_px or 0.0) == pytest.approx(expected.focal_px or 0.0, rel=1e-3)


def test_a_file_in_int8_knows_the_sky(
    checkpoints: dict[str, Path], tmp_path: Path, photo: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nncf", reason="NNCF is not installed: pip install '.[int8]'")
    file, pictures = tmp_path / "toy.onnx", tmp_path / "pictures"
    pictures.mkdir()
    views = (photo, photo[::-1], photo[:, ::-1], photo[::-1, ::-1])
    for index, picture in enumerate(views * (MIN_PICTURES // len(views))):
        (pictures / f"{index}.png").write_bytes(encode_png(np.ascontiguousarray(picture)))
    options = ["--height=48", "--width=64", "--input-size=56", "--int8", f"--calibrate={pictures}"]
    options += [f"--out={file}", f"--checkpoint={checkpoints['da3metric']}"]
    assert main(["export", "toy", "da3metric", *options]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == "int8"
    found = DepthEstimator.load("toy", "da3metric", file, 56, "cpu").estimate(photo, focal_px=50)
    expected = DepthEstimator.load("toy", "da3metric", checkpoints["da3metric"], 56, "cpu", backend="torch").estimate(
        photo, focal_px=50
    )
    assert found.sky is not None
    assert expected.sky is not None
    assert np.mean(found.sky == expected.sky) > 0.95
