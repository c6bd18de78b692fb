"""A status is as bad as its worst problem, and says all of them."""

from __future__ import annotations

import pytest

from depth_anything_ros.node.diagnostics import Status, status_message
from depth_anything_ros.node.health import Level


def test_nothing_wrong_is_ok_and_says_the_state() -> None:
    status = Status("active")
    assert (status.level, status.message) == (Level.OK, "active")


def test_the_worst_problem_decides_and_is_told_first() -> None:
    status = Status("active", ((Level.WARN, "old"), (Level.ERROR, "broken"))).with_warnings(["stale", "odd"])
    assert (status.level, status.message) == (Level.ERROR, "broken; old; stale; odd")
    assert Status("active").with_warnings(["stale"]).level == Level.WARN
    assert Status("active").with_warnings([]).level == Level.OK


def test_a_status_has_a_level_of_one_byte_values_as_text_and_the_hardware_as_id() -> None:
    status = status_message(
        "/front: depth", Status("idle", ((Level.WARN, "stale"),)), {"hardware": "GPU 1", "count": 3}
    )
    assert (status.level, status.name, status.message) == (b"\x01", "/front: depth", "stale")
    assert status.hardware_id == "GPU 1"
    assert [(value.key, value.value) for value in status.values] == [("hardware", "GPU 1"), ("count", "3")]
    assert status_message("x", Status("inactive"), {}).hardware_id == ""


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("rate_in_hz", "14.9", "14.9 Hz"),
        ("network_ms", "23", "23 ms"),
        ("image_age_s", "0.12", "0.12 s"),
        ("shift_m", 0.0, "0.0 m"),
        ("alignment_scale_per_m", "1.2", "1.2 1/m"),
        ("memory_mib", 512, "512 MiB"),
        ("frames_received", 1200, "1200"),
        ("device", "cpu", "cpu"),
    ],
)
def test_values_have_the_unit_that_their_name_ends_with(name: str, value: object, written: str) -> None:
    [shown] = status_message("x", Status("active"), {name: value}).values
    assert shown.value == written
