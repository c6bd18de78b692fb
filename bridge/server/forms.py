"""Bodies of `multipart/form-data`: text fields and image files. What the fields mean: `parsing`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from bridge.server.errors import BadRequest
from bridge.server.names import shown

IMAGE_PART = "image"
IMAGE_URL_PART = "image_url"
MAX_PARTS = 32
MAX_FIELD_BYTES = 1024


@dataclass
class Form:
    """What a form holds: text fields and the files of its image parts, in their order."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)


def parse_form(content_type: str, body: bytes, max_images: int) -> Form:
    """Read a form. Image files stand in parts `image`; a single file is the image whatever its part is called.

    Empty files and fields are left out: browsers send them where nobody chose anything. A part `image` without a
    file name may hold the file's bytes, or base64 as in JSON.

    Raises:
        BadRequest: malformed, too many or too long parts, files in parts of several names.
    """
    texts: list[tuple[str, bytes]] = []
    files: list[tuple[str, bytes]] = []

    def on_field(part: Any) -> None:
        if len(texts) == MAX_PARTS:
            raise BadRequest(f"the form has more than {MAX_PARTS} fields")
        if part.value:
            texts.append((part.field_name.decode(), part.value))

    def on_file(part: Any) -> None:
        if part.size:
            if len(files) == max_images:
                raise BadRequest(f"the form has more than {max_images} files", IMAGE_PART)
            files.append((part.field_name.decode(), part.file_object.getbuffer().tobytes()))

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("the form is malformed: its Content-Type names no boundary", "Content-Type")
    try:
        headers: Any = {"Content-Type": content_type.encode("latin-1")}
        config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}  # never onto the disk
        parser = create_form_parser(headers, on_field, on_file, config=config)
        parser.write(body)
        parser.finalize()
        return _sort(texts, files)
    except (FormParserError, ValueError):
        raise BadRequest("the form is malformed: it cannot be taken apart into parts") from None


def _sort(texts: list[tuple[str, bytes]], files: list[tuple[str, bytes]]) -> Form:
    """Tell images from options. Raises BadRequest where that is not plain."""
    form = Form()
    for name in dict.fromkeys(name for name, _ in files):
        if name != IMAGE_PART and len(files) > 1:
            raise BadRequest(f"part {shown(name)} is a file too; put images into parts {IMAGE_PART}", shown(name))
    form.images = [data for _, data in files]
    for name, value in texts:
        if name == IMAGE_PART and not files and not _is_text(value):
            form.images.append(value)
        elif name not in (IMAGE_PART, IMAGE_URL_PART) and len(value) > MAX_FIELD_BYTES:
            raise BadRequest(f"the form's field {shown(name)} is longer than {MAX_FIELD_BYTES} bytes", shown(name))
        else:
            form.fields.append((name, value.decode()))
    return form


def _is_text(value: bytes) -> bool:
    return value.isascii() and b"\0" not in value
