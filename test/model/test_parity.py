"""The network and its preprocessing give what the official implementation gives.

`data/golden/` holds the official implementation's outputs (float32, CPU) for stand-in weights and
pictures that `stand_in` draws again here; transformers is a second, live reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in import (
    GOLDEN,
    Weights,
    official_layout,
    save_hf,
    save_official,
    stand_in_image,
    stand_in_tensor,
    stand_in_weights,
    to_hf_names,
)

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.hf_names import from_hf_names
from depth_anything_ros.model.preprocess import ResizeOnce
from depth_anything_ros.model.registry import NATIVE_SIZE
from depth_anything_ros.model.weights import load_model
from depth_anything_ros.runtime.transfer import upload

# For values in 0..1. Other summation orders, SDPA and channels-last move them by 1e-5, preprocessing
# on the device by 1e-4.
MAX_DIFFERENCE, MEAN_DIFFERENCE = 2e-4, 1e-5
MAX_RELATIVE_DIFFERENCE = 1e-4  # of the largest value, for relative depth
MAX_TENSOR_DIFFERENCE = 1e-3

CASES: list[dict[str, Any]] = json.loads((GOLDEN / "manifest.json").read_text())
DATASETS = {"metric": "hypersim", "relative": "relative"}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))

CheckpointOf = Callable[[str, str, str], Path]


@pytest.fixture(scope="module")
def checkpoint_of() -> Iterator[CheckpointOf]:
    """(encoder, kind, layout) -> a checkpoint of the stand-in weights, written once."""
    weights_of = lru_cache(maxsize=1)(stand_in_weights)  # vitl's take seconds to draw, and a gigabyte

    with TemporaryDirectory() as root:  # not pytest's, which keeps the files of the last three runs

        @cache
        def write(encoder: str, kind: str, layout: str) -> Path:
            folder = Path(root, f"{encoder}_{kind}_{layout}")
            if layout == "hf":
                return save_hf(weights_of(encoder), encoder, kind, folder)
            folder.mkdir()
            return save_official(weights_of(encoder), folder / "checkpoint.pth")

        yield write


def picture(case: dict[str, Any]) -> NDArray[np.uint8]:
    return stand_in_image(case["height"], case["width"], case["image_seed"])


@each_case
def test_preprocessed_tensor_is_the_official_one(case: dict[str, Any]) -> None:
    golden = np.load(GOLDEN / f"{case['name']}.npz")
    x = ResizeOnce()(upload([picture(case)], torch.device("cpu")), case["input_size"])
    assert tuple(x.shape) == tuple(golden["tensor_shape"])
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x[0, :, ::7, ::7].numpy(), golden["tensor"], rtol=0, atol=MAX_TENSOR_DIFFERENCE)


# The -hf layout once: its tensors are the official ones, as the next test shows for every encoder.
@pytest.mark.parametrize(
    ("case", "layout"),
    [*((case, "official") for case in CASES), (CASES[3], "hf")],
    ids=lambda value: value if isinstance(value, str) else str(value["name"]),
)
def test_depth_is_the_official_one(case: dict[str, Any], layout: str, checkpoint_of: CheckpointOf) -> None:
    checkpoint = checkpoint_of(case["encoder"], case["head"], layout)
    estimator = DepthEstimator.load(
        case["encoder"], DATASETS[case["head"]], checkpoint, case["input_size"], "cpu", "fp32", "torch"
    )
    depth = estimator.estimate(picture(case), max_depth=1.0)
    assert depth.kind == case["head"]
    assert depth.values.shape == (case["height"], case["width"])
    golden = np.load(GOLDEN / f"{case['name']}.npz")["depth"]
    difference = np.abs(depth.values[:: case["step"], :: case["step"]] - golden)
    if depth.kind == "metric":
        assert difference.max() <= MAX_DIFFERENCE
        assert difference.mean() <= MEAN_DIFFERENCE
    else:
        assert difference.max() <= MAX_RELATIVE_DIFFERENCE * golden.max()


@pytest.mark.parametrize("encoder", ["vits", "vitb", "vitl"])
def test_hf_tensors_are_the_official_ones_under_their_names(encoder: str) -> None:
    narrow = {name: (shape[0], *(1 for _ in shape[1:])) for name, shape in official_layout(encoder).items()}
    official = {name: torch.from_numpy(stand_in_tensor(name, shape)) for name, shape in narrow.items()}
    found = dict(from_hf_names(to_hf_names(official, encoder)))
    assert found.keys() == official.keys()
    for name, tensor in official.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("encoder", ["vits", "vitb", "vitl"])
def test_parameters_are_those_of_the_official_checkpoint(encoder: str) -> None:
    with torch.device("meta"):
        network = build_model(encoder, "hypersim")
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == official_layout(encoder)


def transformers_model(folder: Path) -> Any:
    """Load an `-hf` folder with transformers, which must find every tensor it looks for and no other."""
    from transformers import DepthAnythingForDepthEstimation

    loaded: Any = DepthAnythingForDepthEstimation.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    for trouble in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[trouble], f"{trouble}: {info[trouble]}"
    return model.eval()


@pytest.mark.parametrize(("encoder", "kind"), [("vits", "metric"), ("toy", "relative")])
def test_network_agrees_with_transformers(encoder: str, kind: str, checkpoint_of: CheckpointOf) -> None:
    """At the native size only: elsewhere transformers interpolates the position embedding another way."""
    folder = checkpoint_of(encoder, kind, "hf")
    image = upload([stand_in_image(NATIVE_SIZE, NATIVE_SIZE, seed=11)], torch.device("cpu"))
    x = ResizeOnce()(image, NATIVE_SIZE)
    estimator = DepthEstimator.load(encoder, DATASETS[kind], folder, device="cpu", precision="fp32", backend="torch")
    with torch.inference_mode():
        ours = estimator.backend(x)["depth"]
        theirs = transformers_model(folder)(x).predicted_depth
    difference = (ours - theirs).abs()
    assert ours.std() > 0.01, "a constant picture would agree with anything"
    if kind == "metric":
        assert difference.max() <= MAX_DIFFERENCE
        assert difference.mean() <= MEAN_DIFFERENCE
    else:
        assert difference.max() <= MAX_RELATIVE_DIFFERENCE * theirs.max()


def test_a_folder_that_transformers_saved_loads(tmp_path: Path, toy_weights: Weights) -> None:
    transformers_model(save_hf(toy_weights, "toy", "metric", tmp_path / "ours")).save_pretrained(tmp_path / "theirs")
    state_dict = load_model("toy", "hypersim", tmp_path / "theirs").network.state_dict()
    assert state_dict.keys() == toy_weights.keys()
    for name, tensor in toy_weights.items():
        assert torch.equal(state_dict[name], tensor), name


def test_the_hf_file_is_as_long_as_the_one_on_the_hub(checkpoint_of: CheckpointOf) -> None:
    """The header lists every name, so a single other name would change the length."""
    path = checkpoint_of("vits", "relative", "hf") / "model.safetensors"
    assert path.stat().st_size == 99_173_660  # depth-anything/Depth-Anything-V2-Small-hf
