"""The application: its parts put together, and the routes around them.

`walk` answers requests for depth, `probes` those about the server, `front_door` stands before both. Every error
becomes an answer by the one table in `errors`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from bridge.server import openapi
from bridge.server.admission import Admission
from bridge.server.answers import AnswerMemory
from bridge.server.auth import KeyRing, Limiter, create_limiter
from bridge.server.endpoints import CAMERAS_PATH, ENDPOINTS, PREFIXES, Endpoint
from bridge.server.errors import BadRequest, MethodNotAllowed, NoRobot, NotFound
from bridge.server.fetching import Fetcher, Fetches
from bridge.server.front_door import FrontDoor
from bridge.server.gate import Gate
from bridge.server.metrics import Metrics
from bridge.server.models import models_at_start, preload, warn_without_weights
from bridge.server.names import nearest
from bridge.server.page import page_routes
from bridge.server.probes import Probe, probes
from bridge.server.replies import EXPOSED_HEADERS
from bridge.server.scheduling import Scheduler
from bridge.server.session_routes import Route as SessionRoute
from bridge.server.session_routes import session_routes
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from bridge.server.walk import Walk
from depth_anything_ros.errors import quoted
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.version import __version__


class Robot(Protocol):
    """What `robot.Robot` is to the application, which imports none of it."""

    def add_routes(self, app: FastAPI) -> None:
        """Add the paths of the cameras."""

    def start(self, state: WorkerState, metrics: Metrics) -> None:
        """Join the robot's ROS graph; called on the event loop."""

    def stop(self) -> None:
        """Leave it."""


def create_app(
    cache: ModelCache,
    settings: BridgeSettings,
    fetcher: Fetcher | None = None,
    keys: KeyRing | None = None,
    worker_id: int = 0,
    robot: Robot | None = None,
    limiter: Limiter | None = None,
    labels: Mapping[str, str] | None = None,
) -> FastAPI:
    """Build the application; its `state` holds the WorkerState and the Metrics behind it.

    Args:
        cache: where the models come from; its devices are the ones that work.
        fetcher: fetches image URLs; None refuses them all.
        keys: None reads them from the settings.
        worker_id: which of the server's processes this is.
        robot: shows a robot's cameras; None where there is none.
        limiter: holds keys to their rate; None makes one of the settings.
        labels: what else tells this process from others, in `/health` and in the metrics.

    Raises:
        SettingsError: an unusable key file, or an unknown model among the settings.
    """
    at_once = len(cache.devices) * cache.max_batch
    state, metrics = WorkerState(worker_id, models_at_start(settings), labels or {}), Metrics(labels or {})
    admission = Admission(state, at_once, settings.max_waiting, metrics)
    scheduler, fetches = Scheduler(at_once, settings.queue_timeout_s, settings.decode_timeout_s), Fetches(fetcher)
    gate = Gate(settings, KeyRing(settings) if keys is None else keys)
    walk = Walk(settings, cache, scheduler, fetches, AnswerMemory(settings.max_answer_bytes), state, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warn_without_weights(settings)
        threading.Thread(target=preload, args=(cache, state, metrics), name="preload", daemon=True).start()
        if robot is not None:
            robot.start(state, metrics)
        yield
        if robot is not None:
            robot.stop()
        scheduler.close(wait=not state.is_over)
        await fetches.close()

    app = FastAPI(
        title="Depth bridge",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.worker, app.state.metrics = state, metrics
    _add_routes(app, walk, probes(settings, state, cache, metrics), settings)
    _add_session_routes(app, session_routes(gate, settings))
    if robot is None:
        app.add_api_route(f"{CAMERAS_PATH}{{rest:path}}", _no_robot, include_in_schema=False)
    else:
        robot.add_routes(app)
    app.add_exception_handler(HTTPException, _translate)
    app.openapi = partial(openapi.document, app, settings)  # type: ignore[method-assign]
    app.add_middleware(
        FrontDoor,
        settings=settings,
        state=state,
        admission=admission,
        metrics=metrics,
        gate=gate,
        limiter=limiter or create_limiter(settings),
    )
    if settings.cors_allow_origins:  # outside the front door: errors are for pages too, and a preflight has no key
        _allow_pages_of(app, settings.cors_allow_origins)
    return app


def _add_routes(app: FastAPI, walk: Walk, answers: Mapping[str, Probe], settings: BridgeSettings) -> None:
    """Add every path, plain and under each version's prefix; the document shows the plain one."""
    for prefix in PREFIXES:
        is_shown = not prefix
        for endpoint in ENDPOINTS:
            description = openapi.describe(endpoint, settings) if is_shown else {"include_in_schema": False}
            app.add_api_route(prefix + endpoint.path, _route(walk, endpoint), methods=["POST"], **description)
        for path, probe in answers.items():
            description = openapi.describe_probe(path) if is_shown else {"include_in_schema": False}
            app.add_api_route(prefix + path, probe, summary=probe.__doc__, **description)
            app.add_api_route(prefix + path, probe, methods=["HEAD"], include_in_schema=False)
    for path, file in page_routes().items():
        app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _route(walk: Walk, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        return await walk.answer(endpoint, request)

    route.__name__ = endpoint.path.strip("/")
    return route


def _allow_pages_of(app: FastAPI, origins: Sequence[str]) -> None:
    """Let scripts on pages of these origins call the API and read its headers."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


def _add_session_routes(app: FastAPI, routes: Mapping[tuple[str, str], SessionRoute]) -> None:
    for (method, path), route in routes.items():
        for prefix in PREFIXES:
            description = openapi.describe_session(method, path) if not prefix else {"include_in_schema": False}
            app.add_api_route(prefix + path, route, methods=[method], summary=route.__doc__, **description)


async def _no_robot(rest: str) -> Response:
    raise NoRobot("this server shows no robot's cameras: start it with --ros")


async def _translate(request: Request, error: Exception) -> Response:
    """Turn the router's own errors into ours, which the front door answers."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        known = [endpoint.path for endpoint in ENDPOINTS]
        raise NotFound(f"there is no path {quoted(path)}{nearest(path, known) or '.'} GET /docs shows all")
    if error.status_code == 405:
        headers = dict(error.headers or {})
        allowed = headers.get("Allow", "other methods")
        raise MethodNotAllowed(f"{quoted(path)} takes {allowed}, not {quoted(request.method)}", None, headers)
    raise BadRequest("the request is malformed")
