"""Who may come in: keys, where they come from, how often they may ask, and that they stay secret."""

import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from running_bridge import RunningBridge, eventually, toy_settings

from bridge.server import command
from bridge.server.auth import Buckets, KeyRing, make_key, read_keys
from bridge.server.command import main
from bridge.server.errors import OtherHost, Unauthorized
from bridge.server.gate import Gate
from bridge.server.settings_sources import load_settings
from bridge.server.supervisor import open_listener
from depth_anything_ros.errors import SettingsError

KEY = "k3y-for-tests"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve_app: Callable[..., str]) -> str:
    """URL of a bridge that asks for KEY."""
    return serve_app(api_key=SecretStr(KEY))


def test_only_health_liveness_and_the_page_are_open_when_there_is_a_key(guarded: str) -> None:
    for path in ("/health", "/livez", "/session", "/", "/page/main.js"):
        assert httpx.get(guarded + path).status_code == 200
    for path in (
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/page/",
        "/nothing",
        "//health",
        "/health/",
        "/livez/x",
    ):
        answer = httpx.get(guarded + path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["error"]["code"] == "unauthorized"
    for path in ("/pc", "/pc/", "//pc", "/metric_depth", "/rel_depth"):
        assert httpx.post(guarded + path, json={}).status_code == 401, path


def test_the_key_opens_everything(guarded: str, metric_request: dict[str, object]) -> None:
    assert httpx.post(f"{guarded}/metric_depth", json=metric_request, headers=bearer(KEY)).status_code == 200
    for path in ("/readyz", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(guarded + path, headers=bearer(KEY)).status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Authorization:"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer wrong"],
        [f"Authorization: {KEY}"],
        [f"Authorization: Basic {KEY}"],
        [f"Authorization: Bearer {KEY} {KEY}"],
        [f"Authorization: Bearer {KEY}x"],
        [f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"],
        ["Authorization: Bearer wrong", f"Authorization: Bearer {KEY}"],
        ["Authorization: Bearer \u00fcber"],
        [f"X-Api-Key: {KEY}"],
    ],
)
def test_anything_but_one_good_bearer_key_is_a_401(guarded: str, lines: list[str]) -> None:
    address = httpx.URL(guarded)
    request = "\r\n".join(["GET /readyz HTTP/1.1", "Host: bridge", "Connection: close", *lines, "", ""])
    with socket.create_connection((address.host, address.port or 0), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_the_scheme_is_read_in_any_case(guarded: str) -> None:
    assert httpx.get(f"{guarded}/readyz", headers={"Authorization": f"bEARER  {KEY}"}).status_code == 200


def test_several_keys_come_from_a_file_and_one_more_from_the_settings(tmp_path: Path) -> None:
    (robot, robot_line), (laptop, laptop_line) = make_key("robot"), make_key("laptop")
    file = tmp_path / "keys"
    file.write_text(f"# who has one\n{robot_line}  # arm\n\n{laptop_line}\n")
    keys = KeyRing(toy_settings(api_keys_file=file, api_key=SecretStr(KEY)))
    for key, name in ((robot, "robot"), (laptop, "laptop"), (KEY, "api-key")):
        assert keys.identify([(b"authorization", f"Bearer {key}".encode())]) == name
    with pytest.raises(Unauthorized):
        keys.identify([(b"authorization", b"Bearer " + file.read_bytes().split()[-1])])


@pytest.mark.parametrize("text", ["", "# nothing\n", "robot\n", "robot xyz\n", f"a {'0' * 64}\na {'1' * 64}\n", "\xff"])
def test_a_key_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="key"):
        read_keys(file)
    with pytest.raises(SettingsError, match="cannot read"):
        read_keys(tmp_path / "none")


@pytest.mark.parametrize("key", ["", " ", "two words", "\u00fcber"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="ASCII"):
        KeyRing(toy_settings(api_key=SecretStr(key)))


def test_a_bad_key_file_leaves_the_keys_as_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, line = make_key("robot")
    file = tmp_path / "keys"
    file.write_text(line)
    keys = KeyRing(toy_settings(api_keys_file=file))
    file.write_text("half a li")
    keys.reload()
    assert keys.identify([(b"authorization", f"Bearer {key}".encode())]) == "robot"
    assert "stay as they were" in caplog.text


def test_make_key_prints_a_key_and_a_line_that_goes_into_the_file_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["make-key", "robot"]) == 0
    shown = capsys.readouterr()
    key = next(line for line in shown.err.splitlines() if line and not line.endswith(":"))
    assert shown.out == f"robot {hashlib.sha256(key.encode()).hexdigest()}\n"
    file = tmp_path / "keys"
    file.write_text(shown.out)  # as `make-key robot >> keys` does
    assert read_keys(file) == {"robot": hashlib.sha256(key.encode()).digest()}
    for arguments in (["make-key"], ["make-key", "a b"], ["make-key", "a", "b"], ["make-key", "--help"]):
        with pytest.raises(SystemExit) as refusal:
            main(arguments)
        assert "make-key" in str(refusal.value) or "name" in str(refusal.value)


def test_hangup_reads_the_keys_again_in_every_worker(
    start_bridge: Callable[..., RunningBridge], tmp_path: Path
) -> None:
    (old, old_line), (new, new_line) = make_key("old"), make_key("new")
    file = tmp_path / "keys"
    file.write_text(old_line)
    running = start_bridge("--host=127.0.0.1", f"--api-keys-file={file}", workers=2)

    def status(key: str) -> int:
        return httpx.get(f"{running.url}/readyz", headers=bearer(key)).status_code

    assert (status(old), status(new)) == (200, 401)
    file.write_text(new_line)
    os.kill(running.process.pid, signal.SIGHUP)
    eventually(lambda: len(running.logged("keys loaded: new")) == 2)
    assert {status(old) for _ in range(10)} == {401}
    assert {status(new) for _ in range(10)} == {200}


def test_a_key_that_asks_too_often_gets_a_429_with_the_time_to_wait(serve_app: Callable[..., str]) -> None:
    url = serve_app(api_key=SecretStr(KEY), rate_limit_per_s=0.01, rate_burst=3)
    answers = [httpx.post(f"{url}/rel_depth", headers=bearer(KEY)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [415, 415, 415, 429]
    assert answers[-1].json()["error"]["code"] == "rate_limited"
    assert 90 <= int(answers[-1].headers["retry-after"]) <= 100
    assert httpx.get(f"{url}/health", headers=bearer(KEY)).status_code == 200


def test_only_requests_for_depth_count_against_the_rate(serve_app: Callable[..., str]) -> None:
    url = serve_app(api_key=SecretStr(KEY), rate_limit_per_s=0.01, rate_burst=1)
    for path in ("/readyz", "/metrics", "/openapi.json", "/docs", "/nothing", "/rel_depth"):
        assert httpx.get(f"{url}{path}", headers=bearer(KEY)).status_code in (200, 404, 405)
    assert httpx.post(f"{url}/rel_depth", headers=bearer(KEY)).status_code == 415


def test_each_key_has_a_bucket_of_its_own_that_fills_with_time() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.5]
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 0.5


def test_keys_images_and_queries_never_reach_the_log(
    start_bridge: Callable[..., RunningBridge], metric_request: dict[str, object], jpeg: bytes
) -> None:
    running = start_bridge("--host=127.0.0.1", "--log-level=debug", env={"DEPTH_BRIDGE_API_KEY": KEY})
    query = {"max_depth": "20", "note": "private-query"}
    raw = {**bearer(KEY), "Content-Type": "image/jpeg"}
    with httpx.Client(base_url=running.url, headers=bearer(KEY)) as client:
        assert client.post("/metric_depth", json=metric_request).status_code == 200
        assert client.post("/metric_depth", params=query, content=jpeg, headers=raw).status_code == 422
        query.pop("note")
        assert client.post("/metric_depth", params=query, content=jpeg, headers=raw).status_code == 200
        url = "http://user:private-pass@127.0.0.1/a.jpg?private-query"
        assert client.post("/metric_depth", json={"image_url": url, "max_depth": 1}).status_code == 403
        assert client.get("/readyz", headers=bearer("private-guess")).status_code == 401
    assert running.end() == 0
    log = running.log.read_text()
    assert '"key":"api-key"' in log
    for secret in (KEY, "private", hashlib.sha256(KEY.encode()).hexdigest(), str(metric_request["image"])[:60]):
        assert secret not in log


def test_without_a_key_only_this_machine_is_listened_to_and_the_log_says_how_to_open_it(
    running_bridge: RunningBridge,
) -> None:
    assert running_bridge.logged("listening on http://127.0.0.1:")
    assert running_bridge.logged("--host")
    assert httpx.get(f"{running_bridge.url}/readyz").json() == {"status": "ready", "warnings": []}


OWN = (
    "127.0.0.1:8000",
    "[::1]:8000",
    "localhost",
    "LOCALHOST.:1",
    "bridge.localhost:8000",
    "192.168.1.20",
    "robot:8000",
    "",
)
FOREIGN = (
    "attacker.example",
    "attacker.example:8000",
    "127.0.0.1.attacker.example",
    "localhost.attacker.example",
)


def calls(gate: Gate, host: str, kind: str = "http") -> bool:
    """Whether a request, or a WebSocket of a page that thinks this its own server, is let in by this Host header."""
    scope: dict[str, Any] = {
        "type": kind,
        "headers": [(b"host", host.encode()), (b"origin", f"http://{host}".encode())],
    }
    scope |= {"query_string": b"", "path": "/cameras"}
    try:
        gate.identify(scope, "/cameras")
    except OtherHost:
        return False
    return True


@pytest.mark.parametrize(
    ("settings", "let_in", "refused"),
    [
        ({}, OWN, FOREIGN),
        (
            {"host": "localhost", "allow_hosts": "Robot.lan,lab.example"},
            (*OWN, "robot.lan:8000", "ROBOT.LAN", "lab.example"),
            FOREIGN,
        ),
        ({"host": "0.0.0.0"}, (*OWN, *FOREIGN), ()),  # nobody here knows by which names others call it
        ({"host": "0.0.0.0", "allow_hosts": "lab.example"}, (*OWN, "lab.example"), FOREIGN),
        ({"allow_hosts": "*"}, (*OWN, *FOREIGN), ()),
    ],
)
def test_a_name_that_a_page_made_to_mean_this_machine_does_not_open_a_server_without_keys(
    settings: dict[str, str], let_in: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    made = toy_settings(**settings)
    gate = Gate(made, KeyRing(made))
    for kind in ("http", "websocket"):
        assert {host: calls(gate, host, kind) for host in let_in} == dict.fromkeys(let_in, True)
        assert {host: calls(gate, host, kind) for host in refused} == dict.fromkeys(refused, False)
    with_key = made.model_copy(update={"api_key": SecretStr(KEY)})
    with pytest.raises(Unauthorized):  # the key decides
        calls(Gate(with_key, KeyRing(with_key)), FOREIGN[0], "websocket")


def test_a_strangers_name_is_refused_on_every_path_in_words(serve_app: Callable[..., str]) -> None:
    url = serve_app()
    for path in ("/", "/health", "/session", "/models", "/v1/cameras"):
        answer = httpx.get(url + path, headers={"Host": "attacker.example:8000"})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (403, "other_host", "Host")
        assert "not to attacker.example; --allow-hosts names others" in error["message"]
    assert httpx.get(f"{url}/models", headers={"Host": "localhost"}).status_code == 200


def test_a_key_opens_the_default_host_to_everybody() -> None:
    assert toy_settings().listen_host == "127.0.0.1"
    assert toy_settings(api_key=SecretStr(KEY)).listen_host == "0.0.0.0"
    assert toy_settings(api_keys_file=Path("keys")).listen_host == "0.0.0.0"
    assert toy_settings(api_key=SecretStr(KEY), host="::1").listen_host == "::1"


def test_an_open_host_without_a_key_is_warned_of_in_readyz_and_log(
    serve_app: Callable[..., str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (warning,) = httpx.get(f"{serve_app(host='0.0.0.0')}/readyz").json()["warnings"]
    assert "no API key" in warning
    monkeypatch.setattr(command, "Supervisor", lambda settings, listener: listener)
    monkeypatch.setattr(command, "open_listener", lambda host, port: OneRun())
    monkeypatch.setattr(command, "configure_logging", lambda level: None)
    assert main(["--host=0.0.0.0"]) == 0
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [warning]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Address already in use; another program has this port: end it, or take another one with --port"),
        (("--host=192.0.2.1",), "--host takes an address of this machine"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_said_once_with_what_to_do(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "configure_logging", lambda level: None)
    with open_listener("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as ended:
            main([f"--port={port}", *arguments])
    assert says in str(ended.value)
    assert str(ended.value).count(port) == 1


class OneRun:
    """Stands for a listener and a supervisor whose run is over."""

    def getsockname(self) -> tuple[str, int]:
        return "0.0.0.0", 1

    def run(self) -> int:
        return 0


BAD_SETTINGS: list[tuple[list[str], dict[str, str], str]] = [
    (["--prot=1"], {}, "unknown option --prot; did you mean --port?"),
    (["--maxwaiting", "3"], {}, "unknown option --maxwaiting; did you mean --max-waiting?"),
    ([], {"DEPTH_BRIDGE_PROT": "1"}, "DEPTH_BRIDGE_PROT; did you mean DEPTH_BRIDGE_PORT?"),
    (["--max-wait=3"], {}, "unknown option --max-wait"),
    (
        ["--port=x"],
        {},
        "setting 'port': Input should be a valid integer, unable to parse string as an integer, got 'x'",
    ),
    ([], {"DEPTH_BRIDGE_PORT": "70000"}, "less than or equal to 65535, got '70000'"),
    (["--port=1.5", "--workers=0"], {}, "got '0'"),
    (["--max-depth=1"], {}, "unknown option --max-depth"),
    (["--precision=fp8"], {}, "known: auto, fp32, bf16, fp16"),
    (["--backend=foo"], {}, "known: auto, torch"),
    (["--default-input-size=5000"], {}, "max_input_size (1036)"),
    (["--min-input-size=600"], {}, "min_input_size (600)"),
    (["--root-path=depth/"], {}, "'root_path'"),
    (["--config=none.yaml"], {}, "none.yaml"),
    (["--config=bad.yaml"], {}, "unknown setting prot; did you mean port?"),
    (["--config=broken.yaml"], {}, "broken.yaml"),
    (["--checkpoint=none.pth"], {}, "checkpoint 'none.pth' does not exist"),
    (["--default-encoder=vitx"], {}, "unknown encoder 'vitx'; known: "),
    (["--preload=vits:nowhere:518"], {}, "unknown dataset 'nowhere'; known: "),
    (["--preload=vits:hypersim"], {}, "preload takes encoder:dataset:input_size"),
    (["--api-keys-file=none"], {}, "key file none: No such file"),
    (["--host=192.0.2.1", "--api-key=k"], {}, "192.0.2.1"),
]


@pytest.mark.parametrize(("arguments", "env", "said"), BAD_SETTINGS)
def test_a_setting_that_cannot_be_used_ends_the_start_with_a_line(
    arguments: list[str], env: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.yaml").write_text("prot: 1\n")
    (tmp_path / "broken.yaml").write_text("port: [1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "configure_logging", lambda level: None)
    monkeypatch.setattr(command, "Supervisor", lambda settings, listener: OneRun())  # starts nothing, were it reached
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert str(refusal.value).startswith("depth_anything_bridge: ")
    assert said in str(refusal.value)


def test_a_secret_that_cannot_be_used_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "bridge.yaml").write_text("api_key: [hidden]\n")
    with pytest.raises(SystemExit, match="setting 'api_key'") as refusal:
        load_settings([f"--config={tmp_path / 'bridge.yaml'}"])
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("arguments", [["--prot=1"], ["--help"]])
def test_what_is_asked_of_the_program_ends_it_without_a_traceback(arguments: list[str]) -> None:
    env = os.environ | {"DEPTH_BRIDGE_PROT": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments], check=False, env=env, capture_output=True, text=True
    )
    assert (done.returncode == 0) == (arguments == ["--help"])
    assert ("usage" in done.stdout) == (arguments == ["--help"])
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_command_line_before_environment_before_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text("port: 1\nworkers: 2\nmax_waiting: 3\npreload: [vits:hypersim:518]\nimage_url_allow: camera\n")
    monkeypatch.setenv("DEPTH_BRIDGE_CONFIG", str(file))
    monkeypatch.setenv("DEPTH_BRIDGE_WORKERS", "4")
    monkeypatch.setenv("DEPTH_BRIDGE_MAX_WAITING", "5")
    settings = load_settings(["--max-waiting", "6", "--no-image-url"])
    assert (settings.port, settings.workers, settings.max_waiting) == (1, 4, 6)
    assert (settings.preload, settings.image_url_allow) == (("vits:hypersim:518",), ("camera",))
    assert settings.image_url_settings.enabled is False


def test_the_configuration_in_the_repository_holds_known_settings_only() -> None:
    load_settings([f"--config={Path(__file__).parents[3] / 'config' / 'bridge.yaml'}"])
