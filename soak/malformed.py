"""Messages that are nearly right: a good one of any type, with some of its fields or bytes changed to odd values."""

from __future__ import annotations

import array
import copy
import random
from typing import Any

from rclpy.serialization import serialize_message

NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"))
TEXTS = ("", "a", "/", "rgb8", "mono16", "32FC1", "BGR8", "plumb_bob", "b\n\x1b[31m" * 50, "ä" * 3000)
BITS = {"uint8": 8, "octet": 8, "uint16": 16, "uint32": 32, "int8": -8, "int16": -16, "int32": -32}
MAX_CHANGES = 3
DAMAGED_SHARE = 0.1  # of the messages: bytes on the wire are changed, not fields


def malformed(good: Any, rng: random.Random) -> Any:
    """Return a message like a good one, but not quite; or one as bytes, with some of them changed."""
    if rng.random() < DAMAGED_SHARE:
        return damaged(serialize_message(good), rng)
    message = copy.deepcopy(good)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        _change_a_field(message, rng)
    return message


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return a serialised message that was cut off, or whose bytes were changed; its header of 4 bytes stays."""
    changed = bytearray(content)
    if rng.random() < 0.3:
        return bytes(changed[: rng.randrange(4, len(changed))])
    for _ in range(rng.randint(1, MAX_CHANGES)):
        changed[rng.randrange(4, min(len(changed), 400))] = rng.randrange(256)
    return bytes(changed)


def _change_a_field(message: Any, rng: random.Random) -> None:
    name, kind = rng.choice(list(message.get_fields_and_field_types().items()))
    value = getattr(message, name)
    if hasattr(value, "get_fields_and_field_types"):
        _change_a_field(value, rng)
    else:
        setattr(message, name, _odd(kind, value, rng))


def _odd(kind: str, value: Any, rng: random.Random) -> Any:
    """Return another value for a field of a type as messages name it, such as `double[9]` or `sequence<uint8>`."""
    if kind.startswith("sequence<"):
        return _odd_sequence(kind[len("sequence<") : -1], list(value), rng)
    if kind.endswith("]"):
        return [_odd(kind.partition("[")[0], item, rng) if rng.random() < 0.3 else item for item in value]
    if kind == "boolean":
        return not value
    if kind in ("float", "double"):
        return rng.choice(NUMBERS)
    if kind == "string":
        return rng.choice(TEXTS)
    return rng.choice(_integers(BITS[kind], value))


def _integers(bits: int, value: int) -> list[int]:
    low, high = (0, 2**bits - 1) if bits > 0 else (-(2 ** (-bits - 1)), 2 ** (-bits - 1) - 1)
    return [low, high, 1, *(near for near in (value - 1, value + 1, 2 * value) if low <= near <= high)]


def _odd_sequence(kind: str, items: list[Any], rng: random.Random) -> Any:
    """Return fewer, more or other items."""
    if kind == "uint8":
        extra = rng.choice((b"", b"\0", rng.randbytes(100)))
        return array.array("B", bytes(items[: rng.randint(0, len(items))]) + extra)
    kept = items[: rng.randint(0, len(items))]
    if items and hasattr(items[0], "get_fields_and_field_types"):
        odd = copy.deepcopy(rng.choice(items))
        _change_a_field(odd, rng)
        return [*kept, odd]
    return [*kept, *(_odd(kind, 0, rng) for _ in range(rng.randint(0, 5)))]
