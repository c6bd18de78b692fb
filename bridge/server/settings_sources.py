"""The bridge's settings from all their sources: command line > `DEPTH_BRIDGE_*` > YAML file > defaults (`settings`)."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, CliApp, InitSettingsSource, PydanticBaseSettingsSource

from bridge.server.names import nearest, shown
from bridge.server.settings import PREFIX, BridgeSettings
from depth_anything_ros.errors import SettingsError, quoted
from depth_anything_ros.io.yaml_files import read_yaml

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
SECRETS = [name for name, field in BridgeSettings.model_fields.items() if SecretStr in get_args(field.annotation)]
HELP = ("-h", "--help")
ROS_ARGS = "--ros-args"


def load_settings(arguments: Sequence[str]) -> BridgeSettings:
    """Read the settings of the program: from its command line and all other sources.

    Raises:
        SystemExit: with a message, for an unknown or bad setting or an unreadable file; also `--help`.
    """
    arguments, ros_args = _split_at_ros_args(arguments)
    try:
        if not set(arguments) & set(HELP):
            _refuse_unknown_arguments(arguments)
            _refuse_unknown_variables()
        loaded = _load(_config_path(arguments), lambda kind: CliApp.run(kind, cli_args=list(arguments)))
    except SettingsError as error:
        raise SystemExit(f"depth_anything_bridge: {error}") from None
    # Worker processes unpickle the settings, and find a class by its name in this module.
    return BridgeSettings.model_construct(**dict(loaded) | ({"ros_args": ros_args} if ros_args else {}))


def settings_from(values: Mapping[str, Any]) -> BridgeSettings:
    """Read the settings from a table in place of the command line, and from all other sources.

    `model_fields_set` of the result names those that a source gave.

    Raises:
        SettingsError: an unknown or bad setting, or an unreadable file.
    """
    _refuse_unknown_variables()
    path = values.get("config") or os.environ.get(CONFIG_VARIABLE)
    loaded = _load(None if path is None else _existing(Path(path)), lambda kind: kind(**values))
    return BridgeSettings.model_construct(loaded.model_fields_set, **dict(loaded))


def _load(path: Path | None, make: Callable[[type[BridgeSettings]], BridgeSettings]) -> BridgeSettings:
    """Make settings of a class that reads a YAML file below its other sources. Raises SettingsError."""

    class Configured(BridgeSettings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: Any, **named_sources: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            above_the_file = super().settings_customise_sources(settings_cls, *sources, **named_sources)
            return *above_the_file, InitSettingsSource(settings_cls, _file_settings(path))

    try:
        return make(Configured)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None
    except (ValueError, TypeError) as error:  # SettingsError is a ValueError, the library's own as well
        raise SettingsError(f"the settings cannot be read: {error}") from None


def _split_at_ros_args(arguments: Sequence[str]) -> tuple[Sequence[str], tuple[str, ...]]:
    """Ours, and what is for ROS: everything after `--ros-args`, which is not ours to read."""
    if ROS_ARGS not in arguments:
        return arguments, ()
    index = list(arguments).index(ROS_ARGS)
    return arguments[:index], tuple(arguments[index + 1 :])


def _file_settings(path: Path | None) -> dict[str, Any]:
    """Read the YAML file. Raises SettingsError: it cannot be used."""
    content = None if path is None else read_yaml(path)
    if content is not None and not isinstance(content, dict):
        raise SettingsError(f"{path} must be a table of settings, got {reprlib.repr(content)}")
    return content or {}


def _config_path(arguments: Sequence[str]) -> Path | None:
    """Find the YAML file before anything else is read: `--config FILE`, `--config=FILE` or the variable."""
    path = os.environ.get(CONFIG_VARIABLE)
    for index, argument in enumerate(arguments):
        if argument == "--config":
            path = next(iter(arguments[index + 1 :]), None)
        elif argument.startswith("--config="):
            path = argument.partition("=")[2]
    return None if path is None else _existing(Path(path))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SettingsError(f"there is no configuration file {path}")
    return path


def _refuse_unknown_arguments(arguments: Sequence[str]) -> None:
    names = [name.replace("_", "-") for name in BridgeSettings.model_fields]
    known = [f"--{prefix}{name}" for name in names for prefix in ("", "no-")]
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            raise SettingsError(f"unknown option {name}{nearest(name, known)}")


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in BridgeSettings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise SettingsError(f"unknown setting in the environment: {_with_nearest(unknown, known)}")


def _with_nearest(names: Iterable[str], known: Iterable[str]) -> str:
    return ", ".join(f"{shown(name)}{nearest(name, known)}" for name in names)


def _explain(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {shown(name)}{nearest(name, BridgeSettings.model_fields)}"
    if not name:
        return f"settings: {problem['msg']}"
    if problem["type"] == "value_error":  # our own words, which hold the value
        return f"setting {name!r}: {problem['msg'].removeprefix('Value error, ')}"
    got = "" if problem["loc"][0] in SECRETS else f", got {quoted(problem['input'])}"
    return f"setting {name!r}: {problem['msg']}{got}"
