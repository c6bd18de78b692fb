"""Shapes of requests and answers as plain data: what is validated (`options`), and what `/docs` shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _whole(value: object) -> object:
    """224.0 is a whole number too: some languages have no other."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]


class CameraIntrinsics(BaseModel):
    """Camera of the image, in pixels as stored in the file, and its lens as in a ROS CameraInfo."""

    fx: Positive
    fy: Positive
    cx: Finite
    cy: Finite
    distortion_model: Annotated[str, Field(description="plumb_bob, rational_polynomial or equidistant")] = ""
    d: Annotated[list[Finite], Field(description="coefficients of the lens, in OpenCV's order", max_length=14)] = []


class Options(BaseModel):
    """What every request may say beside its image: the model, and the camera in one of three ways."""

    model_config = ConfigDict(protected_namespaces=())

    encoder: Annotated[str | None, Field(description="vits, vitb, vitl or vitt; the server's default when absent")] = (
        None
    )
    dataset: Annotated[
        str | None,
        Field(description="hypersim (indoor), vkitti (outdoor), relative, da3metric, da3mono, da3; vitt has synthetic"),
    ] = None
    model_input_size: Annotated[
        WholeNumber | None, Field(description="side given to the network, in pixels: the short one, of da3... the long")
    ] = None
    png_scale: Annotated[Positive, Field(description="levels a metre of a 16-bit PNG")] = MILLIMETRES_PER_METRE
    sky: Annotated[
        Literal["inf", "fill"],
        Field(description="depth of the sky: infinite, or filled with the depth of what is far (da3metric, da3mono)"),
    ] = "inf"
    camera_intrinsics: CameraIntrinsics | None = None
    fov_deg: Annotated[
        float | None, Field(gt=0, lt=180, description="field of view that the longer side of the image spans")
    ] = None
    focal_px: Annotated[Positive | None, Field(description="focal length in pixels of the image as stored")] = None
    undistort: Annotated[
        bool,
        Field(description="rectify the image before the network, by the lens in camera_intrinsics; depth is of that"),
    ] = False
    undistort_focal_px: Annotated[
        Positive | None, Field(description="focal length of the rectified image; that of the largest view when absent")
    ] = None


class MetricOptions(Options):
    """Options of /metric_depth."""

    max_depth: Annotated[
        Positive | None, Field(description="metres at the network's full output; the dataset's own when absent")
    ] = None


class CloudOptions(MetricOptions):
    """Options of /pc, which needs a camera: camera_intrinsics, fov_deg or focal_px. Dataset da3 estimates one."""


class ImageSource(BaseModel):
    """Exactly one of the two."""

    image: Annotated[str | None, Field(description="base64 of a JPEG, PNG or WebP file, or a data: URL of it")] = None
    image_url: Annotated[str | None, Field(description="where the server fetches the image", max_length=8192)] = None


class RelativeDepthRequest(Options, ImageSource):
    """Body of POST /rel_depth."""


class MetricDepthRequest(MetricOptions, ImageSource):
    """Body of POST /metric_depth."""


class PointCloudRequest(CloudOptions, ImageSource):
    """Body of POST /pc."""


class DepthFacts(BaseModel):
    """What every answer says of its depth: range, what its metres follow from, sky, confidence."""

    min: float | None
    max: float | None
    max_depth: float | None = None
    focal_px: float | None = None
    focal_source: Annotated[
        Literal["given", "estimate"] | None, Field(description="whether focal_px was given, or is the model's estimate")
    ] = None
    camera_intrinsics: Annotated[
        CameraIntrinsics | None,
        Field(description="the camera of the depth, where it is not the one that was sent: rectified, or an estimate"),
    ] = None
    unit: Annotated[str | None, Field(description="of points that are not in metres: none")] = None
    sky: Annotated[str | None, Field(description="base64 of a byte a pixel, 1 where the sky is")] = None
    confidence: Annotated[str | None, Field(description="base64 of float32, 1 or more, larger = surer")] = None


class DepthReply(DepthFacts):
    """Depth, row by row, as base64 of little-endian float32."""

    depth_map: str
    shape: tuple[int, int]


class PointCloudReply(DepthFacts):
    """Points x, y, z in metres (optical frame), row by row, and the depth they come from."""

    pointcloud: str
    pointcloud_shape: tuple[int, int]
    depth_map: str
    depth_shape: tuple[int, int]


class ModelInstance(BaseModel):
    """A loaded model: its key, where it runs, and how."""

    model: str
    device: str
    backend: str
    precision: str


class HealthReply(BaseModel):
    """State of the worker that answers."""

    model_config = ConfigDict(protected_namespaces=())

    status: Literal["healthy", "draining"]
    device: Literal["cpu", "cuda"]
    worker_id: int
    replica: str | None = Field(None, description="which replica this is, on Ray Serve")
    node: str | None = Field(None, description="address of its machine, on Ray Serve")
    gpu_id: int | None
    gpu_count: int
    models_loaded: list[str]
    total_model_instances: int
    model_instances: list[ModelInstance]
    request_counter: int


class AliveReply(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class ReadyReply(BaseModel):
    """Whether requests for depth are taken, and warnings for the operator."""

    status: Literal["ready", "loading", "draining"]
    warnings: list[str]


class ModelEntry(BaseModel):
    """A model that can be asked for. `weights`: `here`, fetched at the first request (`download`), or `missing`."""

    encoder: str
    dataset: str
    kind: str
    max_depth: float | None
    needs_focal: bool
    license: str | None
    weights: Literal["here", "download", "missing", "untrained"]
    loaded: list[str]


class ModelsReply(BaseModel):
    """The models of this server; `default` is the key of the one that answers where none is named."""

    default: str
    models: list[ModelEntry]


class SessionReply(BaseModel):
    """Whether a key is needed, and whose this browser's session is. `robot`: whether the server shows cameras."""

    needs_key: bool
    signed_in: bool
    name: str | None
    robot: bool


class TicketRequest(BaseModel):
    """The path that a ticket is wanted for."""

    path: Annotated[str, Field(pattern=r"^/cameras/[A-Za-z0-9_.]{1,255}/stream(\.mjpeg)?$")]


class TicketReply(BaseModel):
    """A ticket: append `?ticket=` to the path, once."""

    ticket: str
    path: str
    expires_in_s: float


class CameraEntry(BaseModel):
    """One camera of the robot; null is unknown."""

    name: str
    node: str
    state: Literal["active", "disabled", "inactive", "gone"]
    level: str
    message: str
    topics: dict[str, str]
    width: int | None
    height: int | None
    model: str | None
    kind: str | None
    calibrated: bool | None
    rate_in_hz: float | None
    rate_out_hz: float | None
    latency_ms: float | None
    age_ms: float | None
    subscribed: list[str]
    streams: int


class CamerasReply(BaseModel):
    """The robot's cameras by name."""

    cameras: list[CameraEntry]


class ErrorDetail(BaseModel):
    """What went wrong, for programs."""

    message: str
    type: str
    code: str
    param: str | None
    request_id: str


class ErrorReply(BaseModel):
    """Body of every answer that is not a success."""

    detail: str
    error: ErrorDetail
