"""When a request is sent again, and when a call is given up."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass

import httpx

Outcome = httpx.Response | httpx.RequestError


@dataclass(frozen=True)
class RetryPolicy:
    """How often to send a request again, and how long to wait before that.

    Every request to a bridge, POSTs included, only computes something and changes nothing: sent twice, it gives the
    same answer twice and costs the time of a second inference. So it is safe to repeat.

    Attributes:
        attempts: requests in all; 1 never repeats.
        base_s: the random wait before the second attempt is up to this long, and doubles with each further one.
        longest_s: a server that asks for a longer wait gets its error raised instead.
    """

    attempts: int = 4
    base_s: float = 0.25
    longest_s: float = 30.0

    def delay_s(self, attempt: int, outcome: Outcome) -> float | None:
        """Seconds to wait after the `attempt`-th request (from 1); None if it is not sent again."""
        if attempt >= self.attempts or not _may_pass(outcome):
            return None
        delay = _retry_after_s(outcome) + random.uniform(0, self.base_s * 2 ** (attempt - 1))
        return delay if delay <= self.longest_s else None


class Attempts:
    """The attempts of one call, which share one deadline."""

    def __init__(self, policy: RetryPolicy, timeout_s: float) -> None:
        self._policy = policy
        self._end_s = time.monotonic() + timeout_s
        self._made = 0

    def left_s(self) -> float:
        """Seconds until the deadline; never less than 0."""
        return max(0.0, self._end_s - time.monotonic())

    def delay_s(self, outcome: Outcome) -> float | None:
        """Count an attempt. Returns the wait before the next one; None if the outcome is final."""
        self._made += 1
        delay = self._policy.delay_s(self._made, outcome)
        return None if delay is None or delay >= self.left_s() else delay


def _may_pass(outcome: Outcome) -> bool:
    """Whether the same request may succeed later: turned away, or broken off without an answer of the bridge."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (429, 502, 503) or _is_of_a_proxy(outcome)
    return isinstance(outcome, (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError))


def _is_of_a_proxy(answer: httpx.Response) -> bool:
    """Whether a 500 comes from a proxy that has lost the bridge behind it: a bridge's own is JSON."""
    return answer.status_code == 500 and not answer.headers.get("content-type", "").startswith("application/json")


def _retry_after_s(outcome: Outcome) -> float:
    text = outcome.headers.get("retry-after", "") if isinstance(outcome, httpx.Response) else ""
    return float(text) if re.fullmatch(r"\d{1,9}", text) else 0.0
