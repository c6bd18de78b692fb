"""Files of Depth Anything 3: read safely and strictly, and told apart where that can be told."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_in import Weights, save_official
from stand_in_da3 import save_da3, toy_da3_weights

from depth_anything_ros.errors import CheckpointMismatch, CheckpointNotFound, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.model import registry
from depth_anything_ros.model.checkpoint_reading import file_sha256
from depth_anything_ros.model.checkpoint_search import CHECKPOINTS_VARIABLE, find_checkpoint, given_checkpoint
from depth_anything_ros.model.weights import UNTRAINED, load_model


@pytest.mark.parametrize("dataset", ["da3metric", "da3mono", "da3"])
def test_an_official_file_is_found_under_its_repositorys_name_and_loads(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = {"da3metric": "DA3METRIC-TOY", "da3mono": "DA3MONO-TOY", "da3": "DA3-TOY"}[dataset]
    path = save_da3(toy_da3_weights(dataset), tmp_path / folder / "model.safetensors")
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    assert find_checkpoint("toy", dataset) == path
    loaded = load_model("toy", dataset, download=False)
    assert (loaded.source, loaded.sha256) == (str(path), file_sha256(path))
    weights = {name.partition(".")[2].split(".", 1)[1]: tensor for name, tensor in toy_da3_weights(dataset).items()}
    for name, tensor in loaded.network.state_dict().items():
        own = weights.get(name) if name.startswith("pretrained.") else weights[name.split(".", 1)[1]]
        assert own is not None
        assert torch.equal(tensor, own), name


def test_parts_for_several_views_are_left_out_and_anything_else_is_refused(tmp_path: Path) -> None:
    weights = dict(toy_da3_weights("da3"))
    unused = ("cam_enc.token_norm.weight", "cam_dec.fc_t.bias", "head.scratch.output_conv2_aux.0.0.bias")
    path = save_da3(weights | {f"model.{name}": torch.zeros(3) for name in unused}, tmp_path / "views.safetensors")
    load_model("toy", "da3", path)
    for strange in ("model.head.scratch.output_conv3.weight", "other"):
        path = save_da3(weights | {strange: torch.zeros(3)}, tmp_path / "strange.safetensors")
        with pytest.raises(CheckpointMismatch, match="1 unexpected"):
            load_model("toy", "da3", path)
    weights.pop("model.cam_dec.fc_fov.0.bias")
    path = save_da3(weights, tmp_path / "short.safetensors")
    with pytest.raises(CheckpointMismatch, match="1 tensors missing"):
        load_model("toy", "da3", path)


def test_weights_of_another_generation_or_architecture_are_named(tmp_path: Path, toy_weights: Weights) -> None:
    v2 = save_official(toy_weights, tmp_path / "v2.pth")
    with pytest.raises(CheckpointMismatch, match=r"holds toy weights of hypersim, vkitti, .*dataset 'da3metric'"):
        load_model("toy", "da3metric", v2)
    metric = save_da3(toy_da3_weights("da3metric"), tmp_path / "mine.safetensors")
    with pytest.raises(CheckpointMismatch, match="holds toy weights of da3metric, da3mono, but dataset 'da3'"):
        load_model("toy", "da3", metric)
    with pytest.raises(CheckpointMismatch, match="holds toy weights, but encoder 'vitl' was asked for"):
        load_model("vitl", "da3metric", metric)


def test_metric_and_mono_are_told_apart_by_repository_or_sha256(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = toy_da3_weights("da3metric")
    path = save_da3(weights, tmp_path / "DA3METRIC-TOY" / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match="holds da3metric weights, but dataset 'da3mono' was asked for"):
        load_model("toy", "da3mono", path)
    renamed = save_da3(weights, tmp_path / "mine.safetensors")
    load_model("toy", "da3mono", renamed)  # nothing tells
    known = replace(registry.DATASETS["da3metric"], sha256={"toy": file_sha256(renamed)})
    monkeypatch.setitem(registry.DATASETS, "da3metric", known)
    with pytest.raises(CheckpointMismatch, match="official file of dataset 'da3metric', but 'da3mono' was asked for"):
        load_model("toy", "da3mono", renamed)
    caplog.clear()
    load_model("toy", "da3metric", renamed)
    assert "not the official file" not in caplog.text
    other = save_da3(weights | {"model.head.projects.0.bias": torch.ones(8)}, tmp_path / "other.safetensors")
    with caplog.at_level(logging.WARNING):
        load_model("toy", "da3metric", other)
    assert caplog.text.count("is not the official file of toy_da3metric, by its SHA-256") == 1


HASH = "0123456789abcdef" * 2 + "01234567"
OLD_HASH = "f" * 40


def hub_cache(folder: Path, repository: str, dataset: str) -> Path:
    """A Hub cache that keeps a repository's file: a link in a snapshot, which leads to a blob."""
    repo = folder / f"models--depth-anything--{repository}"
    blob = save_da3(toy_da3_weights(dataset), repo / "blobs" / ("0" * 64))
    snapshot = repo / "snapshots" / HASH
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / blob.name)
    return snapshot / "model.safetensors"


def test_in_a_hub_cache_the_repositorys_folder_tells_metric_and_mono_apart(tmp_path: Path) -> None:
    """The file is called model.safetensors, and its folder by a commit."""
    metric = hub_cache(tmp_path / "hub", "DA3METRIC-TOY", "da3metric")
    load_model("toy", "da3metric", metric)
    (tmp_path / "linked.safetensors").symlink_to(metric)
    for path in (metric, metric.parent, tmp_path / "linked.safetensors"):
        with pytest.raises(CheckpointMismatch, match="holds da3metric weights, but dataset 'da3mono' was asked for"):
            load_model("toy", "da3mono", path)
    mono = hub_cache(tmp_path / "hub", "DA3MONO-TOY", "da3mono")
    with pytest.raises(CheckpointMismatch, match="holds da3mono weights, but dataset 'da3metric' was asked for"):
        load_model("toy", "da3metric", mono)


@pytest.mark.parametrize(
    "repository", ["Depth-Anything-V2-Metric-Indoor-toy-hf", "Depth-Anything-V2-Metric-Hypersim-toy"]
)
def test_the_folder_of_a_repository_of_v2_tells_its_dataset_too(
    repository: str, tmp_path: Path, toy_weights: Weights
) -> None:
    """Where nobody fetched its config.json. Depth would be four times too far."""
    path = save_da3(toy_weights, tmp_path / repository / "model.safetensors")
    load_model("toy", "hypersim", path)
    with pytest.raises(CheckpointMismatch, match="holds hypersim weights, but dataset 'vkitti' was asked for"):
        load_model("toy", "vkitti", path)


def test_of_a_hub_caches_snapshots_the_current_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = tmp_path / "models--depth-anything--DA3METRIC-LARGE"
    for commit in (OLD_HASH, HASH):
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "model.safetensors").touch()
    with pytest.raises(CheckpointNotFound, match=r"is a folder without model\.safetensors: name the file"):
        given_checkpoint(repo)  # nothing says which one
    (repo / "refs").mkdir()
    monkeypatch.setenv(CHECKPOINTS_VARIABLE, str(tmp_path))
    for commit in (OLD_HASH, HASH):
        (repo / "refs" / "main").write_text(commit)
        current = repo / "snapshots" / commit / "model.safetensors"
        assert given_checkpoint(repo) == current
        assert find_checkpoint("vitl", "da3metric") == current
    assert find_checkpoint("vitl", "da3mono") is None


def test_the_sha256_of_the_official_metric_file_is_known() -> None:
    known = registry.dataset_spec("da3metric").sha256
    assert known == {"vitl": "bbea5b0b3ee389849cffa7ddae89de064a90abd2b055fc5aa99aac68db324776"}


def test_an_encoder_that_a_dataset_does_not_have_is_refused_before_anything_is_looked_for() -> None:
    with pytest.raises(SettingsError, match="dataset 'da3' has no encoder 'vitl'; it has: vits, vitb, toy"):
        DepthEstimator.load("vitl", "da3", UNTRAINED, device="cpu")
