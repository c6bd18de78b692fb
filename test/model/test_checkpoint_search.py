"""Where checkpoints are looked for, in which order, and what is said when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from depth_anything_ros.errors import CheckpointNotFound
from depth_anything_ros.model import checkpoint_search, weights
from depth_anything_ros.model.checkpoint_search import CHECKPOINTS_VARIABLE
from depth_anything_ros.model.weights import load_model


def put(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_search_order_is_path_then_listed_folders_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "depth_anything_v2_metric_hypersim_vits.pth"
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, os.pathsep.join([str(first), "", str(second)]))
    explicit = put(tmp_path, "mine.pth")
    places = [put(first, name), put(second, name), put(checkpoint_search.cache_folder(), name)]
    assert weights.resolve_checkpoint("vits", "hypersim", explicit, download=False) == explicit
    for place in places:
        assert weights.resolve_checkpoint("vits", "hypersim", download=False) == place
        place.unlink()
    assert checkpoint_search.find_checkpoint("vits", "hypersim") is None


@pytest.mark.parametrize(
    ("encoder", "dataset", "name"),
    [
        ("vits", "relative", "depth_anything_v2_vits.pth"),
        ("vitb", "vkitti", "depth_anything_v2_metric_vkitti_vitb.pth"),
        ("vitl", "hypersim", "depth_anything_v2_metric_hypersim_vitl.safetensors"),
        ("vits", "relative", "Depth-Anything-V2-Small-hf/model.safetensors"),
        ("vitb", "hypersim", "Depth-Anything-V2-Metric-Indoor-Base-hf/model.safetensors"),
        ("vitl", "vkitti", "Depth-Anything-V2-Metric-Outdoor-Large-hf/model.safetensors"),
        ("toy", "relative", "depth_anything_v2_toy.pth"),
    ],
)
def test_official_names_are_found(
    encoder: str, dataset: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    path = put(tmp_path, name)
    assert checkpoint_search.find_checkpoint(encoder, dataset) == path
    for other_encoder in {"vits", "vitb", "vitl"} - {encoder}:
        assert checkpoint_search.find_checkpoint(other_encoder, dataset) is None


def test_home_is_expanded_and_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, "~/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert checkpoint_search.search_folders() == [tmp_path / "weights", tmp_path / ".cache/depth_anything_ros"]
    path = put(tmp_path, "x.pth")
    assert weights.resolve_checkpoint("vits", "hypersim", "~/x.pth") == path


def test_explicit_path_that_is_missing_is_named_and_nothing_else_is_tried(tmp_path: Path) -> None:
    put(checkpoint_search.cache_folder(), "depth_anything_v2_metric_hypersim_vits.pth")
    with pytest.raises(CheckpointNotFound, match=r"gone\.pth' does not exist"):
        load_model("vits", "hypersim", tmp_path / "gone.pth")
    with pytest.raises(CheckpointNotFound, match=r"is a folder without model\.safetensors: name the file"):
        load_model("vits", "hypersim", tmp_path)


def test_missing_checkpoint_lists_every_place_and_both_ways_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    with pytest.raises(CheckpointNotFound) as refusal:
        load_model("vitb", "vkitti", download=False)
    text = str(refusal.value)
    for folder in (tmp_path / "a", tmp_path / "b", checkpoint_search.cache_folder()):
        assert f"{folder}/depth_anything_v2_metric_vkitti_vitb.pth\n" in text
        assert f"{folder}/depth_anything_v2_metric_vkitti_vitb.safetensors\n" in text
        assert f"{folder}/Depth-Anything-V2-Metric-Outdoor-Base-hf/model.safetensors\n" in text
    assert "depth_anything download vitb vkitti" in text
    assert CHECKPOINTS_VARIABLE in text
    assert "depth-anything/Depth-Anything-V2-Metric-VKITTI-Base" in text


def test_an_encoder_without_official_weights_says_so() -> None:
    with pytest.raises(CheckpointNotFound, match=r"no official weights for encoder 'toy' .* Give a checkpoint's path"):
        load_model("toy", "hypersim")


def test_the_demonstration_encoder_with_another_dataset_names_the_one_it_comes_with() -> None:
    with pytest.raises(
        CheckpointNotFound, match=r"encoder 'vitt' with dataset 'hypersim'\. Choose dataset synthetic, or"
    ):
        load_model("vitt", "hypersim")
