"""Publish messages that are serialised already, with no copy between their memory and the middleware.

rclpy takes serialised messages, too, but first copies them into a C++ string, as it copies a message into one of C.
The function of rcl behind it takes them where they are. It is called by way of ctypes, with the GIL released.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation

from depth_anything_ros.messages.cdr import Bytes

RclPublish = Callable[[int, Any, None], int]


class SerializedMessage(ctypes.Structure):
    """rcl_serialized_message_t, which is rcutils_uint8_array_t; the allocator is not used for publishing."""

    _fields_ = (
        ("buffer", ctypes.c_void_p),
        ("buffer_length", ctypes.c_size_t),
        ("buffer_capacity", ctypes.c_size_t),
        ("allocator", ctypes.c_void_p * 5),
    )


def publish_serialized(publisher: Any, message: Bytes) -> None:
    """Publish a serialised message of a lifecycle publisher's type, unless it is not activated.

    Raises:
        RCLError: as rclpy's own `publish`.
    """
    if not publisher.is_activated:
        return
    publish = rcl_publish()
    with publisher.handle:  # not destroyed meanwhile
        pointer = getattr(publisher.handle, "pointer", None)
        if publish is not None and pointer is not None:
            given = SerializedMessage(message.ctypes.data, message.size, message.size)
            if publish(pointer, ctypes.byref(given), None) == 0:
                return
    publisher.publish(message.tobytes())  # two copies more; after a failure, it fails again and rclpy says why


@lru_cache(maxsize=1)
def rcl_publish() -> RclPublish | None:
    """Return `rcl_publish_serialized_message` of the rcl that rclpy has loaded; None where it cannot be found."""
    try:
        # A symbol is looked up in the libraries that this one depends on, too.
        function = ctypes.CDLL(rclpy_implementation.__file__).rcl_publish_serialized_message
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    function.restype = ctypes.c_int
    found: RclPublish = function
    return found
