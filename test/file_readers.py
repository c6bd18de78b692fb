"""Small readers of PNG, PLY and PCD, written from the formats' specifications: what our writers are held to."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_ply(content: bytes) -> NDArray[Any]:
    """Binary little-endian PLY with one element -> structured array."""
    header, _, body = content.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    words = [line.split() for line in lines[2:]]
    [count] = [int(rest[2]) for rest in words if rest[:2] == ["element", "vertex"]]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [(rest[2], types[rest[1]]) for rest in words if rest[0] == "property"]
    vertices = np.frombuffer(body, np.dtype(fields))
    assert len(vertices) == count
    return vertices


def read_pcd(content: bytes) -> tuple[dict[str, str], NDArray[np.float32]]:
    """Binary PCD 0.7 of 4-byte floats -> header, (N, fields)."""
    header, _, body = content.partition(b"DATA binary\n")
    lines = [line for line in header.decode("ascii").splitlines() if not line.startswith("#")]
    entries = dict(line.split(" ", 1) for line in lines)
    names = entries["FIELDS"].split()
    assert entries["VERSION"] == "0.7"
    assert entries["SIZE"].split() == ["4"] * len(names)
    assert entries["TYPE"].split() == ["F"] * len(names)
    assert entries["COUNT"].split() == ["1"] * len(names)
    table = np.frombuffer(body, "<f4").reshape(-1, len(names))
    assert int(entries["POINTS"]) == int(entries["WIDTH"]) * int(entries["HEIGHT"]) == len(table)
    return entries, table


def read_png(content: bytes) -> NDArray[Any]:
    """PNG of grey or RGB samples, 8 or 16 bits, without interlacing -> (H, W) or (H, W, 3)."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(content):
        length, name = struct.unpack(">I4s", content[at : at + 8])
        data = content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + data)
        chunks[name] = chunks.get(name, b"") + data
        at += 12 + length
    width, height, bits, color_type, *_, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert not interlaced
    channels = {0: 1, 2: 3}[color_type]
    rows = _unfilter(zlib.decompress(chunks[b"IDAT"]), height, width * channels * bits // 8, channels * bits // 8)
    samples = np.frombuffer(rows, ">u2" if bits == 16 else "u1").reshape(height, width, channels)
    return samples[..., 0] if channels == 1 else samples


def _unfilter(data: bytes, height: int, row_bytes: int, pixel_bytes: int) -> bytes:
    """Undo the prediction that each row of a PNG starts by naming."""
    out = [bytes(row_bytes)]
    for number in range(height):
        start = number * (row_bytes + 1)
        method, row, above = data[start], bytearray(data[start + 1 : start + 1 + row_bytes]), out[-1]
        for i in range(row_bytes):
            left = row[i - pixel_bytes] if i >= pixel_bytes else 0
            up_left = above[i - pixel_bytes] if i >= pixel_bytes else 0
            row[i] = (row[i] + _prediction(method, left, above[i], up_left)) & 255
        out.append(bytes(row))
    return b"".join(out[1:])


def _prediction(method: int, left: int, up: int, up_left: int) -> int:
    if method < 4:
        return (0, left, up, (left + up) // 2)[method]
    estimate = left + up - up_left
    return min((left, up, up_left), key=lambda value: abs(estimate - value))
