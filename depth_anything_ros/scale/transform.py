"""The pose of a sensor, seen from the camera."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import SettingsError

Array = NDArray[np.float64]


class TransformMessage(Protocol):
    """The part of geometry_msgs/Transform that is read; tf2's TransformStamped holds one in `transform`."""

    translation: Any  # x, y, z
    rotation: Any  # x, y, z, w


@dataclass(frozen=True, eq=False)
class Transform:
    """`T_camera_sensor`: `p_camera = rotation p_sensor + translation`.

    Sensor frames follow REP 103 (x forward, y left, z up). The camera's frame is its *optical* frame (x right, y down,
    z along the axis). So even a sensor that looks the same way as the camera has a rotation.

    Attributes:
        rotation: float64 (3, 3). translation: float64 (3,), metres.
    """

    rotation: Array
    translation: Array

    @classmethod
    def from_xyz_rpy(cls, numbers: Sequence[float]) -> Transform:
        """Read `[x, y, z, roll, pitch, yaw]`: metres and radians, about the fixed axes x, then y, then z (REP 103).

        `[0, 0, 0, pi/2, -pi/2, 0]` is a sensor at the camera's place that looks the same way.

        Raises:
            SettingsError: not six finite numbers.
        """
        if len(numbers) != 6 or not all(math.isfinite(number) for number in numbers):
            raise SettingsError(
                f"extrinsics must be six finite numbers [x, y, z, roll, pitch, yaw], got {list(numbers)}"
            )
        (cr, cp, cy), (sr, sp, sy) = np.cos(numbers[3:]), np.sin(numbers[3:])
        about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        return cls(about_z @ about_y @ about_x, np.array(numbers[:3], np.float64))

    @classmethod
    def from_quaternion(cls, xyz: Sequence[float], xyzw: Sequence[float]) -> Transform:
        """Read a translation in metres and a quaternion, which need not have unit length.

        Raises:
            SettingsError: numbers that are not finite, or a quaternion of length zero.
        """
        length = math.hypot(*xyzw)
        if len(xyz) != 3 or len(xyzw) != 4 or not math.isfinite(sum(xyz) + length) or length < 1e-6:
            raise SettingsError(
                f"a transform must have three finite numbers and a quaternion of four, not all zero, "
                f"got {list(xyz)} and {list(xyzw)}"
            )
        x, y, z, w = (number / length for number in xyzw)
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return cls(np.array(rotation), np.array(xyz, np.float64))

    @classmethod
    def from_message(cls, msg: TransformMessage) -> Transform:
        """Read a geometry_msgs/Transform, such as tf2 gives for the camera's optical frame as target.

        Raises:
            SettingsError: as `from_quaternion`.
        """
        t, q = msg.translation, msg.rotation
        return cls.from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))

    def apply(self, points: NDArray[Any]) -> Array:
        """Return points (..., 3) of the sensor's frame in the camera's frame, in metres."""
        return np.asarray(points @ self.rotation.T + self.translation, np.float64)


SAME_FRAME = Transform(np.eye(3), np.zeros(3))
