"""The OpenAPI document: bodies and answers that the routes read and write by themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.server.cameras import WAYS
from bridge.server.endpoints import ENDPOINTS, OPEN_PATHS, PROBES, Endpoint
from bridge.server.errors import ANSWERS
from bridge.server.exchange import DEADLINE_HEADER
from bridge.server.media import FORM, IMAGE_TYPES, JSON, RAW
from bridge.server.models import known_encoders
from bridge.server.replies import EXPOSED_HEADERS
from bridge.server.schemas import (
    CameraIntrinsics,
    CamerasReply,
    CloudOptions,
    ErrorReply,
    ImageSource,
    SessionReply,
    TicketReply,
    TicketRequest,
)
from bridge.server.settings import BridgeSettings
from depth_anything_ros.model.registry import DATASETS

REFERENCE = "#/components/schemas/"
BINARY = {"schema": {"type": "string", "format": "binary"}}
OTHERS = (CamerasReply, SessionReply, TicketRequest, TicketReply, ErrorReply)
PINHOLE = ("fx", "fy", "cx", "cy")


def describe(endpoint: Endpoint, settings: BridgeSettings) -> dict[str, Any]:
    """Arguments of `add_api_route` that say what an endpoint takes and gives."""
    fields = _fields(endpoint, settings)
    request, reply = reference(endpoint.request.__name__), reference(endpoint.reply.__name__)
    several = {"type": "array", "items": request, "minItems": 1, "maxItems": settings.max_images}
    results = {"type": "object", "required": ["results"], "properties": {"results": {"type": "array"}}}
    answers: dict[str, Any] = dict.fromkeys(endpoint.formats, BINARY) | {JSON: {"schema": {"anyOf": [reply, results]}}}
    bodies: dict[str, Any] = dict.fromkeys((*IMAGE_TYPES, RAW), BINARY)
    bodies |= {JSON: {"schema": {"anyOf": [request, several]}}, FORM: {"schema": _form(endpoint, fields)}}
    headers = {name: {"schema": {"type": "string"}} for name in EXPOSED_HEADERS}
    return {
        "summary": endpoint.summary,
        "response_class": Response,
        "responses": {200: {"content": answers, "headers": headers}} | error_responses(),
        "openapi_extra": {
            "parameters": [
                *({"name": name, "in": "query", "schema": schema} for name, schema in fields.items()),
                {"name": DEADLINE_HEADER, "in": "header", "schema": {"type": "integer", "minimum": 1}},
            ],
            "requestBody": {"required": True, "content": bodies},
        },
    }


def _form(endpoint: Endpoint, fields: dict[str, Any]) -> dict[str, Any]:
    image = {"anyOf": [BINARY["schema"], {"type": "array", "items": BINARY["schema"], "minItems": 1}]}
    cameras = [{"required": names} for names in (list(PINHOLE), ["fov_deg"], ["focal_px"])]
    schema = {"type": "object", "required": ["image"], "properties": {**fields, "image": image}}
    return schema | ({"oneOf": cameras} if endpoint.options is CloudOptions else {})


def describe_probe(path: str) -> dict[str, Any]:
    """Arguments of `add_api_route` that say what a probe gives."""
    schema = PROBES[path]
    content = (
        {"text/plain": {"schema": {"type": "string"}}}
        if schema is None
        else {JSON: {"schema": reference(schema.__name__)}}
    )
    return {"response_class": Response, "responses": {200: {"content": content}} | error_responses()}


def describe_session(method: str, path: str) -> dict[str, Any]:
    """Arguments of `add_api_route` for what `session_routes` answers."""
    status = {("GET", "/session"): 200, ("POST", "/tickets"): 201}.get((method, path), 204)
    shapes = {"/session": SessionReply, "/tickets": TicketReply}
    content = {} if status == 204 else {"content": {JSON: {"schema": reference(shapes[path].__name__)}}}
    body = {JSON: {"schema": reference(TicketRequest.__name__)}}
    asks = {"openapi_extra": {"requestBody": {"required": True, "content": body}}} if path == "/tickets" else {}
    responses = {status: {"description": "OK", **content}} | error_responses()
    return {"response_class": Response, "status_code": status, "responses": responses, **asks}


def document(app: FastAPI, settings: BridgeSettings) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = made.setdefault("components", {})
        components.setdefault("schemas", {}).update(_schemas(settings))
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in made["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN_PATHS else [{"key": []}, {}]
        app.openapi_schema = made
    return app.openapi_schema


def reference(name: str) -> dict[str, Any]:
    """A reference to one of the document's schemas."""
    return {"$ref": f"{REFERENCE}{name}"}


def error_responses() -> dict[int | str, dict[str, Any]]:
    """What every path may answer instead of a success."""
    content = {JSON: {"schema": reference(ErrorReply.__name__)}}
    return {
        status: {"description": ", ".join(a.code for a in ANSWERS.values() if a.status == status), "content": content}
        for status in sorted({answer.status for answer in ANSWERS.values()})
    }


def _schemas(settings: BridgeSettings) -> dict[str, Any]:
    """JSON schemas of all bodies, with this server's limits in them."""
    requests = [endpoint.request for endpoint in ENDPOINTS]
    replies = {endpoint.reply for endpoint in ENDPOINTS} | {reply for reply in PROBES.values() if reply}
    models: list[type[BaseModel]] = [*requests, *sorted(replies, key=lambda reply: reply.__name__), *OTHERS]
    _, top = models_json_schema([(model, "validation") for model in models], ref_template=f"{REFERENCE}{{model}}")
    schemas: dict[str, Any] = top["$defs"]
    size = {"type": "integer", "minimum": settings.min_input_size, "maximum": settings.max_input_size}
    narrowed = {
        "encoder": {"enum": known_encoders(settings)},
        "dataset": {"enum": list(DATASETS)},
        "model_input_size": size,
        "max_depth": {"type": "number", "exclusiveMinimum": 0, "maximum": settings.max_max_depth},
    }
    for endpoint in ENDPOINTS:
        schema = schemas[endpoint.request.__name__]
        for name in narrowed.keys() & schema["properties"].keys():
            schema["properties"][name]["anyOf"] = [narrowed[name], {"type": "null"}]
        schema["oneOf"] = [{"required": [name]} for name in ImageSource.model_fields]
        if endpoint.options is CloudOptions:
            schema["allOf"] = [{"oneOf": [{"required": [name]} for name in WAYS]}]
    return schemas


def _fields(endpoint: Endpoint, settings: BridgeSettings) -> dict[str, Any]:
    """Schemas of the options as they stand in a query or form: flat, and never null."""
    schemas = _schemas(settings)
    properties = schemas[endpoint.request.__name__]["properties"]
    fields = {name: schema for name, schema in properties.items() if name not in ImageSource.model_fields}
    if fields.pop("camera_intrinsics", None):
        fields |= {name: schemas[CameraIntrinsics.__name__]["properties"][name] for name in PINHOLE}
        fields |= {"distortion_model": {"type": "string"}, "d": {"type": "string", "description": "numbers, commas"}}
    return {name: schema.get("anyOf", [schema])[0] for name, schema in fields.items()}
