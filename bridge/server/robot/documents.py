"""What the OpenAPI document says about the cameras' paths."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel

from bridge.server.media import JSON
from bridge.server.openapi import BINARY, error_responses, reference
from bridge.server.replies import EXPOSED_HEADERS
from bridge.server.robot.encodings import FORMATS
from bridge.server.robot.options import FrameOptions, MjpegOptions
from bridge.server.robot.streams import MJPEG

NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "pattern": r"^[\w.]{1,255}$"}}
TAG = {"name": "If-None-Match", "in": "header", "schema": {"type": "string", "pattern": r'^(W/)?"[0-9.]{1,30}"$'}}
SUMMARIES = {
    "depth": "The latest depth, in metres where kind is metric",
    "points": "The latest cloud, metres in the optical frame",
    "image": "The latest picture of the camera",
    "color": "The latest picture of the depth",
    "camera_info": "The CameraInfo that is true for the latest depth",
}


def of_list(*, shown: bool) -> dict[str, Any]:
    """Arguments of `add_api_route` for the list."""
    content = {JSON: {"schema": reference("CamerasReply")}}
    summary = "The robot's cameras, and how they are; subscribes to nothing"
    return _route(summary, content, [], shown=shown)


def of_frame(what: str, *, shown: bool) -> dict[str, Any]:
    """The same for one frame."""
    content = {media: ({"schema": {"type": "object"}} if media == JSON else BINARY) for media in FORMATS[what]}
    document = _route(SUMMARIES[what], content, [NAME, TAG, *_query(FrameOptions)], shown=shown)
    document["responses"][304] = {"description": "no other frame than the known one"}
    return document


def of_pictures(*, shown: bool) -> dict[str, Any]:
    """The same for a stream of pictures."""
    content = {MJPEG.partition(";")[0]: BINARY}
    return _route("JPEG pictures as they come", content, [NAME, *_query(MjpegOptions)], shown=shown)


def _route(summary: str, content: dict[str, Any], parameters: list[dict[str, Any]], *, shown: bool) -> dict[str, Any]:
    headers = {name: {"schema": {"type": "string"}} for name in EXPOSED_HEADERS}
    responses: dict[int | str, Any] = {200: {"description": "OK", "content": content, "headers": headers}}
    return {
        "summary": summary,
        "response_class": Response,
        "include_in_schema": shown,
        "responses": responses | error_responses(),
        "openapi_extra": {"parameters": parameters},
    }


def _query(options: type[BaseModel]) -> list[dict[str, Any]]:
    properties = options.model_json_schema()["properties"]
    plain = {name: schema.get("anyOf", [schema])[0] for name, schema in properties.items()}
    return [{"name": name, "in": "query", "schema": schema} for name, schema in plain.items()]
