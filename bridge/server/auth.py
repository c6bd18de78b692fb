"""API keys: who may ask, and how often.

A key is 256 random bits, so nobody can guess it from its plain SHA-256, which is what is kept. The key file has
one line `name sha256` for each key; `#` starts a comment. Logs show names, never keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from bridge.server.errors import RateLimited, Unauthorized, retry_after
from bridge.server.settings import BridgeSettings
from depth_anything_ros.errors import SettingsError, os_reason

logger = logging.getLogger(__name__)

KEY_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<digest>[0-9a-fA-F]{64})")
SETTINGS_KEY_NAME = "api-key"  # of the one key that the settings hold
BEARER = re.compile(rb"bearer +([\x21-\x7e]+) *", re.IGNORECASE)


def digest_of(key: bytes) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key).digest()


def make_key(name: str) -> tuple[str, str]:
    """Make a key; return it and its line for the key file.

    Raises:
        SettingsError: a name with other characters than letters, digits and `_.@-`.
    """
    key = secrets.token_urlsafe(32)
    line = f"{name} {digest_of(key.encode()).hex()}"
    if not KEY_LINE.fullmatch(line):
        raise SettingsError(f"{name!r} is not a valid name for a key: use up to 64 letters, digits and _ . @ -")
    return key, line


def read_keys(path: Path) -> dict[str, bytes]:
    """Read a key file: name -> digest.

    Raises:
        SettingsError: unreadable, a malformed line, a name twice, or no key at all.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the key file {path}: {os_reason(error)}") from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = KEY_LINE.fullmatch(text)
        if text and (match is None or match["name"] in keys):
            raise SettingsError(f"{path}:{number}: expected `name sha256`, each name once")
        if match:
            keys[match["name"]] = bytes.fromhex(match["digest"])
    if not keys:
        raise SettingsError(f"the key file {path} holds no key, so nobody could use the server")
    return keys


class KeyRing:
    """The keys of this server; without any, no key is needed.

    Raises:
        SettingsError: as `read_keys`, or an empty or non-ASCII key.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        self._path = settings.api_keys_file
        self._fixed: dict[str, bytes] = {}
        if settings.api_key is not None:
            key = settings.api_key.get_secret_value()
            if not BEARER.fullmatch(b"bearer " + key.encode()):
                raise SettingsError("api_key must be visible ASCII characters without spaces")
            self._fixed[SETTINGS_KEY_NAME] = digest_of(key.encode())
        self._keys = self._read()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, name: str) -> bool:
        return name in self._keys

    def digest(self, name: str) -> bytes:
        """SHA-256 of the key of a name; empty where there is none."""
        return self._keys.get(name, b"")

    def _read(self) -> dict[str, bytes]:
        return self._fixed | (read_keys(self._path) if self._path else {})

    def reload(self) -> None:
        """Read the key file again; one that cannot be used leaves the keys as they are."""
        try:
            self._keys = self._read()
            logger.info("keys loaded: %s", ", ".join(self._keys) or "none")
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error)

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the name of the key that a request carries.

        Raises:
            Unauthorized: no Authorization header, several, another scheme, or an unknown key.
        """
        values = [value for name, value in headers if name == b"authorization"]
        match = BEARER.fullmatch(values[0]) if len(values) == 1 else None
        digest = digest_of(match[1] if match else b"")
        found = [name for name, known in self._keys.items() if hmac.compare_digest(digest, known)]
        if match is None or not found:
            raise Unauthorized(
                "a valid API key is needed: Authorization: Bearer KEY",
                "Authorization",
                {"WWW-Authenticate": 'Bearer realm="depth bridge"'},
            )
        return found[0]


class Limiter(Protocol):
    """Holds each key to its rate."""

    async def take(self, name: str) -> None:
        """Count a request of a key. Raises RateLimited where the key has to wait."""

    def owe(self, name: str, count: int) -> None:
        """Count further work of a request that was let in: the key's next requests wait for it."""


class Buckets:
    """A token bucket for each key: `burst` requests at once, `rate_per_s` in the long run."""

    def __init__(self, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate_per_s
        self._burst = max(1.0, burst)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, and when that was counted

    def take(self, name: str) -> float:
        """Take a token from a key's bucket; returns 0, or the seconds until there is one."""
        now = self._clock()
        left, since = self._buckets.get(name, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        if left < 1:
            return (1 - left) / self._rate
        self._buckets[name] = (left - 1, now)
        return 0.0

    def owe(self, name: str, count: int) -> None:
        """Take more tokens than are there, if need be."""
        left, since = self._buckets.get(name, (self._burst, self._clock()))
        self._buckets[name] = (left - count, since)


class OwnLimiter:
    """The limiter of one process: a `Limiter` with the buckets in it."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def take(self, name: str) -> None:
        """See `Limiter`."""
        check_wait(self._buckets.take(name))

    def owe(self, name: str, count: int) -> None:
        """See `Limiter`."""
        self._buckets.owe(name, count)


def check_wait(wait_s: float) -> None:
    """Raise RateLimited unless there is nothing to wait for."""
    if wait_s > 0:
        raise RateLimited("too many requests with this key", None, retry_after(wait_s))


def create_limiter(settings: BridgeSettings) -> Limiter | None:
    """Build one worker's limiter. The workers share the rate, so together they never exceed it."""
    if settings.rate_limit_per_s is None:
        return None
    return OwnLimiter(Buckets(settings.rate_limit_per_s / settings.workers, settings.rate_burst / settings.workers))
