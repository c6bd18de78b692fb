"""Named servers, from a file such as `config/servers.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from depth_anything_ros.errors import SettingsError
from depth_anything_ros.io.yaml_files import read_yaml

SERVERS_VARIABLE = "DEPTH_ANYTHING_SERVERS"
MODEL_KEY = re.compile(r"(?P<encoder>[a-z0-9]+)_(?P<dataset>[a-z0-9]+)_(?P<model_input_size>[0-9]{1,5})")


@dataclass(frozen=True)
class Server:
    """One server of `servers.yaml`.

    Attributes:
        base_url: such as `http://robot:8000`.
        api_key: None without one.
        model: model key to ask for; None leaves it to the server.
        description: for people.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    description: str = ""


def servers_file() -> Path:
    """`$DEPTH_ANYTHING_SERVERS`, else `~/.config/depth_anything/servers.yaml`."""
    return Path(os.environ.get(SERVERS_VARIABLE, "~/.config/depth_anything/servers.yaml")).expanduser()


def load_server(name: str, path: str | os.PathLike[str] | None = None) -> Server:
    """Read a named server from a file, by default `servers_file()`.

    Raises:
        SettingsError: no such file or name, an entry that is not as in `config/servers.yaml`, or its
            `api_key_env` is not set.
    """
    path = Path(path) if path else servers_file()
    servers = read_yaml(path)
    if not isinstance(servers, dict) or name not in servers:
        known = ", ".join(map(str, servers)) if isinstance(servers, dict) else "none"
        raise SettingsError(f"no server {name!r} in {path}; known: {known}")
    entry = servers[name]
    allowed = ("base_url", "api_key", "api_key_env", "model", "description")
    if not isinstance(entry, dict) or "base_url" not in entry or set(entry) - set(allowed):
        raise SettingsError(f"server {name!r} in {path} must have base_url, and may have {', '.join(allowed[1:])}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise SettingsError(f"server {name!r} in {path} must hold text only: put numbers in quotes")
    model = entry.get("model")
    if model is not None and not MODEL_KEY.fullmatch(model):
        raise SettingsError(f"server {name!r} in {path}: model {model!r} must be as vits_hypersim_518")
    return Server(
        base_url=entry["base_url"],
        api_key=_api_key(name, entry),
        model=model,
        description=entry.get("description", ""),
    )


def _api_key(name: str, entry: Mapping[str, str]) -> str | None:
    variable = entry.get("api_key_env")
    if variable is None:
        return entry.get("api_key")
    if variable not in os.environ:
        raise SettingsError(f"server {name!r} takes its API key from ${variable}, which is not set")
    return os.environ[variable]
