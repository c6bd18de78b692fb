"""What a bridge on Ray Serve is told: settings of the bridge and of its replicas, and a config file with both.

Imports no Ray, so a config file can be written where Ray is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import indent, wrap
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bridge.server.names import nearest, shown
from bridge.server.settings import BridgeSettings, Count
from bridge.server.settings_sources import settings_from
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.settings import CacheSettings

APP_NAME = "depth-bridge"
IMPORT_PATH = "bridge.server.ray:build"
# Settings of the plain bridge that are another's matter here, and whose.
ELSEWHERE = {
    "host": "Ray Serve listens: http_options of its config file, or `serve start --http-host`",
    "port": "Ray Serve listens: http_options of its config file, or `serve start --http-port`",
    "workers": "set replicas, or max_replicas",
    "keep_alive_s": "Ray Serve keeps connections: http_options of its config file, keep_alive_timeout_s",
    "header_timeout_s": "Ray Serve reads the headers: put a proxy with such a limit in front",
} | dict.fromkeys(
    ("ros", "ros_node", "ros_args"),
    "replicas know no robot; its cameras are shown by a bridge of its own, `depth_anything_bridge --ros`",
)
PROBES = 8  # requests beside those for depth, such as /health, that a replica with a full queue still takes


class ReplicaSettings(BaseModel):
    """Where replicas run, and how many."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    replicas: Count | None = None
    """Replicas at all times; 1 by default."""
    min_replicas: Annotated[int, Field(ge=0)] | None = None
    """With max_replicas: fewest replicas; 1 by default. 0 makes the first request wait for a start."""
    max_replicas: Count | None = None
    """Most replicas. With it, their number follows the load."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] | None = None
    """Requests in a replica that are just right: more add replicas, fewer remove some. By default one on a
    CPU, and on GPUs twice what they work on at once."""
    autoscaling_config: dict[str, Any] = Field(default_factory=dict)
    """With max_replicas: more of Ray Serve's options of that name, such as downscale_delay_s."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs of each replica; a part such as 0.5 shares one."""
    cpus: Annotated[float, Field(gt=0)] = 1
    """CPU cores of each replica: Ray places replicas by it, and the network and the codecs use as many threads."""
    keys_version: Count = 1
    """Change it and deploy again: every replica reads its key file anew, and none restarts."""

    @model_validator(mode="after")
    def _choose_one(self) -> ReplicaSettings:
        if self.replicas is not None and self.max_replicas is not None:
            raise ValueError("replicas is a fixed number and max_replicas lets it follow the load: set one of them")
        following = self.model_fields_set & {"min_replicas", "target_ongoing_requests", "autoscaling_config"}
        if self.max_replicas is None and following:
            raise ValueError(f"{min(following)} needs max_replicas")
        if self.max_replicas is not None and (self.min_replicas or 0) > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


def read_arguments(arguments: Mapping[str, Any]) -> tuple[BridgeSettings, ReplicaSettings]:
    """Read what `serve run` or a config file gives: names and values, as text or as YAML has them.

    Raises:
        SettingsError: an unknown or bad setting, or one that has no meaning on Ray.
    """
    own = {name: value for name, value in arguments.items() if name in ReplicaSettings.model_fields}
    rest = {name: value for name, value in arguments.items() if name not in own}
    known = [*BridgeSettings.model_fields, *ReplicaSettings.model_fields]
    if unknown := sorted(set(rest) - set(known)):
        raise SettingsError(f"unknown setting {shown(unknown[0])}{nearest(unknown[0], known)}")
    settings = settings_from(rest)
    for name, where in ELSEWHERE.items():
        if name in settings.model_fields_set:
            raise SettingsError(f"setting {name!r} has no effect on Ray Serve: {where}")
    try:
        replicas = ReplicaSettings(**own)
    except ValidationError as error:
        problem = error.errors()[0]
        raise SettingsError(f"setting {'.'.join(map(str, problem['loc'])) or 'replicas'!r}: {problem['msg']}") from None
    if "allow_hosts" not in settings.model_fields_set:  # Ray listens, and nobody here knows where
        settings = settings.model_copy(update={"allow_hosts": ("*",)})
    if replicas.gpus == 0 and settings.device == "auto":  # Ray leaves a machine's GPUs visible to it
        settings = settings.model_copy(update={"device": "cpu"})
    return settings, replicas


def deployment_options(settings: BridgeSettings, replicas: ReplicaSettings) -> dict[str, Any]:
    """The bridge's limits as Ray Serve's.

    A replica's own queue refuses what is too much. Ray's queue, before the replicas, is as long as one of theirs: it
    holds what comes while none is there.
    """
    at_once = at_once_of(replicas)
    places = at_once + settings.max_waiting + PROBES
    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        "max_ongoing_requests": places,
        "max_queued_requests": places,
        "backpressure_config": {"status_code": 503, "retry_after_s": 1},
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        # A replica that is to go has taken its requests, so it has the time that they have.
        "graceful_shutdown_timeout_s": max(settings.drain_timeout_s, settings.request_timeout_s + 5),
        "graceful_shutdown_wait_loop_s": 0.5,
        "user_config": {"keys_version": replicas.keys_version},
    }
    if replicas.max_replicas is None:
        return options | {"num_replicas": replicas.replicas or 1}
    scaling = {
        "min_replicas": 1 if replicas.min_replicas is None else replicas.min_replicas,
        "max_replicas": replicas.max_replicas,
        "target_ongoing_requests": replicas.target_ongoing_requests or just_right(replicas),
    }
    return options | {"autoscaling_config": scaling | replicas.autoscaling_config}


def at_once_of(replicas: ReplicaSettings) -> int:
    """Images that a replica's devices work on at once: one on a CPU, a batch on each GPU."""
    return max(1, int(replicas.gpus)) * (CacheSettings.max_batch if replicas.gpus else 1)


def just_right(replicas: ReplicaSettings) -> float:
    """Requests in a replica that are neither too many nor too few; docs/fleet.md says why.

    Where one runs at a time, two would mean that it never rests. GPUs need a second batch once the first is done.
    """
    at_once = at_once_of(replicas)
    return 1 if at_once == 1 else 2 * at_once


def config_file(arguments: Mapping[str, Any]) -> str:
    """A config file for `serve run` and `serve deploy` with these settings; by default one to four replicas.

    Raises:
        SettingsError: as `read_arguments`; or a key among the settings, which the file would show.
    """
    if "api_key" in arguments:
        raise SettingsError("a key does not belong in a config file: set api_keys_file, or DEPTH_BRIDGE_API_KEY")
    chosen = {} if {"replicas", "max_replicas"} & set(arguments) else {"min_replicas": 1, "max_replicas": 4}
    chosen |= {name: _plain(value) for name, value in arguments.items()}
    read_arguments(chosen)
    lines = [line for name, value in chosen.items() for line in (*_comment(name), f"{name}: {json.dumps(value)}")]
    others = [name for name in ReplicaSettings.model_fields if name not in chosen]
    lines += [line for name in others for line in (*_comment(name), f"# {name}: {_default(name)}")]
    return CONFIG_FILE.format(name=APP_NAME, path=IMPORT_PATH, args=indent("\n".join(lines), " " * 6))


def _plain(value: Any) -> Any:
    """A value as YAML reads it: text from a command line becomes a number where it is one."""
    return yaml.safe_load(value) if isinstance(value, str) else value


def _comment(name: str) -> list[str]:
    fields = ReplicaSettings.model_fields | BridgeSettings.model_fields
    return wrap(fields[name].description or "", 100, initial_indent="# ", subsequent_indent="# ")


def _default(name: str) -> str:
    return json.dumps(ReplicaSettings.model_fields[name].get_default(call_default_factory=True))


CONFIG_FILE = """\
# The depth bridge on Ray Serve. `serve run FILE` runs it, `serve deploy FILE` hands it to a running cluster, and in a
# RayService of KubeRay it is the text of serveConfigV2.
proxy_location: EveryNode  # each node with replicas listens; HeadOnly: the head alone
http_options:
  host: 127.0.0.1  # 0.0.0.0 lets others in: only with keys, and behind TLS
  port: 8000
  keep_alive_timeout_s: 75  # longer than a proxy in front keeps its connections
applications:
  - name: {name}
    route_prefix: /  # where it is another, set root_path to the same
    import_path: {path}
    args:  # those below, and every setting of `depth_anything_bridge --help`, with _ for -
{args}
"""
