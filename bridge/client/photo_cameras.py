"""The cameras of the photographs that `depth_anything_client` sends, as its command line describes them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.client.cameras import Said, Undistort
from depth_anything_ros.camera import CameraModel, image_center, read_lens
from depth_anything_ros.errors import CameraError, SettingsError

ASSUMED_FOV_DEG = 60.0
CAMERA_OPTIONS = (
    "intrinsics",
    "focal",
    "fov",
    "distortion",
    "distortion_model",
    "undistort",
    "undistort_focal",
)


def add_camera_arguments(cli: argparse.ArgumentParser) -> None:
    """Declare what `Cameras` is made of."""
    camera = cli.add_mutually_exclusive_group()
    camera.add_argument(
        "--intrinsics",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="pixels, for photographs of the first one's size; they are scaled where a size differs by one factor",
    )
    camera.add_argument(
        "--focal", type=float, metavar="PIXELS", help="in place of --intrinsics: the middle is (cx, cy)"
    )
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEGREES",
        help=f"field of view along the longer side; {ASSUMED_FOV_DEG:g} is assumed where nothing is known",
    )
    cli.add_argument(
        "--distortion", nargs="+", type=float, metavar="D", help="coefficients of the lens, in OpenCV's order"
    )
    cli.add_argument(
        "--distortion-model", metavar="NAME", help="plumb_bob (the default), rational_polynomial or equidistant"
    )
    cli.add_argument(
        "--undistort",
        action="store_true",
        default=None,
        help="have the server rectify each photograph by its lens: all that is written is of the rectified one",
    )
    cli.add_argument(
        "--undistort-focal",
        type=float,
        metavar="PIXELS",
        help="focal length of the rectified photograph; default: that of the largest view",
    )


@dataclass
class Cameras:
    """The camera of each photograph: intrinsics of the first one's size, or a field of view; and the lens.

    Raises:
        CameraError: the numbers describe no camera.
        SettingsError: options that do not go together.
    """

    intrinsics: Sequence[float] | None = None
    fov_deg: float | None = None
    focal_px: float | None = None
    distortion_model: str | None = None
    distortion: Sequence[float] | None = None
    undistort: bool | None = None
    undistort_focal_px: float | None = None
    first: CameraModel | None = None

    @classmethod
    def from_arguments(cls, given: argparse.Namespace) -> Cameras:
        """What the command line says. Raises as the class."""
        return cls(
            intrinsics=given.intrinsics,
            fov_deg=given.fov,
            focal_px=given.focal,
            distortion_model=given.distortion_model,
            distortion=given.distortion,
            undistort=given.undistort,
            undistort_focal_px=given.undistort_focal,
        )

    def __post_init__(self) -> None:
        if self.distortion_model is not None and self.distortion is None:
            raise SettingsError("--distortion-model needs --distortion")
        if self.distortion is not None and not self.is_known:
            raise SettingsError("--distortion needs --intrinsics, --focal or --fov")
        if self.undistort and self.distortion is None:
            raise SettingsError("--undistort needs the lens: give --distortion")
        if self.undistort_focal_px is not None and not self.undistort:
            raise SettingsError("--undistort-focal needs --undistort")
        self._of_size(1, 1)

    @property
    def is_known(self) -> bool:
        """Whether the user said something about the camera."""
        return any(given is not None for given in (self.intrinsics, self.fov_deg, self.focal_px))

    def of(self, width: int, height: int) -> CameraModel:
        """Return the camera of a photograph. Raises CameraError where pixels cannot be scaled to its size."""
        if self.intrinsics is None and self.focal_px is None:
            return self._of_size(width, height)
        self.first = self.first or self._of_size(width, height)
        try:
            return self.first.scaled_to(width, height)
        except CameraError:
            name = "--focal holds" if self.intrinsics is None else "--intrinsics hold"
            raise CameraError(
                f"it is {width}x{height}, and {name} for {self.first.width}x{self.first.height}, the first "
                "photograph's size, which is not the same at another scale: process it in a run of its own"
            ) from None

    def said(self, camera: CameraModel) -> Said:
        """What the server is told of a photograph's camera: no guess."""
        if self.undistort:
            return Said(undistort=Undistort(camera, self.undistort_focal_px))
        return Said(camera=camera) if self.is_known else Said()

    def _of_size(self, width: int, height: int) -> CameraModel:
        lens, distortion = read_lens(self.distortion_model or "plumb_bob", self.distortion or ())
        return replace(self._pinhole(width, height), distortion_model=lens, distortion=distortion)

    def _pinhole(self, width: int, height: int) -> CameraModel:
        if self.intrinsics is not None:
            fx, fy, cx, cy = self.intrinsics
            return CameraModel(fx, fy, cx, cy, width, height)
        if self.focal_px is not None:
            return CameraModel(self.focal_px, self.focal_px, *image_center(width, height), width, height)
        return CameraModel.from_fov(ASSUMED_FOV_DEG if self.fov_deg is None else self.fov_deg, width, height)
