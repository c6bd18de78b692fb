"""Parameters as tables and rules: no node needed."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.node.configuration import Configuration, changed, to_ros
from depth_anything_ros.node.parameter_table import Parameter
from depth_anything_ros.node.parameters import CAMERA_PARAMETERS, MODEL_PARAMETERS, NODE_PARAMETERS, PARAMETERS
from depth_anything_ros.node.synthetic_camera import PARAMETERS as SYNTHETIC_PARAMETERS
from depth_anything_ros.settings import CameraSettings, ModelSettings, NodeSettings

DEFAULT = changed(Configuration(), {})
TABLES = ((MODEL_PARAMETERS, ModelSettings), (CAMERA_PARAMETERS, CameraSettings), (NODE_PARAMETERS, NodeSettings))


def with_camera(**settings: Any) -> Configuration:
    return replace(DEFAULT, camera=CameraSettings(**settings))


@pytest.mark.parametrize(("table", "settings"), TABLES)
def test_every_setting_has_a_parameter_and_the_other_way_round(table: dict[str, Any], settings: type) -> None:
    assert set(table) == {field.name for field in fields(settings)}


def test_every_default_is_allowed_and_stays_the_default() -> None:
    defaults = {
        field.name: PARAMETERS[field.name].unset if (value := getattr(settings(), field.name)) is None else value
        for _, settings in TABLES
        for field in fields(settings)
        if not PARAMETERS[field.name].numbers  # an array is not set unless it is given
    }
    assert None not in defaults.values()
    assert changed(DEFAULT, defaults) == DEFAULT
    assert DEFAULT.of_camera("") == CameraSettings()


@pytest.mark.parametrize("table", [PARAMETERS, SYNTHETIC_PARAMETERS], ids=["depth", "synthetic camera"])
def test_descriptions_are_short_and_whole(table: dict[str, Parameter]) -> None:
    for name, parameter in table.items():
        text = parameter.description
        assert 10 < len(text) <= 200, name
        assert text.endswith("."), name
        assert "  " not in text, name
        if parameter.unset in ("", 0, 0.0):  # what stands for "not set" is said
            assert re.search(r"\b0: |[Ee]mpty: |Empty ", text), name


def test_what_is_not_changed_stays() -> None:
    before = replace(with_camera(cloud_stride=4), model=ModelSettings(encoder="vitb"))
    after = changed(before, {"max_depth": 7.0})
    assert after.model == ModelSettings(encoder="vitb")
    assert after.camera == CameraSettings(cloud_stride=4, max_depth=7.0)


@pytest.mark.parametrize("name", ["max_depth", "min_range_m", "max_range_m", "cloud_rate_hz", "color_max_m"])
def test_zero_stands_for_not_set(name: str) -> None:
    assert getattr(changed(DEFAULT, {name: 0.0}).camera, name) is None


def test_an_empty_checkpoint_means_search() -> None:
    assert changed(DEFAULT, {"checkpoint": ""}).model.checkpoint is None
    assert to_ros(ModelSettings())["checkpoint"] == ""
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
        changed(DEFAULT, values)


def test_ranges_are_judged_together_with_what_is_set_already() -> None:
    with pytest.raises(SettingsError, match="min_range_m"):
        changed(with_camera(max_range_m=2.0), {"min_range_m": 2.5})
    camera = changed(with_camera(max_range_m=2.0), {"min_range_m": 2.5, "max_range_m": 0.0}).camera
    assert (camera.min_range_m, camera.max_range_m) == (2.5, None)


def test_parameters_of_others_are_left_alone() -> None:
    assert changed(DEFAULT, {"use_sim_time": True, "qos_overrides./image.subscription.depth": 5}) == DEFAULT


# Several cameras

TWO = changed(DEFAULT, {"cameras": ["front", "rear"]})


def test_a_camera_has_the_common_value_until_it_has_its_own() -> None:
    configuration = changed(TWO, {"max_depth": 7.0, "rear.max_depth": 3.0, "rear.cloud_rate_hz": 0.0})
    assert configuration.of_camera("front") == CameraSettings(max_depth=7.0)
    assert configuration.of_camera("rear") == CameraSettings(max_depth=3.0)
    later = changed(configuration, {"max_depth": 9.0, "cloud_rate_hz": 2.0})
    assert later.of_camera("front") == CameraSettings(max_depth=9.0, cloud_rate_hz=2.0)
    assert later.of_camera("rear") == CameraSettings(max_depth=3.0, cloud_rate_hz=None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rear.cloud_stride": 0}, "parameter rear.cloud_stride is 0; allowed: 1 to 64"),
        ({"rear.cloud_stride": 2.5}, "parameter rear.cloud_stride is 2.5; allowed: a value of type int"),
        ({"rear.edge_filter": 1}, "parameter rear.edge_filter is 1; allowed: a value of type bool"),
        ({"rear.max_depth": "deep"}, "parameter rear.max_depth is 'deep'; allowed: a value of type float"),
        ({"rear.range_extrinsics": 1.0}, "parameter rear.range_extrinsics is 1.0; allowed: 6 finite numbers"),
        ({"range_extrinsics": [0.0] * 5}, "parameter range_extrinsics is .*; allowed: 6 finite numbers"),
        (
            {"max_range_m": 4.0, "rear.min_range_m": 5.0},
            "parameter rear.min_range_m is 5.0; it must be less than rear.max_range_m, 4.0",
        ),
    ],
)
def test_a_cameras_own_value_is_judged_as_the_common_one(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        changed(TWO, values)


@pytest.mark.parametrize(
    "names", [[], ["front", "front"], ["front", ""], ["2nd"], ["a/b"], ["../up"], ["qos_overrides"]]
)
def test_a_camera_that_cannot_have_its_name_is_refused(names: list[str]) -> None:
    with pytest.raises(SettingsError, match="parameter cameras"):
        changed(DEFAULT, {"cameras": names})
