"""Media types of bodies, and JSON."""

from __future__ import annotations

from typing import Any

import orjson

JSON = "application/json"
RAW = "application/octet-stream"
NPY = "application/x-npy"
PNG = "image/png"
JPEG = "image/jpeg"
PLY = "application/x-ply"
PCD = "application/x-pcd"
FORM = "multipart/form-data"
DEPTH_FORMATS = (JSON, RAW, NPY, PNG)
CLOUD_FORMATS = (JSON, RAW, NPY, PLY, PCD)
IMAGE_TYPES = (JPEG, PNG, "image/webp")
# What clients send who do not know, or misspell, the type of their image.
UNNAMED_TYPES = ("", RAW, "binary/octet-stream", "image/jpg", "image/pjpeg", "image/x-png")


def dump_json(value: Any) -> bytes:
    """Serialise; NaN and infinity become null."""
    return orjson.dumps(value)
