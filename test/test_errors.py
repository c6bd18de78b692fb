"""The error tree is the one its module draws."""

from __future__ import annotations

import inspect
import math
import re

import pytest

from depth_anything_ros import errors
from depth_anything_ros.errors import ImageError, describe, readable


def drawn_parents() -> dict[str, str]:
    """Class -> the class it hangs from in the module docstring's drawing."""
    parents: dict[str, str] = {}
    path: dict[int, str] = {}
    for line in str(errors.__doc__).splitlines():
        match = re.match(r"    ([│ ]*)(├── |└── )?([A-Z]\w+)", line)
        if match:
            level = len(match[1]) // 4 + (1 if match[2] else 0)
            path[level] = match[3]
            parents[match[3]] = path[level - 1] if level else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    real = {name: kind.__bases__[0].__name__ for name, kind in inspect.getmembers(errors, inspect.isclass)}
    assert drawn_parents() == real
    assert len(real) > 10


def test_bad_input_is_a_value_error_and_nothing_else_is() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(kind, ValueError) == issubclass(kind, errors.InputError)


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [
        (3983.2, 3, "3983"),
        (12.345, 3, "12.3"),
        (99.96, 3, "100"),
        (0.0041234, 3, "0.00412"),
        (-3.5, 3, "-3.5"),
        (0.00001, 3, "0.00001"),
        (0, 3, "0"),
        (1e7, 3, "10000000"),
        (12345, 4, "12345"),
        (1.39994, 4, "1.4"),
        (math.nan, 3, "nan"),
        (math.inf, 3, "inf"),
    ],
)
def test_numbers_are_written_as_people_do(number: float, digits: int, text: str) -> None:
    assert readable(number, digits) == text


@pytest.mark.parametrize("error", [ValueError("x" * 10**6), ImageError("x" * 10**6)])
def test_the_words_of_an_error_are_shortened(error: Exception) -> None:
    assert len(describe(error)) < 4100
