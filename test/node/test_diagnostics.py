"""A health is as bad as its worst problem, and says all of them."""

from __future__ import annotations

from depth_anything_ros.node.diagnostics import Health, Level, status_of


def test_nothing_wrong_is_ok_and_says_the_state() -> None:
    health = Health("active")
    assert (health.level, health.message) == (Level.OK, "active")


def test_the_worst_problem_decides_and_is_told_first() -> None:
    health = Health("active", ((Level.WARN, "old"), (Level.ERROR, "broken"))).with_warnings(["stale", "odd"])
    assert (health.level, health.message) == (Level.ERROR, "broken; old; stale; odd")
    assert Health("active").with_warnings(["stale"]).level == Level.WARN
    assert Health("active").with_warnings([]).level == Level.OK


def test_a_status_has_a_level_of_one_byte_values_as_text_and_the_hardware_as_id() -> None:
    status = status_of("/front: depth", Health("idle", ((Level.WARN, "stale"),)), {"hardware": "GPU 1", "count": 3})
    assert (status.level, status.name, status.message) == (b"\x01", "/front: depth", "stale")
    assert status.hardware_id == "GPU 1"
    assert [(value.key, value.value) for value in status.values] == [("hardware", "GPU 1"), ("count", "3")]
    assert status_of("x", Health("inactive"), {}).hardware_id == ""
