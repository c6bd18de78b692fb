"""Depth or a cloud and the CameraInfo of the same stamp, which the node publishes between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from depth_anything_ros.messages.stamps import stamp_ns

WAIT_S = 0.02  # for the CameraInfo of an image


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Pairing:
    """Passes each depth image or cloud on with its CameraInfo.

    It waits for one only while they come: a camera that is not calibrated loses no time. A CameraInfo serves one image,
    so where a driver leaves all stamps at 0 the next one is waited for.

    Args:
        release: gets each image, and its CameraInfo or None.
        call_later: as the event loop has it.
    """

    def __init__(
        self, release: Callable[[Any, Any], None], call_later: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._release = release
        self._call_later = call_later
        self._info: Any = None
        self._image: Any = None
        self._timer: Timer | None = None
        self._is_expected = True

    def image(self, message: Any) -> None:
        """Take an image; one that still waits goes first."""
        self._go_on()
        if self._info is not None and stamp_ns(self._info.header) == stamp_ns(message.header):
            info, self._info = self._info, None
            self._release(message, info)
        elif self._is_expected:
            self._image, self._timer = message, self._call_later(WAIT_S, self._give_up)
        else:
            self._release(message, None)

    def info(self, message: Any) -> None:
        """Take a CameraInfo."""
        self._is_expected = True
        if self._image is not None and stamp_ns(message.header) == stamp_ns(self._image.header):
            self._info = None
            self._go_on(message)
        else:
            self._info = message

    def close(self) -> None:
        """Forget what waits."""
        self._image = None
        self._go_on()

    def _give_up(self) -> None:
        self._is_expected = False
        self._go_on()

    def _go_on(self, info: Any = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        image, self._image = self._image, None
        if image is not None:
            self._release(image, info)
