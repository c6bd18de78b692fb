"""What a replica on Ray Serve runs: the application as a worker process has it, its models loaded. Imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.server.app import create_app
from bridge.server.auth import KeyRing, Limiter
from bridge.server.image_url import ImageFetcher
from bridge.server.models import preload
from bridge.server.settings import BridgeSettings
from bridge.server.worker import create_cache, devices_of
from depth_anything_ros.errors import DeviceError
from depth_anything_ros.runtime.allocator import keep_freed_memory
from depth_anything_ros.runtime.threads import share_cores


def build_app(settings: BridgeSettings, keys: KeyRing, limiter: Limiter | None, labels: Mapping[str, str]) -> FastAPI:
    """Build the application on every device that Ray lets this process see, and load its models.

    Raises:
        SettingsError, DeviceError: the settings ask for something that is not here, or a model cannot be loaded.
    """
    keep_freed_memory()
    share_cores()  # Ray has set OMP_NUM_THREADS to the replica's cores
    cache = create_cache(settings, devices_of(settings, worker_id=0))
    app = create_app(cache, settings, ImageFetcher(settings.image_url_settings), keys, limiter=limiter, labels=labels)
    app.add_middleware(WithoutRequestId)
    preload(cache, app.state.worker, app.state.metrics)
    if app.state.worker.preload_failed:
        raise DeviceError("a model named in `preload` cannot be loaded; the log says why")
    return app


class WithoutRequestId:
    """Leaves the answer's X-Request-Id to Ray's proxy, which sets it to the same value: two would be one too many."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_rest(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["X-Request-Id"]
            await send(message)

        await self._app(scope, receive, send_rest)
