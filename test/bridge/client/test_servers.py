"""Which bridge is asked: named servers, addresses and keys."""

from pathlib import Path
from typing import Any

import pytest

from bridge.client import AsyncDepthClient, DepthClient, Server, load_server
from bridge.client.servers import read_api_key
from depth_anything_ros.errors import SettingsError

ROOT = Path(__file__).parents[3]
SECRET = "s3cr3t-key"


def test_the_servers_file_in_the_repository_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT / "config" / "servers.yaml"
    assert load_server("local", path).base_url == "http://127.0.0.1:8000"
    with pytest.raises(SettingsError, match="ROBOT_BRIDGE_KEY"):
        load_server("robot", path)
    monkeypatch.setenv("ROBOT_BRIDGE_KEY", "k")
    server = load_server("robot", path)
    assert (server.api_key, server.model) == ("k", "vits_hypersim_518")
    assert "'k'" not in repr(server)
    assert "api_key:" not in path.read_text()


def test_the_servers_file_is_found_by_variable_and_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / ".config" / "depth_anything" / "servers.yaml"
    home.parent.mkdir(parents=True)
    home.write_text("lab: {base_url: 'http://lab', api_key: k}")
    named = tmp_path / "named.yaml"
    named.write_text("lab: {base_url: 'http://other'}")
    monkeypatch.setenv("HOME", str(tmp_path))
    server = load_server("lab")
    assert (server.base_url, server.api_key, server.model) == ("http://lab", "k", None)
    monkeypatch.setenv("DEPTH_ANYTHING_SERVERS", str(named))
    assert load_server("lab").base_url == "http://other"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "known: none"),
        ("- lab", "known: none"),
        ("other: {base_url: x}", "known: other"),
        ("lab: x", "base_url"),
        ("lab: {api_key: x}", "base_url"),
        ("lab: {base_url: x, url: y}", "base_url"),
        ("lab: {base_url: x, model: 3}", "text"),
        ("lab: {base_url: 'http://x', model: vits-hypersim}", "model 'vits-hypersim' .* vits_hypersim_518"),
        ("lab: {base_url: robot}", "address 'robot' .* http://robot:8000"),
        ("lab: {base_url: 'http://x', api_key_env: NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
        ("lab: [", "not usable YAML"),
    ],
)
def test_a_servers_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason) as failure:
        load_server("lab", path)
    assert str(path) in str(failure.value)


def test_a_missing_servers_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        DepthClient.from_server("lab", tmp_path / "none.yaml")


@pytest.mark.parametrize("key", [f"{SECRET}\n", f"  {SECRET}\r\n"])
def test_white_space_around_a_key_is_dropped(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Server("http://robot", key).api_key == SECRET
    path = tmp_path / "key"
    path.write_text(key)
    assert read_api_key(path) == SECRET
    monkeypatch.setenv("LAB_KEY", key)
    servers = tmp_path / "servers.yaml"
    servers.write_text("lab: {base_url: 'http://lab', api_key_env: LAB_KEY}")
    assert load_server("lab", servers).api_key == SECRET


@pytest.mark.parametrize("client", [DepthClient, AsyncDepthClient])
@pytest.mark.parametrize("bad", [f"{SECRET}\nX-Other: 1", f"{SECRET} {SECRET}", f"{SECRET}\u00fc", f"{SECRET}\0"])
def test_a_key_that_http_cannot_carry_is_refused_without_being_shown(client: Any, bad: str) -> None:
    with pytest.raises(
        SettingsError, match=r"the API key holds white space or a character that is not ASCII"
    ) as failure:
        client("http://robot", bad)
    assert SECRET not in str(failure.value)
    assert SECRET not in repr(failure.value.__cause__)


def test_a_key_file_that_holds_none_is_named(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\n")
    binary.write_bytes(SECRET.encode() + b"\xff")
    for path, reason in ((empty, "is empty"), (binary, "is not text"), (tmp_path / "none", "No such file")):
        with pytest.raises(SettingsError, match=rf"API key file .*{path.name}.* {reason}") as failure:
            read_api_key(path)
        assert failure.value.__cause__ is None or SECRET not in repr(failure.value.__cause__)


@pytest.mark.parametrize("client", [DepthClient, AsyncDepthClient])
@pytest.mark.parametrize(
    "address", ["robot", "robot:8000", "ftp://robot", "http://", "", "http://robot:port", f"user:{SECRET}@robot:8000"]
)
def test_an_address_that_cannot_be_used_is_refused_at_once(client: Any, address: str) -> None:
    with pytest.raises(SettingsError, match="write it as http://robot:8000") as failure:
        client(address)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("client", [DepthClient, AsyncDepthClient])
@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"model": "../../x"}])
def test_options_that_cannot_be_used_are_refused_before_anything_is_sent(client: Any, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"timeout_s|vits_hypersim_518"):
        client("http://robot", **options)
