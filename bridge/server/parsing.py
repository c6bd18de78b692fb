"""Request bodies by content type: JSON, the image itself, or a form; each becomes the same Sources.

A query holds the same fields as a body, so both are merged. What the fields may be: `options`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from starlette.datastructures import Headers, QueryParams

from bridge.codec import decode_base64
from bridge.server.errors import BadRequest, InvalidValue, UnsupportedMedia
from bridge.server.forms import parse_form
from bridge.server.media import FORM, IMAGE_TYPES, JSON, UNNAMED_TYPES
from bridge.server.names import shown
from bridge.server.options import check
from bridge.server.schemas import CameraIntrinsics, ImageSource
from depth_anything_ros.errors import quoted

INTRINSICS = tuple(CameraIntrinsics.model_fields)
# A request has a dozen values. More would be built in memory one by one before they are refused.
MAX_JSON_VALUES = 10_000
TRUTH_VALUES = {"true": True, "false": False}

Fields = dict[str, Any]


@dataclass(frozen=True)
class Body:
    """A request as it arrived.

    Attributes:
        parts: the fields of each of its images.
        is_list: whether it asks for several answers.
        shared: names of fields that were said once for all images.
    """

    parts: list[Fields]
    is_list: bool = False
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Source:
    """One image or where to fetch it, and the other fields; numbers are numbers."""

    fields: Fields
    image: bytes | None = None
    image_url: str | None = None


def read_body(headers: Headers, query: QueryParams, body: bytes, max_json_depth: int, max_images: int) -> Body:
    """Take a request apart by its content type.

    Raises:
        UnsupportedMedia: another content type, or a compressed body.
        BadRequest, InvalidValue: malformed, too many images, or the query contradicts the body.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("the body must not be compressed", "Content-Encoding")
    found = _by_content_type(headers.get("content-type", ""), body, max_json_depth, max_images)
    if not 1 <= len(found.parts) <= max_images:
        raise BadRequest(f"the body must ask for 1 to {max_images} images", "image")
    common = _flat_fields(query.multi_items())
    return Body([_merged(part, common) for part in found.parts], found.is_list, found.shared | common.keys())


def _by_content_type(content_type: str, body: bytes, max_json_depth: int, max_images: int) -> Body:
    media = content_type.partition(";")[0].strip().lower()
    if media == "" and body.lstrip()[:1] in (b"{", b"["):
        media = JSON
    if media == JSON:
        value = parse_json(body, max_json_depth)
        return Body(value, is_list=True) if isinstance(value, list) else Body([value])
    if media in IMAGE_TYPES or (media in UNNAMED_TYPES and body):
        return Body([{"image": body}])
    if media == FORM:
        form = parse_form(content_type, body, max_images)
        fields = _flat_fields(form.fields)
        if not form.images:
            return Body([fields])
        parts = [_with_image(fields, image) for image in form.images]
        return Body(parts, is_list=len(parts) > 1, shared=frozenset(fields))
    known = ", ".join((JSON, *IMAGE_TYPES, FORM))
    given = f", not {quoted(media)}" if media else ""
    raise UnsupportedMedia(f"Content-Type must be one of {known}{given}", "Content-Type")


def _with_image(fields: Fields, image: bytes) -> Fields:
    if "image" in fields:
        raise BadRequest("the image is given twice", "image")
    return {**fields, "image": image}


def read_source(fields: Fields) -> Source:
    """Take the image out of the fields.

    Raises:
        BadRequest, UndecodableData, InvalidValue: not exactly one image, or not base64.
    """
    fields = dict(fields)
    image = fields.pop("image", None)
    if isinstance(image, bytes):
        if fields.pop("image_url", None) is not None:
            raise BadRequest("give either image or image_url, not both", "image")
        return Source(fields, image)
    image_url = fields.pop("image_url", None)
    if image is None and isinstance(image_url, str) and image_url[:5].lower() == "data:":
        image, image_url = image_url, None  # it holds an image, so the limit of a URL's length is not for it
    source = check(ImageSource, {"image": image, "image_url": image_url})
    if source.image is None and source.image_url is None:
        raise BadRequest("the image is missing: give image or image_url", "image")
    if source.image is None:
        return Source(fields, None, source.image_url)
    if source.image_url is not None:
        raise BadRequest("give either image or image_url, not both", "image")
    return Source(fields, decode_base64(source.image))


def parse_json(body: bytes, max_depth: int) -> Fields | list[Fields]:
    """Parse a JSON object, or a list of them; no NaN, no name twice, no deeper than `max_depth`. Raises BadRequest."""
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise BadRequest("the JSON body holds too many values")
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not valid JSON, or names a field twice") from None
    is_list = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if not is_list and not isinstance(value, dict):
        raise BadRequest("the JSON body must be an object, or a list of objects for several images")
    if _is_deeper(value, max_depth):
        raise BadRequest(f"the JSON body is nested deeper than {max_depth} levels")
    return cast("Fields | list[Fields]", value)


def _unique(pairs: list[tuple[str, Any]]) -> Fields:
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


def _flat_fields(items: Iterable[tuple[str, str]]) -> Fields:
    """Fields of a query or form, numbers as numbers; there the intrinsics are separate fields."""
    fields: Fields = {}
    for name, text in items:
        if name in fields:
            raise BadRequest(f"{shown(name)} is given twice", shown(name))
        fields[name] = text if name.startswith("image") else _typed(text)
    if "d" in fields:
        fields["d"] = [_typed(number) for number in str(fields["d"]).split(",")]
    intrinsics = {name: fields.pop(name) for name in INTRINSICS if name in fields}
    return fields | ({"camera_intrinsics": intrinsics} if intrinsics else {})


def _typed(text: str) -> str | int | float | bool:
    """A number or a truth value where the text is one. NaN and infinity become numbers too, which no option takes."""
    if text in TRUTH_VALUES:
        return TRUTH_VALUES[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _merged(body: Mapping[str, Any], query: Mapping[str, Any]) -> Fields:
    """The fields of both; null says nothing. Raises InvalidValue where they say something different."""
    merged = {name: value for name, value in body.items() if value is not None}
    for name, value in query.items():
        given = merged.setdefault(name, value)
        if isinstance(given, dict) and isinstance(value, dict):
            merged[name] = _merged(given, value)
        elif given is not value and given != value:  # NaN, which is refused later, is not equal to itself
            raise InvalidValue(f"the body and the query say different things about {shown(name)}", shown(name))
    return merged
