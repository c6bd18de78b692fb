"""The error tree is the one its module draws."""

from __future__ import annotations

import inspect
import re

from depth_anything_ros import errors


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
