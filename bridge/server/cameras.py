"""The camera that a request describes: intrinsics, a field of view, or a focal length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.server.errors import BadRequest, InvalidValue
from bridge.server.schemas import CameraIntrinsics, Options
from depth_anything_ros.camera import CameraModel, image_center, read_lens
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.rectification import pinhole_of

WAYS = ("camera_intrinsics", "fov_deg", "focal_px")  # and `MAKERS` makes a camera of each


def check_one_camera(options: Options, *, is_required: bool) -> None:
    """Refuse a request that describes its camera in several ways, or not at all where it has to.

    Raises:
        BadRequest: no camera. InvalidValue: several, or none that could be rectified.
    """
    given = [name for name in WAYS if getattr(options, name) is not None]
    if len(given) > 1:
        raise InvalidValue(f"give one of {', '.join(WAYS)}, not {' and '.join(given)}", given[1])
    if options.undistort and given != ["camera_intrinsics"]:
        raise InvalidValue("undistort needs the lens: give camera_intrinsics with distortion_model and d", "undistort")
    if options.undistort_focal_px is not None and not options.undistort:
        raise InvalidValue("undistort_focal_px needs undistort", "undistort_focal_px")
    if is_required and not given:
        raise BadRequest("camera_intrinsics is required, or else fov_deg or focal_px", "camera_intrinsics")


def camera_of(options: Options, width: int, height: int) -> CameraModel | None:
    """The camera of an image of this size, or None where the request describes none.

    Raises:
        InvalidValue: a lens that is not known, or numbers that make no camera.
    """
    given = next((name for name in WAYS if getattr(options, name) is not None), None)
    if given is None:
        return None
    try:
        return MAKERS[given](getattr(options, given), width, height)
    except CameraError as error:
        raise InvalidValue(f"{given}: {error}", given) from None


def seen_camera(options: Options, width: int, height: int) -> CameraModel | None:
    """The camera of what the network is given: `camera_of`, or the pinhole camera of the image that is rectified.

    Raises:
        InvalidValue: as `camera_of`; no lens to rectify, or one that cannot be rectified.
    """
    camera = camera_of(options, width, height)
    if not options.undistort:
        return camera
    assert camera is not None
    try:
        return pinhole_of(camera, options.undistort_focal_px)
    except CameraError as error:
        raise InvalidValue(f"undistort: {error}", "undistort") from None


def _with_intrinsics(given: CameraIntrinsics, width: int, height: int) -> CameraModel:
    lens, distortion = read_lens(given.distortion_model, given.d)
    return CameraModel(given.fx, given.fy, given.cx, given.cy, width, height, lens, distortion)


def _with_focal(focal_px: float, width: int, height: int) -> CameraModel:
    return CameraModel(focal_px, focal_px, *image_center(width, height), width, height)


MAKERS: dict[str, Callable[[Any, int, int], CameraModel]] = {
    "camera_intrinsics": _with_intrinsics,
    "fov_deg": CameraModel.from_fov,
    "focal_px": _with_focal,
}
