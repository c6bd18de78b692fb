"""The camera of pictures that have no CameraInfo: given by the user, read from EXIF data, or assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.errors import SettingsError

ASSUMED_FOV_DEG = 60.0


@dataclass(frozen=True)
class GivenCamera:
    """What the user says about the camera.

    Attributes:
        fov_deg: field of view along a picture's longer side, for pictures of any size. Without it and `fx`, the focal
            length is that of the picture's EXIF data, or `ASSUMED_FOV_DEG` where there are none.
        fx, fy: focal lengths in pixels, in place of `fov_deg`; they hold for pictures of one size. Without `fy`
            it is the same as `fx`.
        cx, cy: principal point in pixels; None is the middle of the picture.

    Raises:
        SettingsError: an impossible number; `fy`, `cx` or `cy` without `fx`; both `fov_deg` and `fx`.
    """

    fov_deg: float | None = None
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None

    def __post_init__(self) -> None:
        if self.fov_deg is not None and self.fx is not None:
            raise SettingsError("fov and fx exclude each other: give one of them")
        if self.fov_deg is not None and not 0 < self.fov_deg < 180:
            raise SettingsError(f"the field of view must be between 0 and 180 degrees, got {self.fov_deg:g}")
        if self.fx is None and (self.fy, self.cx, self.cy) != (None, None, None):
            raise SettingsError("fy, cx and cy need fx")
        for name in ("fx", "fy"):
            focal_px = getattr(self, name)
            if focal_px is not None and not 0 < focal_px < math.inf:
                raise SettingsError(f"{name} must be a positive number of pixels, got {focal_px:g}")
        for name in ("cx", "cy"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise SettingsError(f"{name} must be a number of pixels, got {getattr(self, name)}")

    @property
    def tells_focal(self) -> bool:
        """Whether the focal length is given, for every picture."""
        return self.fov_deg is not None or self.fx is not None

    def describe(self) -> dict[str, float | None]:
        """Return what was given, for people and for comparing runs."""
        if self.fx is None:
            return {"fov_deg": self.fov_deg}
        return {"fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy}

    def of_picture(self, width: int, height: int, exif_focal_px: float | None = None) -> CameraModel:
        """Return the camera of a picture of this size in pixels, whose EXIF data tell this focal length."""
        fx = exif_focal_px if self.fx is None and self.fov_deg is None else self.fx
        if fx is None:
            return CameraModel.from_fov(self.fov_deg or ASSUMED_FOV_DEG, width, height)
        middle_x, middle_y = image_center(width, height)
        return CameraModel(
            fx=fx,
            fy=fx if self.fy is None else self.fy,
            cx=middle_x if self.cx is None else self.cx,
            cy=middle_y if self.cy is None else self.cy,
            width=width,
            height=height,
        )
