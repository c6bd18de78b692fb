"""Random sets of a node's parameters: values that are allowed, and values of any other kind."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from depth_anything_ros.node.parameter_table import Parameter
from depth_anything_ros.node.parameters import PARAMETERS

# Nothing is fetched or compiled for minutes, and no large network is loaded: only these values, beside odd ones.
UNTOUCHED = ("download", "compile")
CHEAP: Mapping[str, tuple[Any, ...]] = {
    "encoder": ("toy",),
    "dataset": ("hypersim", "vkitti", "relative"),
    "checkpoint": ("untrained", "/nowhere.pth", "../../etc/passwd"),
    "device": ("cpu", "auto"),
    "precision": ("fp32", "auto"),
    "backend": ("torch",),
    "input_size": (14, 56, 70, 112),
    "warm_up_width": (0, 64, 320),
    "warm_up_height": (0, 48, 240),
    "snapshot_folder": ("",),
}
ODD_VALUES: tuple[Any, ...] = (
    True,
    0,
    -1,
    2**62,
    0.5,
    -1e300,
    float("nan"),
    float("inf"),
    "",
    "nonsense",
    "../" * 100,
    "ä\n\x1b[31m" * 200,
    [],
    [1.0, float("nan")],
    [1, 2, 3],
    ["", "a", "a"],
    [b"\0", b"\xff"],
    [True],
)
ALLOWED_SHARE = 0.85
MOST = 6  # parameters of a set


def random_set(rng: random.Random) -> dict[str, Any]:
    """Return some parameters and a value for each."""
    names = rng.sample([name for name in PARAMETERS if name not in UNTOUCHED], rng.randint(1, MOST))
    return {name: random_value(name, rng) for name in names}


def random_value(name: str, rng: random.Random) -> Any:
    """Return a value for a parameter, mostly one that it takes."""
    if rng.random() > ALLOWED_SHARE:
        return rng.choice(ODD_VALUES)
    return rng.choice(CHEAP[name]) if name in CHEAP else _allowed(PARAMETERS[name], rng)


def _allowed(parameter: Parameter, rng: random.Random) -> Any:
    if parameter.choices:
        return rng.choice(parameter.choices)
    if parameter.numbers:
        return [rng.uniform(-1, 1) for _ in range(parameter.numbers)]
    if parameter.bounds is not None:
        low, high = parameter.bounds
        return rng.choice((low, high, type(low)(low + (high - low) * rng.random() ** 3)))
    return rng.random() < 0.5
