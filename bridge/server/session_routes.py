"""`/session` and `/tickets`: how a browser exchanges a key for what it can send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response

from bridge.server.endpoints import TICKET_PATHS
from bridge.server.errors import BadRequest, InvalidValue
from bridge.server.gate import Gate
from bridge.server.media import JSON, dump_json
from bridge.server.parsing import parse_json
from bridge.server.sessions import COOKIE, TICKET_LIFETIME_S
from bridge.server.settings import BridgeSettings

Route = Callable[[Request], Awaitable[Response]]
NO_STORE = {"Cache-Control": "no-store"}


def session_routes(gate: Gate, settings: BridgeSettings) -> dict[tuple[str, str], Route]:
    """Method and path -> what answers it; the docstrings are shown in the API's documentation."""

    async def session(request: Request) -> Response:
        """Whether a key is needed, and whether this browser is signed in; needs no key"""
        name = gate.name_of(request.scope) if gate.keys else None
        body = {"needs_key": bool(gate.keys), "signed_in": name is not None, "name": name, "robot": settings.ros}
        return Response(dump_json(body), media_type=JSON, headers=NO_STORE)

    async def sign_in(request: Request) -> Response:
        """Exchange the key in the Authorization header for a session cookie"""
        gate.check_origin(request.headers, allow_all=False)
        answer = Response(status_code=204, headers=NO_STORE)
        if gate.keys:
            value = gate.sessions.issue(gate.keys.identify(request.scope["headers"]))
            answer.set_cookie(COOKIE, value, max_age=int(gate.sessions.lifetime_s), **_cookie(request, settings))
        return answer

    async def sign_out(request: Request) -> Response:
        """Forget the session cookie; needs no key"""
        answer = Response(status_code=204, headers=NO_STORE)
        answer.delete_cookie(COOKIE, **_cookie(request, settings))
        return answer

    async def ticket(request: Request) -> Response:
        """Make a ticket for one stream, for browsers, which cannot send a key with a WebSocket or an image"""
        gate.check_origin(request.headers)
        body = parse_json(await request.body(), 1)
        path = body.get("path") if isinstance(body, dict) else None
        if not isinstance(path, str):
            raise BadRequest('path is required: {"path": "/cameras/NAME/stream"}', "path")
        if not TICKET_PATHS.fullmatch(path):
            raise InvalidValue("path must be /cameras/NAME/stream or /cameras/NAME/stream.mjpeg", "path")
        text = gate.tickets.issue(path, request.scope["state"]["key_name"], request.headers.get("origin"))
        made = {"ticket": text, "path": path, "expires_in_s": TICKET_LIFETIME_S}
        return Response(dump_json(made), 201, NO_STORE, JSON)

    return {
        ("GET", "/session"): session,
        ("POST", "/session"): sign_in,
        ("DELETE", "/session"): sign_out,
        ("POST", "/tickets"): ticket,
    }


def _cookie(request: Request, settings: BridgeSettings) -> dict[str, Any]:
    """Where and how the cookie travels: never to scripts, never from other sites."""
    is_secure = request.url.scheme == "https"
    return {"path": settings.root_path or "/", "httponly": True, "samesite": "strict", "secure": is_secure}
