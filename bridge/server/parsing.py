"""Request bodies: JSON, the bare image, or multipart; each becomes the same Job."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, QueryParams

from bridge.codec import decode_base64
from bridge.server.errors import BadRequest, InvalidValue, UnsupportedMedia
from bridge.server.replies import JSON
from bridge.server.schemas import ImageSource, MetricOptions, Options, check
from bridge.server.settings import BridgeSettings
from depth_anything_ros.io.image_header import ImageHeader
from depth_anything_ros.model.registry import dataset_spec
from depth_anything_ros.model.weights import UNTRAINED
from depth_anything_ros.settings import ModelSettings

MULTIPART_TYPE = "multipart/form-data"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
INTRINSICS = ("fx", "fy", "cx", "cy")
# A request has a dozen values. More would be built in memory one by one before they are refused.
MAX_JSON_VALUES = 10_000
MAX_PARTS = 32
MAX_FIELD_BYTES = 1024


@dataclass(frozen=True)
class Source:
    """A request as it arrived: the fields, and the image or where to fetch it. `typed`: numbers are numbers."""

    fields: dict[str, Any]
    typed: bool
    image: bytes | None = None
    image_url: str | None = None


@dataclass(frozen=True)
class Job:
    """A request that can be worked on: an image within the limits, a model, options in range."""

    image: bytes
    header: ImageHeader
    model: ModelSettings
    options: Options


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
    if media == MULTIPART_TYPE:
        fields, image = parse_multipart(content_type, body)
        return Source(_flat_fields(fields), False, image=image)
    known = ", ".join((JSON, *IMAGE_TYPES, MULTIPART_TYPE))
    raise UnsupportedMedia(f"Content-Type must be one of {known}", "Content-Type")


def choose_model(options: Options, settings: BridgeSettings) -> ModelSettings:
    """The model that a request asks for. Raises InvalidValue for metric depth from a relative one."""
    model = model_settings(settings, options.encoder, options.dataset, options.model_input_size)
    if isinstance(options, MetricOptions) and dataset_spec(model.dataset).kind == "relative":
        raise InvalidValue("dataset relative has no metres; use /rel_depth", "dataset")
    return model


def model_settings(
    settings: BridgeSettings, encoder: str | None = None, dataset: str | None = None, input_size: int | None = None
) -> ModelSettings:
    """Settings of a model that is asked for; what is None is the server's default.

    The device is left to the model cache, which spreads requests over those of its worker.
    """
    encoder, dataset = encoder or settings.default_encoder, dataset or settings.default_dataset
    is_default = (encoder, dataset) == (settings.default_encoder, settings.default_dataset)
    return ModelSettings(
        encoder=encoder,
        dataset=dataset,
        checkpoint=settings.checkpoint if is_default or settings.checkpoint == UNTRAINED else None,
        input_size=input_size or settings.default_input_size,
        precision=settings.precision,
        backend=settings.backend,
        compile=settings.compile,
        download=settings.download,
        accept_license=settings.accept_license,
    )


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


def parse_multipart(content_type: str, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Read a form: its text fields, and the file in its part `image`. Raises BadRequest."""
    fields: list[tuple[str, str]] = []
    images: list[bytes] = []

    def on_field(field: Any) -> None:
        if len(fields) == MAX_PARTS or len(field.value or b"") > MAX_FIELD_BYTES:
            raise FormParserError("too many parts, or too long")
        fields.append((field.field_name.decode(), (field.value or b"").decode()))

    def on_file(file: Any) -> None:
        if images or file.field_name != b"image":
            raise FormParserError("not one image")
        images.append(file.file_object.getbuffer().tobytes())

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    try:
        if not boundary:
            raise FormParserError("no boundary")
        headers: Any = {"Content-Type": content_type.encode("latin-1")}
        config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # never onto the disk
        parser = create_form_parser(headers, on_field, on_file, config=config)
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError):
        raise BadRequest("the form is malformed, or has too many parts or files") from None
    if not images:
        raise BadRequest("the form needs a file in its part image", "image")
    return fields, images[0]
