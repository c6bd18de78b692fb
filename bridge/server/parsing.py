"""Request bodies by content type: JSON, the image itself, or a form; each becomes the same Source."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, QueryParams

from bridge.codec import decode_base64
from bridge.server.errors import BadRequest, UnsupportedMedia
from bridge.server.forms import parse_form
from bridge.server.media import FORM, IMAGE_TYPES, JSON
from bridge.server.options import check
from bridge.server.schemas import ImageSource

INTRINSICS = ("fx", "fy", "cx", "cy")
# A request has a dozen values. More would be built in memory one by one before they are refused.
MAX_JSON_VALUES = 10_000


@dataclass(frozen=True)
class Source:
    """A request as it arrived: the fields, and the image or where to fetch it. `typed`: numbers are numbers."""

    fields: dict[str, Any]
    typed: bool
    image: bytes | None = None
    image_url: str | None = None


def read_source(headers: Headers, query: QueryParams, body: bytes, max_json_depth: int) -> Source:
    """Take a request apart by its content type.

    Raises:
        UnsupportedMedia: another content type, or a compressed body.
        BadRequest, UndecodableData, InvalidValue: malformed, or not exactly one image.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("the body must not be compressed", "Content-Encoding")
    content_type = headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    if media == JSON:
        return _from_json(parse_json(body, max_json_depth))
    if media in IMAGE_TYPES:
        return Source(_flat_fields(query.multi_items()), False, image=body)
    if media == FORM:
        fields, image = parse_form(content_type, body)
        return Source(_flat_fields(fields), False, image=image)
    known = ", ".join((JSON, *IMAGE_TYPES, FORM))
    raise UnsupportedMedia(f"Content-Type must be one of {known}", "Content-Type")


def parse_json(body: bytes, max_depth: int) -> dict[str, Any]:
    """Parse a JSON object; no NaN, no name twice, no deeper than `max_depth`. Raises BadRequest."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise BadRequest("the JSON body holds too many values")
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON, or names a field twice") from None
    if not isinstance(value, dict):
        raise BadRequest("the JSON body must be an object")
    if _is_deeper(value, max_depth):
        raise BadRequest(f"the JSON body is nested deeper than {max_depth} levels")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _is_deeper(value: Any, max_depth: int) -> bool:
    level = [value]
    for _ in range(max_depth + 1):
        if not level:
            return False
        children = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for group in children for child in group if isinstance(child, (dict, list))]
    return True


def _from_json(fields: dict[str, Any]) -> Source:
    source = check(ImageSource, fields, strict=True)
    if (source.image is None) == (source.image_url is None):
        raise BadRequest("give either image or image_url", "image")
    image = None if source.image is None else decode_base64(source.image)
    return Source(fields, True, image, source.image_url)


def _flat_fields(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Fields of a query or form: the intrinsics stand among the others there."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if name in fields:
            raise BadRequest("a parameter is given twice")
        fields[name] = value
    fields["camera_intrinsics"] = {name: fields.pop(name) for name in INTRINSICS if name in fields}
    return fields
