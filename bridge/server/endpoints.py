"""The paths as plain data: what can be asked for, with which options, in which formats, and what needs no key."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from pydantic import BaseModel

from bridge.server.media import CLOUD_FORMATS, DEPTH_FORMATS
from bridge.server.page import PAGE_PATHS
from bridge.server.schemas import (
    AliveReply,
    CloudOptions,
    DepthReply,
    HealthReply,
    MetricDepthRequest,
    MetricOptions,
    ModelsReply,
    Options,
    PointCloudReply,
    PointCloudRequest,
    ReadyReply,
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
VERSION_PREFIX = "/v1"
PREFIXES = ("", VERSION_PREFIX)  # every path of the API is served under both
# What can be asked about the server, and the shape of the answer; None is plain text.
PROBES: dict[str, type[BaseModel] | None] = {
    "/health": HealthReply,
    "/livez": AliveReply,
    "/readyz": ReadyReply,
    "/models": ModelsReply,
    "/metrics": None,
}
# The robot's cameras (`robot`): a ROS name's characters, and dots.
CAMERAS_PATH = "/cameras"
CAMERA_PATHS = re.compile(
    rf"(?:{VERSION_PREFIX})?{CAMERAS_PATH}/[\w.]{{1,255}}/"
    r"(?P<what>depth|points|image|color|camera_info|stream(?:\.mjpeg)?)",
    re.ASCII,
)
TICKET_PATHS = re.compile(rf"{CAMERAS_PATH}/[\w.]{{1,255}}/stream(?:\.mjpeg)?", re.ASCII)
DOCUMENT_PATHS = ("/docs", "/docs/oauth2-redirect", "/openapi.json")


def _prefixed(paths: Collection[str]) -> frozenset[str]:
    return frozenset(prefix + path for prefix in PREFIXES for path in paths)


# Paths that ask for depth, and have to be admitted.
WORK_PATHS = _prefixed([endpoint.path for endpoint in ENDPOINTS])
# Answered without a key, or by routes that ask for one themselves.
OPEN_PATHS = _prefixed(("/health", "/livez", "/session")) | frozenset(PAGE_PATHS)
ALL_PATHS = frozenset({*WORK_PATHS, *_prefixed((*PROBES, "/session", "/tickets", CAMERAS_PATH)), *DOCUMENT_PATHS, "/"})


def label_of(path: str) -> str:
    """A path as metrics name it: without the version's prefix and a camera's name; `other` for unknown ones."""
    if path in ALL_PATHS:
        return path.removeprefix(VERSION_PREFIX)
    found = CAMERA_PATHS.fullmatch(path)
    return f"{CAMERAS_PATH}/{{name}}/{found['what']}" if found else "other"
