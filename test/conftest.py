"""Fixtures that several test files share. No test leaves this machine: see `on_this_machine_only`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# Before huggingface_hub is imported, for child processes too: a forgotten download fails at once.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
# Before torch is imported: threads that spin while they wait would take the cores of the tests beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import stand_in

from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model.checkpoint_search import CHECKPOINTS_VARIABLE, checkpoint_name

settings.register_profile("project", deadline=None)  # a busy machine is no failure
settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests after the others."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def on_this_machine_only(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Hide the user's own checkpoints and caches from a test and its child processes; its own cache starts empty."""
    monkeypatch.delenv(CHECKPOINTS_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def toy_weights() -> stand_in.Weights:
    """Weights of the toy encoder, official names; do not change them."""
    return stand_in.stand_in_weights("toy")


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory, toy_weights: stand_in.Weights) -> Path:
    """Folder with a toy checkpoint per dataset, under the official names; do not change it."""
    folder = tmp_path_factory.mktemp("toy_checkpoints")
    for dataset in ("hypersim", "vkitti", "relative"):
        stand_in.save_official(toy_weights, folder / checkpoint_name("toy", dataset))
    return folder


@pytest.fixture(scope="session")
def toy_checkpoint(toy_folder: Path) -> Path:
    """A metric toy checkpoint."""
    return toy_folder / checkpoint_name("toy", "hypersim")


@pytest.fixture(scope="session")
def toy_estimator(toy_checkpoint: Path) -> DepthEstimator:
    """A metric estimator that answers in milliseconds: in torch, which compiles nothing per image size."""
    return DepthEstimator.load("toy", "hypersim", toy_checkpoint, input_size=56, device="cpu", backend="torch")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a command is to write: nothing is there yet."""
    return tmp_path / "out"


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that the network was asked about, as it goes."""
    calls: list[tuple[int, ...]] = []
    estimate = DepthEstimator.estimate

    def counted(self: DepthEstimator, image_bgr: NDArray[np.uint8], *args: Any, **options: Any) -> DepthMap:
        calls.append(image_bgr.shape)
        return estimate(self, image_bgr, *args, **options)

    monkeypatch.setattr(DepthEstimator, "estimate", counted)
    return calls


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A picture, uint8 BGR (48, 64, 3); do not change it."""
    picture = stand_in.stand_in_image(48, 64, seed=2)
    picture.flags.writeable = False
    return picture
