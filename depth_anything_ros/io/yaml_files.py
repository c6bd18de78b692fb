"""The YAML files that people write: calibrations, settings of the bridge, servers of the client.

A file is plain data: names are text, each given once; aliases, merge keys and tags are refused. Its size, nesting and
number of values are bounded, so no small file becomes a large object. Callers check what the values mean.
"""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.error import Mark

from depth_anything_ros.errors import InputError, SettingsError
from depth_anything_ros.files.bounded_files import MIB, read_bounded

MAX_YAML_BYTES = MIB
MAX_YAML_NODES = 50_000  # names and values
MAX_YAML_NESTING = 32
MAX_NUMBER_CHARACTERS = 100  # Python takes quadratic time to read a number

_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE_TAG = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """Read a YAML file: tables with text names, lists, numbers, booleans, dates and text; None for an empty file.

    Raises:
        SettingsError: the file cannot be read, is not a regular file, is larger than 1 MiB, or is not plain YAML.
            The message names the file, and the line and column where there is one.
    """
    try:
        text = read_bounded(path, MAX_YAML_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not usable YAML: byte {error.start} is not UTF-8") from error
    except InputError as error:
        raise SettingsError(str(error)) from error
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        raise SettingsError(f"{path} is not usable YAML: {_place(error.problem_mark)}{_problem(error)}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not usable YAML: {reprlib.repr(str(error))}") from error


def _load(text: str) -> Any:
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _place(mark: Mark | None) -> str:
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "


def _problem(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part)


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, without what this module's head excludes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nesting = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("an alias (*) is not allowed: write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal("a tag (!) is not allowed: leave it out", event.start_mark)
        self._nodes += 1
        if self._nodes > MAX_YAML_NODES:
            raise _refusal(f"more than {MAX_YAML_NODES} values", event.start_mark)
        if self._nesting >= MAX_YAML_NESTING:
            raise _refusal(f"nested more than {MAX_YAML_NESTING} levels deep", event.start_mark)
        self._nesting += 1
        node = super().compose_node(parent, index)
        self._nesting -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == _MERGE_TAG:
                raise _refusal("a merge key (<<) is not allowed: write the values out", key.start_mark)
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise _refusal(f"a name must be text, got {reprlib.repr(name)}: put it in quotes", key.start_mark)
            if name in lines:
                raise _refusal(f"{reprlib.repr(name)} is already in line {lines[name]}", key.start_mark)
            lines[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in _NUMBER_TAGS and len(node.value) > MAX_NUMBER_CHARACTERS:
            raise _refusal(f"a number with more than {MAX_NUMBER_CHARACTERS} characters", node.start_mark)
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:  # such as the date 2026-13-45
            raise _refusal(str(error), node.start_mark) from error


def _refusal(problem: str, mark: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, mark)
