"""DepthEstimator with Depth Anything 3: metres need a focal length, sizes are the network's own, more maps come."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stand_in_da3 import save_da3, toy_da3_weights

from depth_anything_ros.errors import ImageError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.serving.batcher import Batcher, BatchPlan
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import InputLimits, ModelSettings

Image = NDArray[np.uint8]
DATASETS = ("da3metric", "da3mono", "da3")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("da3")
    return {name: save_da3(toy_da3_weights(name), folder / f"{name}.safetensors") for name in DATASETS}


@pytest.fixture(scope="module")
def estimators(checkpoints: dict[str, Path]) -> dict[str, DepthEstimator]:
    """Toys at their own input size."""
    return {
        name: DepthEstimator.load("toy", name, path, device="cpu", backend="torch")
        for name, path in checkpoints.items()
    }


def test_the_networks_own_size_is_504_and_the_key_says_so(estimators: dict[str, DepthEstimator]) -> None:
    assert [one.key for one in estimators.values()] == ["toy_da3metric_504", "toy_da3mono_504", "toy_da3_504"]
    assert estimators["da3"].network_size(480, 640) == (378, 504)
    assert ModelSettings("vits", "da3").key == "vits_da3_504"
    assert ModelSettings("vits", "hypersim").key == "vits_hypersim_518"
    assert ModelSettings("vits", "da3", input_size=252).key == "vits_da3_252"


def test_which_side_becomes_the_input_size_can_be_chosen(checkpoints: dict[str, Path], toy_checkpoint: Path) -> None:
    def size(dataset: str, checkpoint: Path, resize: str | None) -> tuple[int, int]:
        estimator = DepthEstimator.load("toy", dataset, checkpoint, 84, "cpu", backend="torch", resize=resize)
        return estimator.network_size(60, 80)

    assert size("da3", checkpoints["da3"], None) == size("da3", checkpoints["da3"], "upper_bound") == (70, 84)
    assert size("da3", checkpoints["da3"], "lower_bound") == (84, 112)
    assert size("hypersim", toy_checkpoint, None) == size("hypersim", toy_checkpoint, "lower_bound") == (84, 112)
    assert size("hypersim", toy_checkpoint, "upper_bound") == (56, 84)
    with pytest.raises(SettingsError, match="unknown resize 'both'; known: lower_bound, upper_bound"):
        size("da3", checkpoints["da3"], "both")


def test_metres_are_proportional_to_the_focal_length_at_the_network(
    estimators: dict[str, DepthEstimator], photo: Image
) -> None:
    estimator = estimators["da3metric"]
    [unit] = estimator.predict([photo]).depth.numpy()
    height, width = photo.shape[:2]
    h, w = estimator.network_size(height, width)
    for focal_px, expected in (
        (60.0, 60.0 * (w / width + h / height) / 2),
        ((50.0, 70.0), (50 * w / width + 70 * h / height) / 2),
    ):
        depth = estimator.estimate(photo, focal_px=focal_px)
        np.testing.assert_allclose(depth.values, unit * expected / 300, rtol=1e-5)
        assert (depth.kind, depth.unit, depth.focal_px) == ("metric", "m", 60.0)


def test_a_crop_free_picture_of_any_size_has_the_same_factor(estimators: dict[str, DepthEstimator]) -> None:
    """A camera's picture at half its size has half the focal length in pixels, and means the same metres."""
    estimator = estimators["da3metric"]
    factors = [estimator.scale(scale * 120, scale * 160, focal_px=scale * 90.0) for scale in (1, 2, 5)]
    assert factors == pytest.approx([factors[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("focal_px", [None, 0.0, -5.0, math.nan, math.inf, (60.0, 0.0)])
def test_metres_without_a_focal_length_are_refused(
    focal_px: Any, estimators: dict[str, DepthEstimator], photo: Image
) -> None:
    said = "toy_da3metric_504 needs focal_px" if focal_px is None else "focal_px must be a positive number of pixels"
    with pytest.raises(SettingsError, match=said):
        estimators["da3metric"].estimate(photo, focal_px=focal_px)
    for other in ("da3mono", "da3"):
        assert estimators[other].estimate(photo, focal_px=focal_px).unit == "", "they do not look at it"


def test_each_model_tells_what_it_can_and_no_more(estimators: dict[str, DepthEstimator], photo: Image) -> None:
    for name, estimator in estimators.items():
        depth = estimator.estimate(photo, focal_px=60.0)
        assert (depth.sky is None) == (name == "da3")
        assert (depth.confidence is None) == (name != "da3")
        assert depth.values.shape == photo.shape[:2]
        assert depth.values.min() > 0
        for maps, dtype in ((depth.sky, np.bool_), (depth.confidence, np.float32)):
            assert maps is None or (maps.shape == photo.shape[:2] and maps.dtype == dtype)
    assert estimators["da3"].estimate(photo).kind == "scale_invariant"
    assert estimators["da3mono"].estimate(photo).focal_px is None


def test_images_of_a_batch_have_their_own_focal_lengths(estimators: dict[str, DepthEstimator], photo: Image) -> None:
    estimator = estimators["da3metric"]
    near, far = estimator.estimate_batch([photo, photo], None, [60.0, 120.0])
    np.testing.assert_allclose(far.values, 2 * near.values, rtol=1e-5)
    with pytest.raises(SettingsError, match="2 images, and a focal_px for 1"):
        estimator.estimate_batch([photo, photo], None, [60.0])


def test_the_cache_and_the_batcher_pass_the_focal_length_on(
    checkpoints: dict[str, Path], estimators: dict[str, DepthEstimator], photo: Image
) -> None:
    settings = ModelSettings("toy", "da3metric", str(checkpoints["da3metric"]), device="cpu", backend="torch")
    cache = ModelCache(devices=["cpu"])
    expected = estimators["da3metric"].estimate(photo, focal_px=60.0).values
    np.testing.assert_array_equal(cache.submit(settings, photo, None, 60.0).result().values, expected)
    assert cache.models_loaded() == ["toy_da3metric_504"]
    cache.get(ModelSettings("toy", "da3metric", str(checkpoints["da3metric"]), 504, "cpu", backend="torch"))
    assert len(cache.models_loaded()) == 1, "its own size, named or not, is one model"
    batcher = Batcher(estimators["da3metric"].estimate_batch, BatchPlan(2, 1e-3), lambda: 1)
    np.testing.assert_array_equal(batcher.submit(photo, None, 60.0).result(30).values, expected)


def test_warm_up_needs_no_focal_length(estimators: dict[str, DepthEstimator]) -> None:
    estimators["da3metric"].warm_up(28, 42)


def test_caps_count_for_these_models_too(checkpoints: dict[str, Path]) -> None:
    limits = InputLimits(max_tokens=20)
    estimator = DepthEstimator.load("toy", "da3", checkpoints["da3"], 84, "cpu", backend="torch", limits=limits)
    with pytest.raises(ImageError, match="makes 30 tokens; allowed: up to 20"):
        estimator.estimate(np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(ImageError, match="aspect ratio"):
        estimator.estimate(np.zeros((10, 100, 3), np.uint8))


@pytest.mark.parametrize("field_of_view", [(0.0, 0.9), (0.9, 0.0), (0.9, math.pi), (3.5, 0.9)])
def test_a_field_of_view_that_no_pinhole_camera_has_is_no_estimate_of_a_focal_length(
    field_of_view: tuple[float, float], photo: Image
) -> None:
    class Backend:
        name, precision, weight_bytes, max_batch, device = "told", "fp32", 0, 1, torch.device("cpu")

        def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            ones = torch.ones(len(x), *x.shape[2:])
            return {"depth": ones, "confidence": ones, "field_of_view": torch.tensor([field_of_view])}

    estimator = DepthEstimator(Backend(), key="toy_da3_56", kind="scale_invariant", max_depth=1.0, input_size=56)
    depth = estimator.estimate(photo)
    assert (depth.focal_px, depth.is_focal_estimated) == (None, False)
