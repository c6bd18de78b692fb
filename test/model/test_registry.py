"""The tables of encoders and datasets say what the official repositories say."""

from __future__ import annotations

import pytest
import torch

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.build import build_model
from depth_anything_ros.model.checkpoint_search import checkpoint_name, hub_repository
from depth_anything_ros.model.registry import (
    DATASETS,
    ENCODERS,
    dataset_spec,
    encoder_for,
    encoder_spec,
    license_of,
    network_spec,
)


@pytest.mark.parametrize(
    ("encoder", "dataset", "file", "repository"),
    [
        ("vits", "relative", "depth_anything_v2_vits.pth", "depth-anything/Depth-Anything-V2-Small"),
        ("vitb", "relative", "depth_anything_v2_vitb.pth", "depth-anything/Depth-Anything-V2-Base"),
        (
            "vitl",
            "hypersim",
            "depth_anything_v2_metric_hypersim_vitl.pth",
            "depth-anything/Depth-Anything-V2-Metric-Hypersim-Large",
        ),
        (
            "vits",
            "vkitti",
            "depth_anything_v2_metric_vkitti_vits.pth",
            "depth-anything/Depth-Anything-V2-Metric-VKITTI-Small",
        ),
        ("vitl", "da3metric", "DA3METRIC-LARGE/model.safetensors", "depth-anything/DA3METRIC-LARGE"),
        ("vitl", "da3mono", "DA3MONO-LARGE/model.safetensors", "depth-anything/DA3MONO-LARGE"),
        ("vits", "da3", "DA3-SMALL/model.safetensors", "depth-anything/DA3-SMALL"),
        ("vitb", "da3", "DA3-BASE/model.safetensors", "depth-anything/DA3-BASE"),
    ],
)
def test_official_files_and_repositories(encoder: str, dataset: str, file: str, repository: str) -> None:
    assert checkpoint_name(encoder, dataset) == file
    assert hub_repository(encoder, dataset) == repository


@pytest.mark.parametrize(("encoder", "license_id"), [("vits", "Apache-2.0"), ("vitb", "CC-BY-NC-4.0"), ("toy", None)])
def test_licences_of_the_official_weights(encoder: str, license_id: str | None) -> None:
    assert encoder_spec(encoder).license == license_id


@pytest.mark.parametrize(("dataset", "kind", "max_depth_m"), [("hypersim", "metric", 20), ("vkitti", "metric", 80)])
def test_metric_datasets_have_a_range(dataset: str, kind: str, max_depth_m: float) -> None:
    assert (dataset_spec(dataset).kind, dataset_spec(dataset).max_depth_m) == (kind, max_depth_m)


def test_unknown_names_are_refused_with_all_that_are_known() -> None:
    with pytest.raises(SettingsError, match=f"unknown encoder 'vitg'; known: {', '.join(ENCODERS)}"):
        encoder_spec("vitg")
    with pytest.raises(SettingsError, match=f"unknown dataset 'nyu'; known: {', '.join(DATASETS)}"):
        dataset_spec("nyu")
    with pytest.raises(SettingsError, match="unknown encoder"):
        build_model("vitg", "hypersim")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_head_reads_four_blocks_of_the_encoder(encoder: str) -> None:
    spec = encoder_spec(encoder)
    assert spec.layers == tuple(sorted(set(spec.layers)))
    assert spec.layers[-1] == spec.depth - 1
    assert spec.embed_dim % spec.num_heads == 0


@pytest.mark.parametrize("dataset", ["hypersim", "relative", "da3metric", "da3mono", "da3"])
def test_network_gives_one_value_a_pixel_in_the_kinds_range(dataset: str) -> None:
    network = build_model("toy", dataset)
    with torch.inference_mode():
        found = network.named(network(torch.randn(2, 3, 28, 56, generator=torch.Generator().manual_seed(1))))
    assert tuple(found) == network_spec(dataset).outputs
    shapes = {name: (2,) if name == "field_of_view" else (2, 28, 56) for name in found}
    assert {name: tuple(values.shape[: len(shapes[name])]) for name, values in found.items()} == shapes
    assert all(values.min() >= 0 for values in found.values())
    assert dataset != "hypersim" or found["depth"].max() <= 1
    assert "confidence" not in found or found["confidence"].min() >= 1


def test_a_dataset_has_its_own_encoders_and_says_which() -> None:
    with pytest.raises(SettingsError, match="dataset 'da3metric' has no encoder 'vits'; it has: vitl, toy"):
        build_model("vits", "da3metric")
    assert encoder_for("vits", "da3").layers == (5, 7, 9, 11)
    assert encoder_for("vits", "hypersim").layers == (2, 5, 8, 11)


@pytest.mark.parametrize(
    ("encoder", "dataset", "license_id"),
    [("vitl", "da3metric", "Apache-2.0"), ("vitb", "da3", "Apache-2.0"), ("vitl", "hypersim", "CC-BY-NC-4.0")],
)
def test_licences_follow_from_encoder_and_dataset(encoder: str, dataset: str, license_id: str) -> None:
    assert license_of(encoder, dataset) == license_id
    assert license_of("toy", dataset) is None
