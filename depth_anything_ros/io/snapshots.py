"""One frame as files: the picture, its depth, its cloud and its camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.io.formats import depth_to_uint16, encode_ply, encode_png
from depth_anything_ros.io.whole_files import write_file


class CameraInfo(Protocol):
    """The part of sensor_msgs/CameraInfo that is written."""

    width: int
    height: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    r: Sequence[float]
    p: Sequence[float]


@dataclass(frozen=True)
class Snapshot:
    """One frame and its results.

    Attributes:
        camera: the camera's name; empty if the node has one camera without a name.
        stamp_ns: the image's stamp.
        image_bgr: uint8 (H, W, 3).
        depth: float32 (H, W), metres.
        info, model: CameraInfo and camera model of the image; None if they are not known. A camera model without a
            CameraInfo has a focal length that the depth model estimated.
    """

    camera: str
    stamp_ns: int
    image_bgr: NDArray[np.uint8]
    depth: NDArray[np.float32]
    info: CameraInfo | None = None
    model: CameraModel | None = None

    @property
    def name(self) -> str:
        """Name of the snapshot's folder: camera and stamp, or the time now where the image has none (0)."""
        seconds, nanoseconds = divmod(self.stamp_ns or time.time_ns(), 10**9)
        return f"{self.camera or 'camera'}_{seconds}_{nanoseconds:09d}"


def write_snapshot(snapshot: Snapshot, folder: Path) -> Path:
    """Write image.png and depth.png (16 bits, millimetres); with a known camera also points.ply and camera.yaml.

    Returns:
        The new folder that holds the files.

    Raises:
        CannotWrite: the folder or a file in it cannot be written.
    """
    into = folder / snapshot.name
    for name, content in _files(snapshot).items():
        write_file(into / name, partial(Path.write_bytes, data=content))
    return into


def _files(snapshot: Snapshot) -> dict[str, bytes]:
    files = {"image.png": encode_png(snapshot.image_bgr), "depth.png": encode_png(depth_to_uint16(snapshot.depth))}
    if snapshot.model is not None:
        said = () if snapshot.info is not None else (f"the focal length, {snapshot.model.fx:.1f} px, is an estimate",)
        points = snapshot.model.back_project(snapshot.depth)
        files["points.ply"] = encode_ply(points, snapshot.image_bgr, comments=said)
    if snapshot.info is not None:
        files["camera.yaml"] = yaml.safe_dump(_calibration(snapshot.camera, snapshot.info), sort_keys=False).encode()
    return files


def _calibration(camera: str, info: CameraInfo) -> dict[str, Any]:
    """Return the layout of camera_calibration_parsers, which camera drivers read."""
    return {
        "image_width": int(info.width),
        "image_height": int(info.height),
        "camera_name": camera or "camera",
        "camera_matrix": _matrix(info.k, 3),
        "distortion_model": str(info.distortion_model),
        "distortion_coefficients": {"rows": 1, "cols": len(info.d), "data": [float(d) for d in info.d]},
        "rectification_matrix": _matrix(info.r, 3),
        "projection_matrix": _matrix(info.p, 3),
    }


def _matrix(values: Sequence[float], rows: int) -> dict[str, Any]:
    return {"rows": rows, "cols": len(values) // rows, "data": [float(value) for value in values]}
