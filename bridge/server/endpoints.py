"""The endpoints as plain data: paths, options, formats, and which of them need no key."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.server.replies import CLOUD_FORMATS, DEPTH_FORMATS
from bridge.server.schemas import CloudOptions, MetricOptions, Options


@dataclass(frozen=True)
class Endpoint:
    """One of the three things to ask for."""

    path: str
    options: type[Options]
    formats: tuple[str, ...]


POINT_CLOUD = Endpoint("/pc", CloudOptions, CLOUD_FORMATS)
METRIC_DEPTH = Endpoint("/metric_depth", MetricOptions, DEPTH_FORMATS)
RELATIVE_DEPTH = Endpoint("/rel_depth", Options, DEPTH_FORMATS)

ENDPOINTS = (POINT_CLOUD, METRIC_DEPTH, RELATIVE_DEPTH)
# Answered without a key.
OPEN_PATHS = ("/health", "/livez")
