"""What a browser shows in a key's place: a session cookie for all requests, a ticket for one.

A session is signed, not kept, so every worker knows it: it names a key and an end, and counts while the key is known.
A ticket is kept until it is used: it is for one path, one request, and pages of the origin that asked for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.server.auth import KeyRing
from bridge.server.errors import Unauthorized

COOKIE = "depth_bridge_session"
TICKET_LIFETIME_S = 30.0
MAX_TICKETS = 1024  # not used yet; beyond it the oldest are forgotten


class Sessions:
    """Makes and reads sessions.

    Args:
        keys: a session ends with its key.
        lifetime_s: seconds until it ends anyway.
        secret: what they are signed with; the same in all workers.
    """

    def __init__(self, keys: KeyRing, lifetime_s: float, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self.lifetime_s = lifetime_s
        self._keys = keys
        self._secret = secret
        self._clock = clock

    def issue(self, name: str) -> str:
        """Make a session of a key."""
        claim = f"{int(self._clock() + self.lifetime_s)}.{_text(name.encode())}"
        return f"{claim}.{self._signature(claim, name)}"

    def identify(self, session: str) -> str:
        """Return the name of a session's key. Raises Unauthorized: it is none, is over, or its key is gone."""
        claim, _, signature = session.rpartition(".")
        end, _, encoded = claim.partition(".")
        try:
            name = base64.urlsafe_b64decode(f"{encoded}==").decode()
            is_over = int(end) < self._clock()
        except ValueError:
            name, is_over = "", True
        known = name in self._keys and hmac.compare_digest(signature.encode(), self._signature(claim, name).encode())
        if is_over or not known:
            raise Unauthorized("the session is over: sign in again", "Cookie")
        return name

    def _signature(self, claim: str, name: str) -> str:
        return _text(hmac.digest(self._secret + self._keys.digest(name), claim.encode(), hashlib.sha256))


@dataclass(frozen=True)
class Ticket:
    """What a ticket is good for: one path, by a key, for pages of an origin (None: programs)."""

    path: str
    name: str | None
    origin: str | None
    ends_s: float


class Tickets:
    """Tickets that were handed out and not used yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}  # the oldest first

    def issue(self, path: str, name: str | None, origin: str | None) -> str:
        """Make a ticket."""
        while len(self._tickets) >= MAX_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        text = secrets.token_urlsafe(32)
        self._tickets[text] = Ticket(path, name, origin, self._clock() + TICKET_LIFETIME_S)
        return text

    def use(self, text: str, path: str, origin: str | None) -> str | None:
        """Take a ticket; return the name of the key that asked for it.

        A browser sends no origin with an `<img>`: then there is none to compare.

        Raises:
            Unauthorized: it is unknown, used, expired, or for something else.
        """
        ticket = self._tickets.pop(text, None)
        if ticket is None or ticket.ends_s < self._clock():
            raise Unauthorized("the ticket is unknown, used or expired: ask for another", "ticket")
        if ticket.path != path or origin not in (None, ticket.origin):
            raise Unauthorized("the ticket is for another path or another page", "ticket")
        return ticket.name


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
