"""The camera of an image: how a caller says it, how a request carries it, and the points of depth seen by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.errors import CameraError, SettingsError

Camera = CameraModel | Mapping[str, float]

INTRINSICS = ("fx", "fy", "cx", "cy")


@dataclass(frozen=True)
class Undistort:
    """The lens that the server takes out of an image before it estimates depth.

    Attributes:
        camera: of the image as it is sent, with its lens.
        focal_px: focal length of the rectified image in pixels; None is that of the largest view without holes.
    """

    camera: CameraModel
    focal_px: float | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What a request says of it."""
        return {
            "camera_intrinsics": intrinsics_of(self.camera),
            "undistort": True,
            **given(undistort_focal_px=self.focal_px),
        }


@dataclass(frozen=True)
class Said:
    """What a caller says of an image's camera: one of these, or nothing.

    Attributes:
        focal_px: focal length in pixels; the principal point is the middle of the image.
        fov_deg: field of view that the longer side of the image spans, in degrees.
        camera: with or without its lens.
        undistort: its lens is taken out.

    Raises:
        SettingsError: more than one of them.
        CameraError, KeyError: a camera that is none.
    """

    focal_px: float | None = None
    fov_deg: float | None = None
    camera: Camera | None = None
    undistort: Undistort | None = None

    def __post_init__(self) -> None:
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(names) > 1:
            raise SettingsError(f"the camera is given as {' and '.join(names)}: leave {names[0]} out")
        if self.camera is not None and not isinstance(self.camera, CameraModel):
            pinhole(self.camera)  # a bad one is refused before anything is sent

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is said."""
        return self == Said()

    @property
    def fields(self) -> dict[str, Any]:
        """What a request says of it; of a camera the focal lengths alone count for depth."""
        if self.undistort is not None:
            return self.undistort.fields
        if self.camera is not None:
            known = self.camera if isinstance(self.camera, CameraModel) else pinhole(self.camera)
            return {"focal_px": (known.fx + known.fy) / 2}
        return given(focal_px=self.focal_px, fov_deg=self.fov_deg)

    def check_size(self, shape: tuple[int, ...]) -> None:
        """Raise CameraError where the camera says which size its images (H, W) have, and these have another."""
        camera = self.camera if self.undistort is None else self.undistort.camera
        if isinstance(camera, CameraModel):
            camera.check_size(shape)

    def of(self, shape: tuple[int, ...]) -> CameraModel:
        """The camera of images of shape (H, W). Raises CameraError: nothing is said, or it comes with the answer."""
        height, width = shape
        if self.camera is not None:
            return self.camera if isinstance(self.camera, CameraModel) else pinhole(self.camera, shape)
        if self.fov_deg is not None:
            return CameraModel.from_fov(self.fov_deg, width, height)
        if self.focal_px is None:
            raise CameraError("nothing is said of the camera: give camera, fov_deg or focal_px")
        return CameraModel(self.focal_px, self.focal_px, *image_center(width, height), width, height)

    def of_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth (H, W) -> points (H, W, 3) in its unit, optical frame. Raises CameraError: it is of another size."""
        return self.of(depth.shape).back_project(depth)


def said_of(camera: Camera | Undistort | None, focal_px: float | None, fov_deg: float | None) -> Said:
    """What is said where one argument holds a camera, or one whose lens is taken out. Raises as `Said`."""
    if isinstance(camera, Undistort):
        return Said(focal_px, fov_deg, undistort=camera)
    return Said(focal_px, fov_deg, camera)


def given(**values: float | None) -> dict[str, float]:
    """The fields that have a value; the others are left to the server."""
    return {name: value for name, value in values.items() if value is not None}


def pinhole(intrinsics: Mapping[str, float], shape: tuple[int, ...] = (1, 1)) -> CameraModel:
    """Camera of images of shape (H, W) from fx, fy, cx, cy. Raises KeyError or CameraError."""
    fx, fy, cx, cy = (intrinsics[name] for name in INTRINSICS)
    return CameraModel(fx, fy, cx, cy, width=shape[1], height=shape[0])


def intrinsics_of(camera: CameraModel) -> dict[str, Any]:
    """A camera and its lens as requests have them."""
    pixels = {name: getattr(camera, name) for name in INTRINSICS}
    return pixels | {"distortion_model": camera.distortion_model, "d": list(camera.distortion)}
