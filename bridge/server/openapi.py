"""The OpenAPI document: bodies and answers that the routes read and write by themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.server.endpoints import ENDPOINTS, OPEN_PATHS, PROBES, Endpoint
from bridge.server.errors import ANSWERS
from bridge.server.media import FORM, IMAGE_TYPES, JSON
from bridge.server.models import known_encoders
from bridge.server.parsing import INTRINSICS
from bridge.server.schemas import ErrorReply
from bridge.server.settings import BridgeSettings
from depth_anything_ros.model.registry import DATASETS

REFERENCE = "#/components/schemas/"
BINARY = {"schema": {"type": "string", "format": "binary"}}


def describe(endpoint: Endpoint, settings: BridgeSettings) -> dict[str, Any]:
    """Arguments of `add_api_route` that say what an endpoint takes and gives."""
    answers: dict[str, Any] = dict.fromkeys(endpoint.formats, BINARY)
    fields = _fields(endpoint.request.__name__, settings)
    form = {"type": "object", "required": ["image"], "properties": {**fields, "image": BINARY["schema"]}}
    bodies: dict[str, Any] = dict.fromkeys(IMAGE_TYPES, BINARY)
    return {
        "summary": endpoint.summary,
        "response_class": Response,
        "responses": {200: {"content": answers | {JSON: _reference(endpoint.reply.__name__)}}} | _error_responses(),
        "openapi_extra": {
            "parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()],
            "requestBody": {
                "required": True,
                "content": {JSON: _reference(endpoint.request.__name__), **bodies, FORM: {"schema": form}},
            },
        },
    }


def describe_probe(path: str) -> dict[str, Any]:
    """Arguments of `add_api_route` that say what a probe gives."""
    schema = PROBES[path]
    content = {"text/plain": {"schema": {"type": "string"}}} if schema is None else {JSON: _reference(schema.__name__)}
    return {"response_class": Response, "responses": {200: {"content": content}} | _error_responses()}


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


def _reference(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"{REFERENCE}{name}"}}


def _error_responses() -> dict[int | str, dict[str, Any]]:
    content = {JSON: _reference(ErrorReply.__name__)}
    return {
        status: {"description": ", ".join(a.code for a in ANSWERS.values() if a.status == status), "content": content}
        for status in sorted({answer.status for answer in ANSWERS.values()})
    }


def _schemas(settings: BridgeSettings) -> dict[str, Any]:
    """JSON schemas of all bodies, with this server's limits in them."""
    requests = [endpoint.request for endpoint in ENDPOINTS]
    replies = {endpoint.reply for endpoint in ENDPOINTS} | {reply for reply in PROBES.values() if reply}
    models: list[type[BaseModel]] = [*requests, *sorted(replies, key=lambda reply: reply.__name__), ErrorReply]
    _, top = models_json_schema([(model, "validation") for model in models], ref_template=f"{REFERENCE}{{model}}")
    schemas: dict[str, Any] = top["$defs"]
    size = {"type": "integer", "minimum": settings.min_input_size, "maximum": settings.max_input_size}
    narrowed = {
        "encoder": {"enum": known_encoders(settings)},
        "dataset": {"enum": list(DATASETS)},
        "model_input_size": size,
    }
    for model in requests:
        properties = schemas[model.__name__]["properties"]
        for name, schema in narrowed.items():
            properties[name]["anyOf"] = [schema, {"type": "null"}]
        if "max_depth" in properties:
            properties["max_depth"]["maximum"] = settings.max_max_depth
    return schemas


def _fields(request: str, settings: BridgeSettings) -> dict[str, Any]:
    """Schemas of the options as they stand in a query or form: flat, and never null."""
    schemas = _schemas(settings)
    fields = {name: schema for name, schema in schemas[request]["properties"].items() if not name.startswith("image")}
    if fields.pop("camera_intrinsics", None):
        fields |= {name: schemas["CameraIntrinsics"]["properties"][name] for name in INTRINSICS}
    return {name: schema.get("anyOf", [schema])[0] for name, schema in fields.items()}
