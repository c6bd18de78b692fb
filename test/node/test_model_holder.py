"""The model that the node holds: loaded, exchanged, let go. Needs no node."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest
from harness import eventually

from depth_anything_ros.errors import CheckpointNotFound
from depth_anything_ros.node import model_holder
from depth_anything_ros.node.model_holder import HeldModel, ModelHolder
from depth_anything_ros.settings import ModelSettings


class Estimator:
    """Stands for a loaded model."""

    def __init__(self, settings: ModelSettings) -> None:
        self.key = settings.key


@dataclass
class Loads:
    """Loads estimators slowly if wished, and notes what happened."""

    begun: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def load(self, settings: ModelSettings) -> Any:
        self.begun.append(settings.encoder)
        if self.broken or settings.encoder == "missing":
            raise CheckpointNotFound("no checkpoint")
        if len(self.begun) > 1:
            assert self.gate.wait(20)
        return Estimator(settings)

    def holder(self) -> ModelHolder:
        return ModelHolder(
            self.load,
            lambda held: self.swapped.append(held.settings.encoder),
            lambda error, held: self.failed.append((str(error), held.settings.encoder)),
        )


def of(encoder: str) -> ModelSettings:
    return ModelSettings(encoder=encoder)


def held_encoder(holder: ModelHolder) -> str:
    return "" if holder.held is None else holder.held.settings.encoder


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def holder(loads: Loads) -> ModelHolder:
    """Holds model "a"."""
    holder = loads.holder()
    holder.load(of("a"))
    return holder


def test_another_way_to_fetch_weights_is_no_other_model(loads: Loads, holder: ModelHolder) -> None:
    holder.request(ModelSettings(encoder="a", download=False, accept_license=True))
    assert not holder.is_changing
    assert holder.join(20)
    assert loads.begun == ["a"]


def test_a_reload_fetches_weights_as_was_asked_for_last(holder: ModelHolder, loads: Loads) -> None:
    asked: list[ModelSettings] = []
    load = holder._load
    holder._load = lambda settings: (asked.append(settings), load(settings))[1]  # type: ignore[func-returns-value]
    loads.gate.set()
    holder.request(ModelSettings(encoder="a", download=False))
    assert holder.join(20)
    assert holder.reload()
    assert holder.join(20)
    assert [settings.download for settings in asked] == [False]


def test_memory_is_given_back_when_the_last_frame_is_done_with_the_old_model(
    holder: ModelHolder, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_use = holder.held  # as a frame under way holds it
    assert in_use is not None
    old = weakref.ref(in_use.estimator)
    alive_then: list[bool] = []
    monkeypatch.setattr(model_holder, "free_unused_memory", lambda: alive_then.append(old() is not None))
    loads.gate.set()
    holder.request(of("b"))
    eventually(lambda: loads.swapped == ["b"], "the other model")
    assert alive_then == []
    del in_use
    assert holder.join(20)
    assert alive_then == [False]


def test_the_old_model_stays_in_use_until_the_new_one_is_ready(loads: Loads, holder: ModelHolder) -> None:
    holder.request(of("b"))
    eventually(lambda: loads.begun == ["a", "b"], "b is being loaded")
    assert held_encoder(holder) == "a"
    loads.gate.set()
    eventually(lambda: held_encoder(holder) == "b", "b is in use")
    eventually(lambda: loads.swapped == ["b"], "the swap is told")


def test_a_failed_load_keeps_the_old_model_and_says_so_once(loads: Loads, holder: ModelHolder) -> None:
    holder.request(of("missing"))
    eventually(lambda: loads.failed, "a failure")
    assert holder.join(20)
    assert loads.failed == [("no checkpoint", "a")]
    assert held_encoder(holder) == "a"


def test_after_a_failure_the_next_request_is_tried(loads: Loads, holder: ModelHolder) -> None:
    loads.gate.set()
    holder.request(of("missing"))
    eventually(lambda: loads.failed, "a failure")
    holder.request(of("b"))
    eventually(lambda: held_encoder(holder) == "b", "b is in use")


def test_requests_in_quick_succession_load_the_last_one_only(
    loads: Loads, holder: ModelHolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "SETTLE_S", 5 * model_holder.SETTLE_S)  # however busy the machine is
    loads.gate.set()
    for encoder in ("b", "c", "d"):
        holder.request(of(encoder))
        time.sleep(0.02)
    eventually(lambda: held_encoder(holder) == "d", "d is in use")
    assert loads.begun == ["a", "d"]


def test_a_request_during_a_load_wins_over_the_one_being_loaded(loads: Loads, holder: ModelHolder) -> None:
    holder.request(of("b"))
    eventually(lambda: loads.begun == ["a", "b"], "b is being loaded")
    holder.request(of("c"))
    loads.gate.set()
    eventually(lambda: held_encoder(holder) == "c", "c is in use")
    assert holder.join(20)
    assert loads.swapped == ["c"]


def test_asking_for_the_held_model_again_loads_nothing(loads: Loads, holder: ModelHolder) -> None:
    holder.request(of("a"))
    assert holder.join(20)
    assert loads.begun == ["a"]


def test_going_back_during_a_load_keeps_the_held_model(loads: Loads, holder: ModelHolder) -> None:
    holder.request(of("b"))
    eventually(lambda: loads.begun == ["a", "b"], "b is being loaded")
    holder.request(of("a"))
    loads.gate.set()
    assert holder.join(20)
    assert held_encoder(holder) == "a"
    assert loads.swapped == []


def test_release_frees_the_model_and_throws_away_a_load_under_way(loads: Loads, holder: ModelHolder) -> None:
    assert holder.held is not None
    estimator = weakref.ref(holder.held.estimator)
    holder.request(of("b"))
    eventually(lambda: loads.begun == ["a", "b"], "b is being loaded")
    holder.release()
    assert held_encoder(holder) == ""
    assert estimator() is None
    assert not holder.join(0.01)
    loads.gate.set()
    assert holder.join(20)
    assert held_encoder(holder) == ""
    assert loads.swapped == []


def test_a_released_holder_waits_for_load(loads: Loads) -> None:
    holder = loads.holder()
    holder.request(of("b"))
    assert holder.join(20)
    assert loads.begun == []
    assert isinstance(holder.load(of("a")), HeldModel)


def test_a_reload_loads_the_same_settings_anew(loads: Loads, holder: ModelHolder) -> None:
    loads.gate.set()
    assert holder.held is not None
    before = holder.held.estimator
    assert holder.reload()
    eventually(lambda: loads.swapped == ["a"], "the same model, loaded anew")
    assert holder.held.estimator is not before
    assert holder.join(20)
    assert loads.begun == ["a", "a"]


def test_a_reload_that_fails_keeps_the_old_model(loads: Loads) -> None:
    holder = loads.holder()
    loads.gate.set()
    holder.load(of("a"))
    loads.broken = True
    assert holder.reload()
    eventually(lambda: loads.failed, "a failure")
    assert loads.failed == [("no checkpoint", "a")]
    assert held_encoder(holder) == "a"


def test_a_reload_of_a_model_that_was_released_is_forgotten(loads: Loads, holder: ModelHolder) -> None:
    loads.gate.set()
    assert holder.reload()
    holder.release()
    assert not holder.reload()
    assert holder.join(20)
    holder.load(of("a"))
    begun = list(loads.begun)
    holder.request(of("a"))
    assert holder.join(20)
    assert loads.begun == begun
