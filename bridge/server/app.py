"""The application: routes around a `service.Bridge`, behind the `middleware.FrontDoor`.

Every error becomes an answer by the one table in `errors`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route

from bridge.server import openapi
from bridge.server.auth import KeyRing, create_rate_limiter
from bridge.server.endpoints import ENDPOINTS, Endpoint
from bridge.server.errors import BadRequest, MethodNotAllowed, NotFound
from bridge.server.middleware import FrontDoor
from bridge.server.replies import JSON, dump_json
from bridge.server.service import Bridge, Fetcher
from bridge.server.settings import BridgeSettings
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.version import __version__


def create_app(
    cache: ModelCache,
    settings: BridgeSettings,
    fetcher: Fetcher | None = None,
    keys: KeyRing | None = None,
    worker_id: int = 0,
) -> FastAPI:
    """Build the application; its `state.bridge` is the Bridge behind it.

    Args:
        cache: where the models come from; its devices are the ones that work.
        fetcher: fetches image URLs; None refuses them all.
        keys: None reads them from the settings.
        worker_id: which of the server's processes this is.

    Raises:
        SettingsError: an unusable key file, or an unknown model among the settings.
    """
    bridge = Bridge(cache, settings, fetcher, worker_id)
    app = FastAPI(
        title="Depth bridge",
        version=__version__,
        lifespan=partial(_lifespan, bridge),
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.bridge = bridge
    for endpoint in ENDPOINTS:
        description = openapi.describe(endpoint, settings)
        app.add_api_route(endpoint.path, _route(bridge, endpoint), methods=["POST"], **description)
    for path, probe in _probes(bridge, settings).items():
        app.add_api_route(path, probe, summary=probe.__doc__)
        app.add_api_route(path, probe, methods=["HEAD"], include_in_schema=False)
    app.add_exception_handler(HTTPException, _translate)
    app.openapi = partial(openapi.document, app, settings)  # type: ignore[method-assign]
    app.add_middleware(
        FrontDoor,
        bridge=bridge,
        keys=KeyRing(settings) if keys is None else keys,
        limiter=create_rate_limiter(settings),
        paths=frozenset(route.path for route in app.routes if isinstance(route, Route)),
        work_paths=frozenset(endpoint.path for endpoint in ENDPOINTS),
    )
    return app


@asynccontextmanager
async def _lifespan(bridge: Bridge, _: FastAPI) -> AsyncIterator[None]:
    threading.Thread(target=bridge.preload, name="preload", daemon=True).start()
    yield
    await bridge.close()


def _route(bridge: Bridge, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        return await bridge.answer(endpoint, request, request.state.place)

    route.__name__ = endpoint.path.strip("/")
    return route


def _probes(bridge: Bridge, settings: BridgeSettings) -> dict[str, Callable[[], Awaitable[Response]]]:
    """What those ask who look after the server."""

    async def health() -> Response:
        """State of this worker; needs no key"""
        return _json(bridge.health())

    async def livez() -> Response:
        """Whether the process answers; needs no key"""
        return _json({"status": "alive"})

    async def readyz() -> Response:
        """Whether requests for depth are taken now"""
        body = {"status": bridge.status, "warnings": settings.warnings}
        return _json(body, 200 if bridge.status == "ready" else 503)

    async def metrics() -> Response:
        """Prometheus metrics"""
        return Response(bridge.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return {"/health": health, "/livez": livez, "/readyz": readyz, "/metrics": metrics}


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(dump_json(body), status, media_type=JSON)


async def _translate(_: Request, error: Exception) -> Response:
    """Turn the router's own errors into ours, which the front door answers."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        raise NotFound("there is no such path")
    if error.status_code == 405:
        raise MethodNotAllowed("the path has other methods", None, dict(error.headers or {}))
    raise BadRequest("the request is malformed")
