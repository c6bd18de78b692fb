"""The paths as plain data: what can be asked for, with which options, in which formats, and what needs no key."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from bridge.server.media import CLOUD_FORMATS, DEPTH_FORMATS
from bridge.server.schemas import (
    CloudOptions,
    DepthReply,
    MetricDepthRequest,
    MetricOptions,
    Options,
    PointCloudReply,
    PointCloudRequest,
    RelativeDepthRequest,
)


@dataclass(frozen=True)
class Endpoint:
    """One of the things to ask for.

    Attributes:
        options: what its requests may say beside the image.
        formats: media types of its answers, the default first.
        request, reply: JSON bodies, for the OpenAPI document.
        summary: one line for the OpenAPI document.
    """

    path: str
    options: type[Options]
    formats: tuple[str, ...]
    request: type[BaseModel]
    reply: type[BaseModel]
    summary: str


ENDPOINTS = (
    Endpoint(
        "/pc",
        CloudOptions,
        CLOUD_FORMATS,
        PointCloudRequest,
        PointCloudReply,
        "Image and intrinsics to a point cloud in metres",
    ),
    Endpoint(
        "/metric_depth",
        MetricOptions,
        DEPTH_FORMATS,
        MetricDepthRequest,
        DepthReply,
        "Image to depth in metres",
    ),
    Endpoint(
        "/rel_depth",
        Options,
        DEPTH_FORMATS,
        RelativeDepthRequest,
        DepthReply,
        "Image to depth without a unit: near is small, with dataset relative near is large",
    ),
)
WORK_PATHS = frozenset(endpoint.path for endpoint in ENDPOINTS)
PROBE_PATHS = ("/health", "/livez", "/readyz", "/metrics")
# Answered without a key.
OPEN_PATHS = ("/health", "/livez")
# Labels of metrics: whatever else is asked for counts as "other".
ALL_PATHS = frozenset({*WORK_PATHS, *PROBE_PATHS, "/docs", "/docs/oauth2-redirect", "/openapi.json"})
