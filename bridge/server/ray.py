"""The bridge on Ray Serve: the same application, and a replica where the plain bridge has a worker process.

`serve run bridge.server.ray:build key=value ...`; the settings are in `ray_settings`. Ray places the replicas, counts
them, and replaces those that end or fail. Its proxies stand before them and speak HTTP.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import click
import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.config import DeploymentActorConfig

from bridge.server.auth import Buckets, KeyRing, check_wait
from bridge.server.logs import configure_logging
from bridge.server.named_models import models_to_preload
from bridge.server.ray_privacy import keep_private, listen_on_own_address
from bridge.server.ray_settings import deployment_options, read_arguments
from bridge.server.settings import BridgeSettings
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

logger = logging.getLogger(__name__)

RATES = "rates"


class Refused(click.ClickException, SettingsError):
    """Settings that cannot be: `serve run` prints a ClickException as one line, anything else with a traceback."""


def build(arguments: dict[str, Any]) -> serve.Application:
    """Make the application that `serve run` and config files name.

    Raises:
        Refused: an unknown or bad setting, or an unusable key file.
    """
    try:
        return application(arguments)
    except SettingsError as error:
        raise Refused(str(error)) from None


def application(arguments: dict[str, Any]) -> serve.Application:
    """Make the application. Raises SettingsError: an unknown or bad setting, or an unusable key file."""
    keep_private()
    settings, replicas = read_arguments(arguments)
    KeyRing(settings)  # refuses a bad key file before anything is started,
    models_to_preload(settings)  # and models that do not exist
    options = deployment_options(settings, replicas)
    if settings.rate_limit_per_s is not None:
        options["deployment_actors"] = [
            DeploymentActorConfig(
                name=RATES,
                actor_class=Rates,
                init_args=(settings.rate_limit_per_s, settings.rate_burst),
                actor_options={"num_cpus": 0},
            )
        ]
    deployment = cast(serve.Deployment, BridgeReplica)  # which the decorator made of the class
    return deployment.options(**options).bind(settings)


@ray.remote
class Rates(Buckets):
    """The token buckets of all replicas: a key's rate is the cluster's."""


class ClusterLimiter:
    """A `Limiter` that asks the cluster's buckets.

    While they are being replaced, requests pass: a rate is no reason to turn clients away for seconds.
    """

    async def take(self, name: str) -> None:
        """See `Limiter`."""
        try:
            wait_s = await serve.get_deployment_actor(RATES).take.remote(name)
        except (ValueError, ray.exceptions.RayError) as error:
            logger.warning("no rates are kept now: %s", type(error).__name__)
            return
        check_wait(wait_s)

    def owe(self, name: str, count: int) -> None:
        """See `Limiter`."""
        try:
            serve.get_deployment_actor(RATES).owe.remote(name, count)
        except ValueError:
            logger.warning("no rates are kept now")


@serve.deployment(name="bridge")
@serve.ingress()
class BridgeReplica:
    """One replica: what `worker.run_worker` is to a process, without the server, which is Ray's.

    It takes requests once its models are loaded. A model that cannot be loaded fails the deployment.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        let_waiting_threads_sleep()
        from bridge.server import ray_replica  # imports torch, which reads what was set above

        listen_on_own_address()
        configure_logging(settings.log_level)
        self._keys = KeyRing(settings)
        limiter = None if settings.rate_limit_per_s is None else ClusterLimiter()
        self._app = ray_replica.build_app(settings, self._keys, limiter, labels_of_replica())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Read the key file again: Ray calls this at the start, and when `keys_version` has changed."""
        self._keys.reload()

    def check_health(self) -> None:
        """Raises RuntimeError where the device is lost: Ray then replaces the replica."""
        if self._app.state.worker.has_failed:
            raise RuntimeError("the device cannot be used any more by this process")


def labels_of_replica() -> dict[str, str]:
    """What tells this replica from others in `/health` and `/metrics`."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return {"replica": serve.get_replica_context().replica_tag, "node": address}
