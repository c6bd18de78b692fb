"""The networks of Depth Anything 3, and what is before and after them, give what the official implementation gives.

`data/golden_da3/` holds the official implementation's outputs (float32, CPU), at the size the network works at, for
stand-in weights and pictures that `stand_in_da3` draws again here. The official weights were never run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from stand_in_da3 import CASES, GOLDEN_DA3, NAMES, case_picture, da3_layout, da3_weights

from depth_anything_ros.estimator import DepthEstimator, focal_of
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.da3_names import from_da3_names
from depth_anything_ros.model.depth_network import DepthNetwork, Outputs
from depth_anything_ros.model.preprocess import ResizeTwice, known_rule, normalise
from depth_anything_ros.model.registry import SKY_THRESHOLD, dataset_spec
from depth_anything_ros.model.sky import sky_depth
from depth_anything_ros.settings import InputLimits, own_input_size

# Relative. Other summation orders move depth by 1e-5; GELU by tanh by 6e-4 (mean 1.5e-4).
MAX_FROM_PIXELS, MEAN_FROM_PIXELS = 2e-4, 3e-5
# One level of 255 in a pixel of a thousand, through the network.
MAX_WHOLE_PATH, MEAN_WHOLE_PATH = 5e-3, 1e-3
MAX_OTHER_PIXELS = 1e-3
OFFICIAL_SKY_ANSWER = 0.5  # its boolean answer has another threshold than its filling

Case = Mapping[str, Any]
Golden = Mapping[str, NDArray[Any]]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))


@cache
def golden_of(name: str) -> Golden:
    with np.load(GOLDEN_DA3 / f"{name}.npz") as file:
        return dict(file)


def preprocessing_of(case: Case) -> ResizeTwice:
    return ResizeTwice(known_rule(case["process_res_method"].removesuffix("_resize")))


def picture_of(case: Case) -> torch.Tensor:
    return torch.from_numpy(case_picture(case)[None])


def official_input(golden: Golden) -> torch.Tensor:
    """The official pixels, uint8 RGB, as the network takes them."""
    return normalise(torch.from_numpy(golden["processed"]).flip(-1).permute(2, 0, 1)[None].float())


def network_with(model: str, salt: int) -> DepthNetwork:
    """A network with stand-in weights; every tensor of the official file is known, and every one here is in it."""
    with torch.device("meta"):
        network = build_model(*NAMES[model])
    network.load_state_dict(dict(from_da3_names(da3_weights(da3_layout(model), salt))), strict=True, assign=True)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def outputs_of() -> Callable[[Case], Outputs]:
    """What the network says of a case's official pixels, and of ours, as a batch of two: one forward for all tests."""
    network_of = lru_cache(maxsize=1)(network_with)  # a large one takes seconds to draw, and a gigabyte
    found: dict[str, Outputs] = {}

    def outputs(case: Case) -> Outputs:
        if case["name"] not in found:
            network = network_of(case["model"], case["salt"])
            ours = preprocessing_of(case)(picture_of(case), case["process_res"])
            x = torch.cat((official_input(golden_of(case["name"])), ours))
            with overridden(network, case["overrides"]), torch.inference_mode():
                found[case["name"]] = network.named(network(x))
        return found[case["name"]]

    return outputs


@contextmanager
def overridden(network: DepthNetwork, values: Mapping[str, float]) -> Iterator[None]:
    """Some tensors of the network, by their official names, filled with one value each."""
    parameters = dict(network.named_parameters())
    names = [name for name, _ in from_da3_names({name: torch.empty(0) for name in values})]
    before = {name: parameters[name].clone() for name in names}
    for name, value in zip(names, values.values(), strict=True):
        parameters[name].fill_(value)
    yield
    for name, tensor in before.items():
        parameters[name].copy_(tensor)


def off(found: torch.Tensor | NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Differences relative to the expected values, or to 1 where those are smaller and may be 0."""
    scale = np.abs(expected) if expected.min() > 0 else np.maximum(np.abs(expected), 1)
    return np.asarray(np.abs(np.asarray(found, np.float64) - expected) / scale)


def assert_close(found: torch.Tensor | NDArray[Any], expected: NDArray[Any], largest: float, mean: float) -> None:
    difference = off(found, expected)
    assert difference.max() <= largest
    assert difference.mean() <= mean


# ---- before the network


@each_case
def test_pixels_are_the_official_ones_to_one_level_in_a_thousand(case: Case) -> None:
    golden = golden_of(case["name"])
    pixels = preprocessing_of(case).resized(picture_of(case), case["process_res"])[0].flip(0).permute(1, 2, 0).numpy()
    assert pixels.shape == (case["processed_height"], case["processed_width"], 3)
    assert np.array_equal(pixels, pixels.round())
    difference = np.abs(pixels - golden["processed"])
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= MAX_OTHER_PIXELS
    size = preprocessing_of(case).network_size(case["height"], case["width"], case["process_res"], InputLimits())
    assert size == (case["processed_height"], case["processed_width"])
    np.testing.assert_allclose(official_input(golden)[0, :, ::7, ::7], golden["tensor"], rtol=0, atol=1e-5)


# ---- the network


@each_case
def test_depth_of_the_official_pixels_is_the_official_one(case: Case, outputs_of: Callable[[Case], Outputs]) -> None:
    found, golden, step = outputs_of(case), golden_of(case["name"]), case["step"]
    assert_close(found["depth"][0, ::step, ::step], golden["raw"], MAX_FROM_PIXELS, MEAN_FROM_PIXELS)
    for name, theirs in (("sky", "sky"), ("confidence", "conf")):
        assert (name in found) == (theirs in golden)
        if name in found:
            assert_close(found[name][0, ::step, ::step], golden[theirs], MAX_FROM_PIXELS, MEAN_FROM_PIXELS)


@each_case
def test_depth_of_the_whole_path_is_the_official_one(case: Case, outputs_of: Callable[[Case], Outputs]) -> None:
    found, golden, step = outputs_of(case), golden_of(case["name"]), case["step"]
    assert_close(found["depth"][1, ::step, ::step], golden["raw"], MAX_WHOLE_PATH, MEAN_WHOLE_PATH)


@pytest.mark.parametrize("case", [case for case in CASES if case["model"] == "da3-small"], ids=lambda c: str(c["name"]))
def test_the_field_of_view_is_the_official_one(case: Case, outputs_of: Callable[[Case], Outputs]) -> None:
    field_of_view = outputs_of(case)["field_of_view"][:1]
    h, w = case["processed_height"], case["processed_width"]
    expected = golden_of(case["name"])["intrinsics"]
    vertical, horizontal = field_of_view[0].tolist()
    assert w / 2 / np.tan(horizontal / 2) == pytest.approx(expected[0, 0], rel=1e-4)
    assert h / 2 / np.tan(vertical / 2) == pytest.approx(expected[1, 1], rel=1e-4)
    focal_px = float(focal_of(field_of_view, 2 * h, 2 * w)[0])
    assert focal_px == pytest.approx(expected[0, 0] + expected[1, 1], rel=1e-4), "of a picture twice as large"


@pytest.mark.parametrize("model", NAMES)
def test_parameters_are_those_of_the_official_file(model: str) -> None:
    with torch.device("meta"):
        network = build_model(*NAMES[model])
        official = from_da3_names({name: torch.empty(shape) for name, shape in da3_layout(model).items()})
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert own == {name: tuple(tensor.shape) for name, tensor in official}


# ---- after the network


class Recorded:
    """Answers what the official network answered."""

    name, precision, weight_bytes, max_batch = "recorded", "fp32", 0, 1
    device = torch.device("cpu")

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def __call__(self, x: torch.Tensor) -> Outputs:
        return {name: values.clone() for name, values in self.outputs.items()}


def estimator_with(outputs: Outputs, case: Case) -> DepthEstimator:
    encoder, dataset = NAMES[case["model"]]
    return DepthEstimator(
        Recorded(outputs),
        key=f"{encoder}_{dataset}_{own_input_size(dataset)}",
        kind=dataset_spec(dataset).kind,
        max_depth=dataset_spec(dataset).max_depth_m,
        input_size=case["process_res"],
        preprocessing=preprocessing_of(case),
        needs_focal=dataset_spec(dataset).needs_focal,
    )


def focal_of_case(case: Case) -> tuple[float, float] | None:
    intrinsics = case["intrinsics"]
    return None if intrinsics is None else (intrinsics[0][0], intrinsics[1][1])


with_sky = pytest.mark.parametrize(
    "case", [case for case in CASES if case["model"] != "da3-small"], ids=lambda case: str(case["name"])
)


@with_sky
def test_sky_becomes_the_official_depth_and_metres_follow_from_the_focal_length_at_the_network(
    case: Case, outputs_of: Callable[[Case], Outputs]
) -> None:
    golden, step = golden_of(case["name"]), case["step"]
    depth, sky = (outputs_of(case)[name][:1] for name in ("depth", "sky"))
    fill = sky_depth(depth, sky)
    if case["sky_filled"]:
        assert float(fill) == pytest.approx(float(golden["sky_fill"]), rel=MAX_FROM_PIXELS)
    else:
        assert torch.isnan(fill).all()
        assert np.isnan(golden["sky_fill"])
    scale = estimator_with({}, case).scale(case["height"], case["width"], focal_px=focal_of_case(case))
    filled = torch.where((sky >= SKY_THRESHOLD) & ~fill.isnan(), fill, depth) * scale
    is_other = np.asarray(off(filled[0, ::step, ::step], golden["depth"]) > MAX_FROM_PIXELS)
    assert is_other.mean() <= MAX_OTHER_PIXELS, "but where sky is at the threshold"
    official_answer = sky[0, ::step, ::step].numpy() >= OFFICIAL_SKY_ANSWER
    assert np.mean(official_answer != golden["sky_mask"]) <= MAX_OTHER_PIXELS


@pytest.mark.parametrize("case", [case for case in CASES if case["step"] == 1], ids=lambda case: str(case["name"]))
def test_an_estimate_is_what_the_official_network_said_at_the_pictures_size(case: Case) -> None:
    golden, size = golden_of(case["name"]), (case["height"], case["width"])
    has_sky = "sky" in golden
    names = {"depth": "raw", "sky": "sky"} if has_sky else {"depth": "raw", "confidence": "conf"}
    official = {ours: torch.from_numpy(golden[theirs])[None] for ours, theirs in names.items()}
    if not has_sky:
        h, w = official["depth"].shape[1:]
        fx, fy = golden["intrinsics"][0, 0], golden["intrinsics"][1, 1]
        official["field_of_view"] = 2 * torch.tensor([[h / 2 / fy, w / 2 / fx]]).atan()
    found = estimator_with(official, case).estimate(case_picture(case), focal_px=focal_of_case(case))
    raw = at_size(official["depth"], size)
    if has_sky:
        is_sky = at_size((official["sky"] >= SKY_THRESHOLD).float(), size) > 0.5
        raw = without_sky(official, size)
        assert found.sky is not None
        assert found.sky.dtype == np.bool_
        assert np.array_equal(found.sky, is_sky)
        scale = float(golden["depth"].max() / filled(golden).max())
        expected = np.where(is_sky & bool(case["sky_filled"]), golden["sky_fill"], raw) * scale
        np.testing.assert_allclose(found.values, expected, rtol=1e-5)
        assert found.confidence is None
    else:
        np.testing.assert_allclose(found.values, raw, rtol=1e-5)
        assert found.confidence is not None
        np.testing.assert_allclose(found.confidence, at_size(official["confidence"], size), rtol=1e-5)
        assert found.sky is None
        assert found.focal_px == pytest.approx((fx * size[1] / w + fy * size[0] / h) / 2, rel=1e-5)
    assert found.values.shape == size


def test_what_is_beside_the_sky_keeps_its_own_depth() -> None:
    """Enlarged, the rim of the ground would be blended with what the network says of the sky, which is anything."""
    case = {"model": "da3metric-large", "process_res": 56, "process_res_method": "upper_bound_resize"}
    is_sky = torch.arange(56)[:, None].expand(56, 56) < 20
    outputs = {"depth": torch.where(is_sky, 900.0, 3.0)[None], "sky": is_sky.float()[None]}
    found = estimator_with(outputs, case).estimate(np.zeros((224, 224, 3), np.uint8), focal_px=1200.0)
    assert found.sky is not None
    assert 0.3 < found.sky.mean() < 0.4
    np.testing.assert_allclose(found.values, 3.0, rtol=1e-5)


@pytest.mark.parametrize("answer", [0.31, 0.6, 1.0, 8.0])
def test_what_is_thin_before_the_sky_stays_as_thick_as_the_network_saw_it(answer: float) -> None:
    """A wire of two pixels; whatever number the network says of the sky, four times as large it has eight."""
    case = {"model": "da3metric-large", "process_res": 56, "process_res_method": "upper_bound_resize"}
    sky = torch.full((1, 56, 56), answer)
    sky[:, :, 20:22] = 0.0
    found = estimator_with({"depth": torch.full((1, 56, 56), 3.0), "sky": sky}, case).estimate(
        np.zeros((224, 224, 3), np.uint8), focal_px=1200.0
    )
    assert found.sky is not None
    np.testing.assert_array_equal(np.flatnonzero(~found.sky[100]), np.arange(80, 88))


def without_sky(official: Outputs, size: tuple[int, int]) -> NDArray[np.float32]:
    """The official depth at another size: of each pixel's neighbours, those that are no sky count."""
    is_ground = (official["sky"] < SKY_THRESHOLD).float()
    weight = at_size(is_ground, size)
    ground = at_size(official["depth"] * is_ground, size) / np.where(weight > 0, weight, 1)
    return np.where(weight > 0, ground, at_size(official["depth"], size))


def at_size(maps: torch.Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    resized: NDArray[np.float32] = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
    return resized


def filled(golden: Golden) -> NDArray[np.float32]:
    """The official depth before metres: sky filled."""
    is_filled = ~np.isnan(golden["sky_fill"]) & (golden["sky"] >= SKY_THRESHOLD)
    return np.where(is_filled, golden["sky_fill"], golden["raw"])
