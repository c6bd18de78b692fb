"""Random walks through a lifecycle: what each transition leads to, and what is refused."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle_msgs.msg import Transition

# State and transition -> the state after it; every other pair is refused and changes nothing.
MOVES: dict[tuple[str, int], str] = {
    ("unconfigured", Transition.TRANSITION_CONFIGURE): "inactive",
    ("inactive", Transition.TRANSITION_ACTIVATE): "active",
    ("active", Transition.TRANSITION_DEACTIVATE): "inactive",
    ("inactive", Transition.TRANSITION_CLEANUP): "unconfigured",
}
TRANSITIONS = sorted({transition for _, transition in MOVES})
# How to become active again.
WAYS_BACK: dict[str, list[int]] = {
    "unconfigured": [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
    "inactive": [Transition.TRANSITION_ACTIVATE],
    "active": [],
}
LENGTH = (1, 8)
ALLOWED_SHARE = 0.8  # of the steps of a walk


@dataclass(frozen=True)
class Step:
    """One transition: whether it has to succeed, and the state after it."""

    transition: int
    succeeds: bool
    state: str


def random_walk(rng: random.Random, state: str = "active") -> list[Step]:
    """Return a walk from a state that ends in the state active."""
    steps: list[Step] = []
    for _ in range(rng.randint(*LENGTH)):
        steps.append(step_from(state, _some_transition(state, rng)))
        state = steps[-1].state
    for transition in WAYS_BACK[state]:
        steps.append(step_from(steps[-1].state, transition))
    return steps


def step_from(state: str, transition: int) -> Step:
    """Return what a transition has to do in a state."""
    after = MOVES.get((state, transition))
    return Step(transition, after is not None, after or state)


def _some_transition(state: str, rng: random.Random) -> int:
    allowed = [transition for origin, transition in MOVES if origin == state]
    return rng.choice(allowed if rng.random() < ALLOWED_SHARE else TRANSITIONS)
