"""Bodies of `multipart/form-data`: text fields, and the image as a file. What the fields mean: `parsing`."""

from __future__ import annotations

from typing import Any

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from bridge.server.errors import BadRequest

MAX_PARTS = 32
MAX_FIELD_BYTES = 1024


def parse_form(content_type: str, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
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
