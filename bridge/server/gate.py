"""Who asks: a key in the header, a session cookie or a ticket, and from a page of which origin."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from bridge.server.auth import KeyRing
from bridge.server.endpoints import CAMERAS_PATH, OPEN_PATHS, TICKET_PATHS, VERSION_PREFIX
from bridge.server.errors import OtherHost, OtherOrigin, Unauthorized
from bridge.server.names import shown
from bridge.server.sessions import COOKIE, Sessions, Tickets
from bridge.server.settings import BridgeSettings


class Gate:
    """Tells who asks, or refuses.

    Args:
        settings: whose pages may call.
        keys: without any, everybody may ask.
    """

    def __init__(self, settings: BridgeSettings, keys: KeyRing) -> None:
        self.keys = keys
        self.sessions = Sessions(keys, settings.session_lifetime_s, settings.session_secret_bytes)
        self.tickets = Tickets()
        self._origins = frozenset(settings.cors_allow_origins)
        self._hosts = frozenset(name.lower() for name in settings.allow_hosts) if settings.checks_hosts else None

    def identify(self, scope: Scope, path: str) -> str | None:
        """Return the name of the key that stands behind a request; None where none is needed.

        Args:
            scope: of an HTTP request or a WebSocket.
            path: as it is routed.

        Raises:
            Unauthorized: nothing that counts. OtherOrigin: a page that may not do this. OtherHost: see `check_host`.
        """
        headers, plain_path = Headers(scope=scope), path.removeprefix(VERSION_PREFIX)
        self.check_host(headers)
        ticket = _ticket_of(scope) if TICKET_PATHS.fullmatch(plain_path) else None
        if ticket is not None:
            return self.tickets.use(ticket, plain_path, headers.get("origin"))
        if scope["type"] == "websocket" or plain_path.startswith(CAMERAS_PATH):
            self.check_origin(headers)
        if not self.keys or (path in OPEN_PATHS and scope["type"] == "http"):
            return None
        session = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if session is not None and "authorization" not in headers:
            self.check_origin(headers, allow_all=False)
            return self.sessions.identify(session)
        return self.keys.identify(scope["headers"])

    def check_host(self, headers: Headers) -> None:
        """Refuse a request without a key that calls this machine by a stranger's name.

        A page's own name may be made to mean this machine after the page is loaded (DNS rebinding); for the browser
        it then asks its own server. It cannot do that with an address, nor where a key is needed. A name without a
        dot is no page's of the internet: it is a machine's, a container's, or what a proxy calls the servers behind it.

        Raises:
            OtherHost: neither an address, nor localhost, nor among the settings' names.
        """
        name = host_name(headers.get("host", ""))
        is_own = "." not in name or name.endswith(".localhost") or is_address(name)
        if self.keys or self._hosts is None or is_own or name in self._hosts:
            return
        raise OtherHost(
            f"without keys this server answers to addresses and to names without a dot, not to {shown(name)}; "
            "--allow-hosts names others",
            "Host",
        )

    def check_origin(self, headers: Headers, *, allow_all: bool = True) -> None:
        """Refuse pages of other origins than the server's own and those that the settings name.

        Args:
            allow_all: whether `*` among those counts.

        Raises:
            OtherOrigin: such a page asks.
        """
        origin = headers.get("origin")
        if origin is None:
            is_other = headers.get("sec-fetch-site") == "cross-site"
        else:
            is_other = urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        allowed = origin in self._origins or (allow_all and "*" in self._origins)
        if is_other and not allowed:
            raise OtherOrigin("pages of another origin may not do this; --cors-allow-origins names those that may")

    def name_of(self, scope: Scope) -> str | None:
        """As `identify`, for what is told to everybody: None where nothing counts."""
        try:
            return self.identify(scope, "")
        except (Unauthorized, OtherHost, OtherOrigin):
            return None


def host_name(host: str) -> str:
    """The name or address in a Host header, in lower case, without port and brackets."""
    bracketed, _, _ = host.partition("]")
    return (bracketed[1:] if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")


def is_address(name: str) -> bool:
    """Whether a host is named by its address, which nobody can make to mean another."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _ticket_of(scope: Scope) -> str | None:
    values = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [])
    return values[0] if values else None
