"""What a bridge on Ray Serve can be told. No cluster is needed; Ray is, where its own schema judges."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from bridge.server.command import main
from bridge.server.ray_settings import deployment_options, read_arguments
from depth_anything_ros.errors import SettingsError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_waitin": "3"}, "unknown setting max_waitin; did you mean max_waiting"),
        ({"replica": "3"}, "unknown setting replica; did you mean replicas"),
        ({"port": "8001"}, "'port' has no effect on Ray Serve: .*--http-port"),
        ({"workers": "2"}, "'workers' has no effect on Ray Serve: set replicas"),
        ({"ros": "true"}, "'ros' has no effect on Ray Serve: replicas know no robot"),
        ({"max_waiting": "many"}, "'max_waiting': Input should be a valid integer"),
        ({"gpus": "-1"}, "'gpus': Input should be greater than or equal to 0"),
        ({"replicas": "1", "max_replicas": "2"}, "set one of them"),
        ({"min_replicas": "0"}, "min_replicas needs max_replicas"),
        ({"min_replicas": "3", "max_replicas": "2"}, "min_replicas 3 is more than max_replicas 2"),
        ({"config": "/nowhere.yaml"}, "no configuration file /nowhere.yaml"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_reason(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_arguments(arguments)


def test_serve_run_says_in_one_line_what_cannot_be_set() -> None:
    serve = [sys.executable, "-m", "ray.serve.scripts", "run", "bridge.server.ray:build", "max_waitin=3"]
    done = subprocess.run(serve, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: unknown setting max_waitin; did you mean max_waiting?"
    assert "Traceback" not in done.stderr


def test_settings_come_from_the_environment_too_and_have_no_effect_there_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEPTH_BRIDGE_MAX_WAITING", "7")
    assert read_arguments({})[0].max_waiting == 7
    assert read_arguments({"max_waiting": "8"})[0].max_waiting == 8
    monkeypatch.setenv("DEPTH_BRIDGE_PORT", "8001")
    with pytest.raises(SettingsError, match="'port' has no effect"):
        read_arguments({})


def test_text_and_yaml_values_mean_the_same() -> None:
    text = {"preload": "toy:hypersim:56,toy:vkitti:56", "max_replicas": "3", "image_url": "false", "gpus": "0.5"}
    values = {"preload": ["toy:hypersim:56", "toy:vkitti:56"], "max_replicas": 3, "image_url": False, "gpus": 0.5}
    assert read_arguments(text) == read_arguments(values)


def test_a_replica_without_gpus_stays_on_the_cpu() -> None:
    assert read_arguments({})[0].device == "cpu"
    assert not read_arguments({})[0].checks_hosts  # Ray listens, by whatever names
    assert read_arguments({"allow_hosts": "robot.lan"})[0].checks_hosts
    assert read_arguments({"gpus": "1"})[0].device == "auto"


@pytest.mark.parametrize(("gpus", "at_once", "target"), [("0", 1, 1), ("0.5", 8, 16), ("2", 16, 32)])
def test_the_limits_of_the_bridge_become_those_of_ray(gpus: str, at_once: int, target: int) -> None:
    options = deployment_options(*read_arguments({"gpus": gpus, "max_waiting": "3", "max_replicas": "4"}))
    assert options["max_ongoing_requests"] >= at_once + 3
    assert options["max_queued_requests"] >= at_once + 3
    assert options["autoscaling_config"] == {
        "min_replicas": 1,
        "max_replicas": 4,
        "target_ongoing_requests": target,
    }
    assert options["graceful_shutdown_timeout_s"] > read_arguments({})[0].request_timeout_s


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of pydantic
def test_a_config_file_is_what_serve_takes_and_build_reads(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    from ray.serve.schema import ServeDeploySchema

    assert main(["ray-config", "default_encoder=vits", "preload=vits:hypersim:518", "gpus=1", "max_waiting=8"]) == 0
    written = yaml.safe_load(capsys.readouterr().out)
    (application,) = ServeDeploySchema.model_validate(written).applications
    settings, replicas = read_arguments(application.args)
    assert (settings.preload, settings.max_waiting) == (("vits:hypersim:518",), 8)
    assert (replicas.min_replicas, replicas.max_replicas, replicas.gpus) == (1, 4, 1)
    assert application.import_path == "bridge.server.ray:build"


@pytest.mark.parametrize("argument", ["max_waiting", "--max-waiting=8", "api_key=secret", "max_waitin=8"])
def test_a_config_file_is_not_written_of_what_does_not_belong_in_it(argument: str) -> None:
    with pytest.raises(SystemExit):
        main(["ray-config", argument])
