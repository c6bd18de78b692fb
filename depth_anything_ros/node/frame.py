"""A camera's frame at three stages: waiting, decoded, and ready to be published."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header
from torch import Tensor

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.runtime.stopwatch import Stopwatch

ImageMessage: TypeAlias = Any  # Image or CompressedImage; message classes carry no types


@dataclass(frozen=True)
class CameraOfImage:
    """The camera of an image.

    Attributes:
        info: the CameraInfo that says so; None where the focal length is the model's estimate.
        raw: of an image that was rectified here, the camera of what came, with its lens; else None.
    """

    model: CameraModel
    info: CameraInfo | None = None
    raw: CameraModel | None = None

    @property
    def is_estimated(self) -> bool:
        """Whether no CameraInfo says so."""
        return self.info is None


@dataclass(frozen=True)
class WaitingFrame:
    """An image message that waits for its turn.

    Attributes:
        received_s: when it came, by `time.perf_counter`.
        watch: how long each stage took so far.
    """

    msg: ImageMessage
    received_s: float
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) where the message states it; a compressed one does not."""
        return None if isinstance(self.msg, CompressedImage) else (self.msg.height, self.msg.width)


@dataclass(frozen=True)
class Frame:
    """A decoded image.

    Attributes:
        header: the message's own, reused for everything that is published.
        image_bgr: uint8 (H, W, 3).
        watch: how long each stage took so far.
        camera: of an image that was rectified here, its pinhole camera; None leaves it to the CameraInfo.
    """

    header: Header
    image_bgr: NDArray[np.uint8]
    watch: Stopwatch
    camera: CameraOfImage | None = None


@dataclass(frozen=True)
class FrameDepth:
    """The depth of one frame, ready to be published.

    Attributes:
        relative: inverse depth without a unit, float32 (H, W) on any device; None from other models.
        scale_invariant: depth up to a factor, float32 (H, W) on any device, +Inf in the sky; from a model that needs a
            focal length where there is none, too.
        sky: bool (H, W) on any device, None from models that do not tell.
        confidence: float32 (H, W) on any device, 1 or more; None from models that do not tell.
        metres: float32 (H, W) on any device: scaled, filtered, clipped; sky is +Inf; None where depth has no scale.
        camera: that of the metres, or of an image that was rectified here; None where it is not known.
        full_scale_m: depth at the network's full output, in metres.
        residual_m: how far the alignment's readings are off; NaN before the first fit, None without alignment.
    """

    relative: Tensor | None = None
    scale_invariant: Tensor | None = None
    sky: Tensor | None = None
    confidence: Tensor | None = None
    metres: Tensor | None = None
    camera: CameraOfImage | None = None
    full_scale_m: float = 1.0
    residual_m: float | None = None

    @property
    def kind(self) -> Kind:
        """What it is published as; where there are metres, they are the depth."""
        if self.metres is not None:
            return "metric"
        return "scale_invariant" if self.relative is None else "relative"
