"""The camera that a request describes: intrinsics, a field of view, or a focal length."""

from __future__ import annotations

from bridge.server.errors import BadRequest, InvalidValue
from bridge.server.schemas import CameraIntrinsics, MetricOptions
from depth_anything_ros.camera import CameraModel, image_center, read_lens
from depth_anything_ros.errors import CameraError

WAYS = ("camera_intrinsics", "fov_deg", "focal_px")


def check_one_camera(options: MetricOptions, *, is_required: bool) -> None:
    """Refuse a request that describes its camera in several ways, or not at all where it has to.

    Raises:
        BadRequest: no camera. InvalidValue: several.
    """
    given = [name for name in WAYS if getattr(options, name) is not None]
    if len(given) > 1:
        raise InvalidValue(f"give one of {', '.join(WAYS)}, not {' and '.join(given)}", given[1])
    if is_required and not given:
        raise BadRequest("camera_intrinsics is required, or else fov_deg or focal_px", "camera_intrinsics")


def camera_of(options: MetricOptions, width: int, height: int) -> CameraModel | None:
    """The camera of an image of this size, or None where the request describes none.

    Raises:
        InvalidValue: a lens that is not known.
    """
    if options.fov_deg is not None:
        return CameraModel.from_fov(options.fov_deg, width, height)
    if options.focal_px is not None:
        return CameraModel(options.focal_px, options.focal_px, *image_center(width, height), width, height)
    if options.camera_intrinsics is not None:
        return _with_intrinsics(options.camera_intrinsics, width, height)
    return None


def _with_intrinsics(given: CameraIntrinsics, width: int, height: int) -> CameraModel:
    lens, distortion = read_lens(given.distortion_model, given.d)
    try:
        return CameraModel(given.fx, given.fy, given.cx, given.cy, width, height, lens, distortion)
    except CameraError as error:
        raise InvalidValue(f"camera_intrinsics: {error}", "camera_intrinsics") from None
