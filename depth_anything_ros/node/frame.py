"""One image on its way through the node, and the counts of what became of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from depth_anything_ros.runtime.stopwatch import Stopwatch

ImageMessage: TypeAlias = Any  # Image or CompressedImage; message classes carry no types


@dataclass
class FrameCounts:
    """What became of every image received: `received` is the sum of the others and of those in hand."""

    received: int = 0
    processed: int = 0  # published, unless the node was deactivated meanwhile
    dropped: int = 0  # gave way to a newer one before its turn, or the device was not to be tried
    ignored: int = 0  # nobody listened
    failed: int = 0  # unreadable, or inference failed


@dataclass
class Frame:
    """One image on its way through the node."""

    msg: ImageMessage
    received_s: float
    watch: Stopwatch = field(default_factory=Stopwatch)
    image: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) where the message says it."""
        return None if isinstance(self.msg, CompressedImage) else (self.msg.height, self.msg.width)
