"""The camera of pictures that have no CameraInfo: given, read from EXIF data, estimated by the model, or assumed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from depth_anything_ros.camera import CameraModel, image_center, read_lens
from depth_anything_ros.errors import CameraError, SettingsError

ASSUMED_FOV_DEG = 60.0
FocalSource = Literal["given", "exif", "estimate", "assumed"]


@dataclass(frozen=True)
class PictureCamera:
    """The camera of a picture, and where its focal length comes from."""

    model: CameraModel
    source: FocalSource

    @property
    def is_known(self) -> bool:
        """Whether the focal length is neither the depth model's estimate nor assumed."""
        return self.source in ("given", "exif")

    def remarks(self) -> Iterator[str]:
        """What has to be said of the focal length."""
        if self.source == "estimate":
            yield f"focal length {self.model.fx:.1f} px is the model's estimate"
        elif self.source == "assumed":
            yield f"focal length {self.model.fx:.1f} px is assumed: {ASSUMED_FOV_DEG:g} degrees along the longer side"

    def describe(self) -> dict[str, Any]:
        """Return it as JSON, K by rows."""
        model = self.model
        return {
            "width": model.width,
            "height": model.height,
            "K": [[model.fx, 0.0, model.cx], [0.0, model.fy, model.cy], [0.0, 0.0, 1.0]],
            "distortion_model": model.distortion_model,
            "D": list(model.distortion),
            "focal_source": self.source,
        }


@dataclass(frozen=True)
class GivenCamera:
    """What the user says about the camera.

    Attributes:
        fov_deg: field of view along a picture's longer side, for pictures of any size. Without it and `fx`, the focal
            length is that of the picture's EXIF data, else what the model estimates, else `ASSUMED_FOV_DEG`.
        fx, fy: focal lengths in pixels, in place of `fov_deg`; they hold for pictures of one size. Without `fy`
            it is the same as `fx`.
        cx, cy: principal point in pixels; None is the middle of the picture.
        distortion_model, distortion: the lens, by any name that `camera.read_lens` knows.

    Raises:
        SettingsError: an impossible number; `fy`, `cx` or `cy` without `fx`; both `fov_deg` and `fx`; another lens.
    """

    fov_deg: float | None = None
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()

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
        try:
            self._with_lens(CameraModel.from_fov(ASSUMED_FOV_DEG, 1, 1))
        except CameraError as error:
            raise SettingsError(f"distortion: {error}") from error

    @property
    def tells_focal(self) -> bool:
        """Whether the focal length is given, for every picture."""
        return self.fov_deg is not None or self.fx is not None

    @property
    def has_lens(self) -> bool:
        """Whether the lens distorts."""
        return bool(read_lens(self.distortion_model, self.distortion)[0])

    def describe(self) -> dict[str, Any]:
        """Return what was given, for people and for comparing runs."""
        lens = {"distortion_model": self.distortion_model, "distortion": list(self.distortion)} if self.has_lens else {}
        if self.fx is None:
            return {"fov_deg": self.fov_deg, **lens}
        return {"fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy, **lens}

    def of_picture(
        self, width: int, height: int, exif_focal_px: float | None = None, estimated_focal_px: float | None = None
    ) -> PictureCamera:
        """Return the camera of a picture of this size in pixels.

        Args:
            exif_focal_px: what the picture's EXIF data tell, in pixels.
            estimated_focal_px: what the depth model estimates.
        """
        if self.fx is not None:
            return PictureCamera(self._with_lens(self._with_focal(self.fx, width, height)), "given")
        if self.fov_deg is not None:
            return PictureCamera(self._with_lens(CameraModel.from_fov(self.fov_deg, width, height)), "given")
        if exif_focal_px is not None:
            return PictureCamera(self._with_lens(self._with_focal(exif_focal_px, width, height)), "exif")
        if estimated_focal_px is not None:
            return PictureCamera(self._with_lens(self._with_focal(estimated_focal_px, width, height)), "estimate")
        return PictureCamera(self._with_lens(CameraModel.from_fov(ASSUMED_FOV_DEG, width, height)), "assumed")

    def _with_lens(self, camera: CameraModel) -> CameraModel:
        """Raises CameraError for a lens that is not known."""
        lens, distortion = read_lens(self.distortion_model, self.distortion)
        return replace(camera, distortion_model=lens, distortion=distortion)

    def _with_focal(self, focal_px: float, width: int, height: int) -> CameraModel:
        middle_x, middle_y = image_center(width, height)
        return CameraModel(
            fx=focal_px,
            fy=focal_px if self.fy is None else self.fy,
            cx=middle_x if self.cx is None else self.cx,
            cy=middle_y if self.cy is None else self.cy,
            width=width,
            height=height,
        )
