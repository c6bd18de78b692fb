"""`GET /`: the page for people, and the files it is made of, as they lie in `bridge/page`.

They hold no data, so they need no key; what they fetch does. The paths are those of the files that are there, so no
other file can be named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Request, Response

FOLDER = Path(__file__).parents[1] / "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page runs its own scripts alone, reaches its own server alone, and nobody may show it in a frame.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",  # a text from the server never becomes markup
    "trusted-types": "'none'",
}
HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for again: the answer is a 304
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FILES = {
    "/" if file.name == "index.html" else f"/page/{file.name}": file
    for file in sorted(FOLDER.iterdir())
    if file.suffix in MEDIA_TYPES
}
PAGE_PATHS = tuple(FILES)


def page_routes() -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """Path -> what answers it. The files are read here, once."""
    return {path: _route(file.read_bytes(), MEDIA_TYPES[file.suffix]) for path, file in FILES.items()}


def _route(body: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = HEADERS | {"ETag": tag}

    async def answer(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if tag in (name.strip().removeprefix("W/") for name in known.split(",")):
            return Response(None, 304, headers)
        return Response(body, 200, headers, media_type)

    return answer
