"""Shapes of requests and answers: what is validated, and what `/docs` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.server.errors import BadRequest, InvalidValue, RequestError
from bridge.server.settings import BridgeSettings
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE
from depth_anything_ros.model.registry import DATASETS, ENCODERS
from depth_anything_ros.model.weights import UNTRAINED

M = TypeVar("M", bound=BaseModel)
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CameraIntrinsics(BaseModel):
    """Pinhole camera of the image, in pixels as stored in the file."""

    fx: Positive
    fy: Positive
    cx: Finite
    cy: Finite


class Options(BaseModel):
    """What every request may say beside its image. Unknown fields are ignored."""

    model_config = ConfigDict(protected_namespaces=())

    encoder: Annotated[str | None, Field(description="vits, vitb, vitl or vitt; the server's default when absent")] = (
        None
    )
    dataset: Annotated[
        str | None, Field(description="hypersim (indoor), vkitti (outdoor), relative, or for vitt synthetic")
    ] = None
    model_input_size: Annotated[int | None, Field(description="short side given to the network, in pixels")] = None
    png_scale: Annotated[Positive, Field(description="levels a metre of a 16-bit PNG")] = MILLIMETRES_PER_METRE


class MetricOptions(Options):
    """Options of /metric_depth."""

    max_depth: Annotated[Positive, Field(description="metres at the network's full output")]


class CloudOptions(MetricOptions):
    """Options of /pc."""

    camera_intrinsics: CameraIntrinsics


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


class DepthReply(BaseModel):
    """Depth, row by row, as base64 of little-endian float32."""

    depth_map: str
    shape: tuple[int, int]
    min: float | None
    max: float | None


class PointCloudReply(BaseModel):
    """Points x, y, z in metres (optical frame), row by row, and the depth they come from."""

    pointcloud: str
    pointcloud_shape: tuple[int, int]
    depth_map: str
    depth_shape: tuple[int, int]
    min: float | None
    max: float | None


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


def check(model: type[M], values: dict[str, Any], *, strict: bool) -> M:
    """Check values against a model. `strict` takes no string for a number.

    Raises:
        BadRequest: something required is missing.
        InvalidValue: a wrong type or a value that is never allowed.
    """
    try:
        return model.model_validate(values, strict=strict)
    except ValidationError as error:
        raise _refusal(error) from None


def validate(model: type[Options], values: dict[str, Any], settings: BridgeSettings, *, strict: bool) -> Options:
    """`check`, and this server's limits.

    Raises:
        BadRequest, InvalidValue: as `check`; or a value out of range.
    """
    options = check(model, values, strict=strict)
    _check_name("encoder", options.encoder, known_encoders(settings))
    _check_name("dataset", options.dataset, DATASETS)
    size, low, high = options.model_input_size, settings.min_input_size, settings.max_input_size
    if size is not None and not low <= size <= high:
        raise InvalidValue(f"model_input_size must be {low} to {high}", "model_input_size")
    if isinstance(options, MetricOptions) and options.max_depth > settings.max_max_depth:
        raise InvalidValue(f"max_depth must be above 0 and up to {settings.max_max_depth:g} metres", "max_depth")
    return options


def known_encoders(settings: BridgeSettings) -> list[str]:
    """Encoders to ask for: those whose weights have a licence, the server's own, and all where weights are random."""
    own = (settings.default_encoder, *(text.partition(":")[0] for text in settings.preload))
    is_untrained = settings.checkpoint == UNTRAINED
    return [name for name, spec in ENCODERS.items() if spec.license or name in own or is_untrained]


def _check_name(param: str, name: str | None, known: Iterable[str]) -> None:
    if name is not None and name not in known:
        raise InvalidValue(f"unknown {param}; known: {', '.join(known)}", param)


def _refusal(error: ValidationError) -> RequestError:
    """Name the first missing field, else the first bad one; the value itself is never repeated."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    problem = next((p for p in problems if p["type"] == "missing"), problems[0])
    param = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return BadRequest(f"{param} is required", param)
    return InvalidValue(f"{param}: {problem['msg']}", param)
