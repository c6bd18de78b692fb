"""When requests arrive, in seconds, ascending: by chance at a rate, as a day goes, in bursts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

DAY_S = 86400.0


def poisson(rate_hz: float, span_s: float, random: Random) -> Iterator[float]:
    """Independent requests at a rate."""
    return varying(lambda _: rate_hz, rate_hz, span_s, random)


def daily(mean_hz: float, peak: float, span_s: float, random: Random, day_s: float = DAY_S) -> Iterator[float]:
    """Independent requests whose rate swings with the day, at most `peak` times its mean (1 to 2), first at noon."""
    swing = peak - 1

    def rate_hz(time_s: float) -> float:
        return mean_hz * (1 - swing * math.cos(2 * math.pi * time_s / day_s))

    return varying(rate_hz, mean_hz * (1 + swing), span_s, random)


def bursts(
    rate_hz: float, burst_hz: float, every_s: float, lasting_s: float, span_s: float, random: Random
) -> Iterator[float]:
    """Independent requests at a rate, and at a higher one for a while at the end of every period."""

    def rate(time_s: float) -> float:
        return burst_hz if time_s % every_s >= every_s - lasting_s else rate_hz

    return varying(rate, max(rate_hz, burst_hz), span_s, random)


def varying(rate_hz: Callable[[float], float], highest_hz: float, span_s: float, random: Random) -> Iterator[float]:
    """Independent requests whose rate changes; thinned from the highest (Lewis and Shedler, 1979)."""
    time_s = random.expovariate(highest_hz)
    while time_s < span_s:
        if random.random() * highest_hz < rate_hz(time_s):
            yield time_s
        time_s += random.expovariate(highest_hz)
