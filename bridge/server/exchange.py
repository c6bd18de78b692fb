"""One request and its answer: the ASGI channel, the client, the progress, and the line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from bridge.server.endpoints import OPEN_PATHS, label_of
from bridge.server.metrics import Metrics

logger = logging.getLogger("bridge.requests")

REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
DEADLINE_HEADER = "X-Deadline-Ms"  # how long the client waits for its answer
METHODS = ("GET", "POST", "HEAD", "DELETE", "WEBSOCKET")
MAX_LOGGED_CHARACTERS = 200


@dataclass
class Exchange:
    """One request and its answer.

    Attributes:
        started_s: monotonic time at which its headers were in.
        key_name: name of the key it came with.
        status: of the answer; 0 until that begins.
        deadline_s: seconds from its headers on in which the answer has to begin.
        answered_s: monotonic time at which the last byte of the answer was handed over.
        body_is_read: whether the whole body is in.
        error_code: code of the error it was answered with.
    """

    scope: Scope
    receive: Receive
    send: Send
    deadline_s: float
    started_s: float = field(default_factory=time.monotonic)
    key_name: str | None = None
    status: int = 0
    answered_s: float | None = None
    body_is_read: bool = False
    error_code: str | None = None
    request_id: str = ""

    def __post_init__(self) -> None:
        self.request_id = _request_id(Headers(scope=self.scope))

    @property
    def path(self) -> str:
        """Path of the request as it is routed: without the prefix that a proxy serves it under."""
        path, prefix = str(self.scope["path"]), str(self.scope.get("root_path", ""))
        rest = path.removeprefix(prefix)
        return rest if path.startswith(prefix) and rest[:1] in ("", "/") else path

    @property
    def method(self) -> str:
        """HTTP method of the request."""
        return str(self.scope.get("method", "WEBSOCKET"))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, 0 or more."""
        return max(0.0, self.deadline_s - self.elapsed_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the headers were in."""
        return time.monotonic() - self.started_s

    @property
    def duration_s(self) -> float:
        """Seconds until the last byte of the answer was handed over, or until now where there is none."""
        return self.elapsed_s if self.answered_s is None else self.answered_s - self.started_s

    def mark_answered(self) -> None:
        """Note that the bytes of the answer so far are handed over now."""
        self.answered_s = time.monotonic()

    def record(self, metrics: Metrics) -> None:
        """Count and log the exchange: its path, never its query, headers or body."""
        path = label_of(self.path)
        method = self.method if self.method in METHODS else "other"
        metrics.requests.labels(path, method, self.status).inc()
        metrics.duration.labels(path).observe(self.duration_s)
        client = self.scope.get("client") or ("", 0)
        fields = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path[:MAX_LOGGED_CHARACTERS],
            "status": self.status,
            "duration_ms": round(1000 * self.duration_s, 1),
            "client": client[0],
            "key": self.key_name,
            "error": self.error_code,
        }
        level = logging.DEBUG if path in OPEN_PATHS else logging.INFO
        logger.log(level, "%s %s %d", method, path, self.status, extra={"fields": fields})


def _request_id(headers: Headers) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
