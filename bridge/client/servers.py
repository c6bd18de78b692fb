"""Which bridge to ask: its address, key and model, as given or from a file such as `config/servers.yaml`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from depth_anything_ros.errors import SettingsError, os_reason
from depth_anything_ros.io.yaml_files import read_yaml

SERVERS_VARIABLE = "DEPTH_ANYTHING_SERVERS"
MODEL_KEY = re.compile(r"(?P<encoder>[a-z0-9]+)_(?P<dataset>[a-z0-9]+)_(?P<model_input_size>[0-9]{1,5})")
API_KEY = re.compile(r"[!-~]+")  # printable ASCII without spaces: what every HTTP header can carry
MAX_KEY_FILE_BYTES = 4096


@dataclass(frozen=True)
class Server:
    """A bridge to ask.

    Attributes:
        base_url: such as `http://robot:8000`.
        api_key: None without one. White space around it is dropped: files that hold keys often end in a newline.
        model: model key to ask for; None leaves it to the server.
        description: for people.

    Raises:
        SettingsError: a value cannot be used. The message never holds the key, nor a password in the address.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    description: str = ""

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if self.model is not None and not MODEL_KEY.fullmatch(self.model):
            raise SettingsError(
                f"model {self.model!r} is not a model key: write encoder_dataset_size, such as vits_hypersim_518"
            )
        key = (self.api_key or "").strip()
        if key and not API_KEY.fullmatch(key):
            raise SettingsError(
                "the API key holds white space or a character that is not ASCII, which HTTP cannot carry: "
                f"check its {len(key)} characters"
            )
        object.__setattr__(self, "api_key", key or None)  # the way to set a field of a frozen dataclass here


def _check_url(base_url: str) -> None:
    try:
        url = httpx.URL(base_url)
        is_usable = url.scheme in ("http", "https") and bool(url.host)
    except (httpx.InvalidURL, TypeError):
        is_usable = False
    if not is_usable:
        without_password = re.sub(r"[^/]*@", "...@", str(base_url))
        raise SettingsError(f"the address {without_password!r} cannot be used: write it as http://robot:8000")


def read_api_key(path: Path) -> str:
    """Read a file that holds an API key and nothing else. Raises SettingsError."""
    try:
        with path.open("rb") as file:  # a pipe will do
            key = file.read(MAX_KEY_FILE_BYTES).decode().strip()
    except OSError as error:
        raise SettingsError(f"API key file {path} cannot be read: {os_reason(error)}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"API key file {path} is not text") from None  # the cause would hold the key
    if not key:
        raise SettingsError(f"API key file {path} is empty")
    return key


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
        known = ", ".join(servers) if isinstance(servers, dict) else "none"
        raise SettingsError(f"no server {name!r} in {path}; known: {known}")
    entry = servers[name]
    allowed = ("base_url", "api_key", "api_key_env", "model", "description")
    if not isinstance(entry, dict) or "base_url" not in entry or set(entry) - set(allowed):
        raise SettingsError(f"server {name!r} in {path} must have base_url, and may have {', '.join(allowed[1:])}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise SettingsError(f"server {name!r} in {path} must hold text only: put numbers in quotes")
    try:
        return Server(entry["base_url"], _api_key(entry), entry.get("model"), entry.get("description", ""))
    except SettingsError as error:
        raise SettingsError(f"server {name!r} in {path}: {error}") from error


def _api_key(entry: Mapping[str, str]) -> str | None:
    variable = entry.get("api_key_env")
    if variable is None:
        return entry.get("api_key")
    if not os.environ.get(variable, "").strip():
        raise SettingsError(f"its API key comes from the environment variable {variable}, which is not set")
    return os.environ[variable]
