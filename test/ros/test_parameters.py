"""Parameters as tables and rules: no node needed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.parameters import MODEL_PARAMETERS, NODE_PARAMETERS, PARAMETERS, changed, to_ros
from depth_anything_ros.settings import ModelSettings, NodeSettings

MODEL, NODE = ModelSettings(), NodeSettings()


def test_every_setting_has_a_parameter_and_the_other_way_round() -> None:
    assert set(MODEL_PARAMETERS) == {field.name for field in fields(ModelSettings)}
    assert set(NODE_PARAMETERS) == {field.name for field in fields(NodeSettings)}


def test_every_default_is_allowed_and_stays_the_default() -> None:
    defaults = to_ros(MODEL) | {
        field.name: PARAMETERS[field.name].unset if (value := getattr(NODE, field.name)) is None else value
        for field in fields(NodeSettings)
    }
    assert None not in defaults.values()
    assert changed(MODEL, NODE, defaults) == (MODEL, NODE)


def test_what_is_not_changed_stays() -> None:
    model, node = changed(ModelSettings(encoder="vitb"), NodeSettings(cloud_stride=4), {"max_depth": 7.0})
    assert model == ModelSettings(encoder="vitb")
    assert node == NodeSettings(cloud_stride=4, max_depth=7.0)


@pytest.mark.parametrize("name", ["max_depth", "min_range_m", "max_range_m", "cloud_rate_hz", "color_max_m"])
def test_zero_stands_for_not_set(name: str) -> None:
    _, node = changed(MODEL, NODE, {name: 0.0})
    assert getattr(node, name) is None


def test_an_empty_checkpoint_means_search() -> None:
    assert changed(MODEL, NODE, {"checkpoint": ""})[0].checkpoint is None
    assert to_ros(MODEL)["checkpoint"] == ""
    assert to_ros(ModelSettings(checkpoint="/a.pth"))["checkpoint"] == "/a.pth"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "vitx"}, "parameter encoder is 'vitx'; allowed: vits, vitb, vitl"),
        ({"dataset": "nyu"}, "parameter dataset is 'nyu'; allowed: hypersim, vkitti, relative"),
        ({"precision": "int8"}, "parameter precision is 'int8'; allowed: auto, fp32, bf16, fp16"),
        ({"backend": "tpu"}, "parameter backend is 'tpu'; allowed: auto, torch"),
        ({"depth_encoding": "64FC1"}, "parameter depth_encoding is '64FC1'; allowed: 32FC1, 16UC1"),
        ({"image_transport": "theora"}, "parameter image_transport is 'theora'; allowed: raw, compressed"),
        ({"input_size": 13}, "parameter input_size is 13; allowed: 14 to 2072"),
        ({"cloud_stride": 0}, "parameter cloud_stride is 0; allowed: 1 to 64"),
        ({"max_depth": -1.0}, "parameter max_depth is -1.0; allowed: 0 to 1000"),
        ({"max_depth": float("nan")}, "parameter max_depth is nan; allowed: 0 to 1000"),
        ({"cloud_rate_hz": float("inf")}, "parameter cloud_rate_hz is inf; allowed: 0 to 1000"),
        ({"min_range_m": 3.0, "max_range_m": 3.0}, "min_range_m is 3.0; it must be less than max_range_m, 3.0"),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_allowed(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        changed(MODEL, NODE, values)


def test_ranges_are_judged_together_with_what_is_set_already() -> None:
    with pytest.raises(SettingsError, match="min_range_m"):
        changed(MODEL, NodeSettings(max_range_m=2.0), {"min_range_m": 2.5})
    _, node = changed(MODEL, NodeSettings(max_range_m=2.0), {"min_range_m": 2.5, "max_range_m": 0.0})
    assert (node.min_range_m, node.max_range_m) == (2.5, None)


def test_parameters_of_others_are_left_alone() -> None:
    assert changed(MODEL, NODE, {"use_sim_time": True, "qos_overrides./image.subscription.depth": 5}) == (MODEL, NODE)
