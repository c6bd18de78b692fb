"""Options of a request, checked: their names, their shapes (`schemas`), then this server's limits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bridge.server.errors import BadRequest, InvalidValue, RequestError
from bridge.server.models import known_encoders
from bridge.server.names import PLAIN_NAME, nearest, shown
from bridge.server.schemas import CameraIntrinsics, CloudOptions, MetricOptions, Options
from bridge.server.settings import BridgeSettings
from depth_anything_ros.model.registry import DATASETS

M = TypeVar("M", bound=BaseModel)
# An option of another endpoint is ignored, so one set of options does for all of them.
MAX_DIGITS = 40
KNOWN_OPTIONS = CloudOptions.model_fields


def check(model: type[M], values: dict[str, Any]) -> M:
    """Check values against a shape; a string is no number.

    Raises:
        BadRequest: something required is missing.
        InvalidValue: a wrong type or a value that is never allowed.
    """
    try:
        return model.model_validate(values, strict=True)
    except ValidationError as error:
        raise _refusal(error) from None


def validate(model: type[Options], values: dict[str, Any], settings: BridgeSettings) -> Options:
    """`check`, unknown names, and this server's limits.

    Raises:
        BadRequest, InvalidValue: as `check`; an unknown name; a value out of range.
    """
    _refuse_unknown(values, KNOWN_OPTIONS)
    intrinsics = values.get("camera_intrinsics")
    if isinstance(intrinsics, dict):
        _refuse_unknown(intrinsics, CameraIntrinsics.model_fields, "camera_intrinsics.")
    options = check(model, values)
    _check_name("encoder", options.encoder, known_encoders(settings))
    _check_name("dataset", options.dataset, DATASETS)
    size, low, high = options.model_input_size, settings.min_input_size, settings.max_input_size
    if size is not None and not low <= size <= high:
        raise InvalidValue(f"model_input_size must be {low} to {high}, not {size}", "model_input_size")
    if isinstance(options, MetricOptions) and (options.max_depth or 0) > settings.max_max_depth:
        raise InvalidValue(
            f"max_depth must be above 0 and up to {settings.max_max_depth:g} metres, not {options.max_depth:g}",
            "max_depth",
        )
    return options


def _refuse_unknown(values: dict[str, Any], known: Collection[str], prefix: str = "") -> None:
    for name in values:
        if name not in known:
            raise InvalidValue(f"unknown option {prefix}{shown(name)}{nearest(name, known)}", f"{prefix}{shown(name)}")


def _check_name(param: str, name: str | None, known: Collection[str]) -> None:
    if name is not None and name not in known:
        raise InvalidValue(f"unknown {param} {shown(name)}{nearest(name, known)}; known: {', '.join(known)}", param)


def _refusal(error: ValidationError) -> RequestError:
    """Name the first missing field, else the first bad one and its value."""
    problems = error.errors(include_url=False, include_context=False)
    problem = next((p for p in problems if p["type"] == "missing"), problems[0])
    param = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return BadRequest(f"{param} is required", param)
    if param == "camera_intrinsics":
        names = "fx, fy, cx and cy"
        return InvalidValue(f"{param} must be an object with {names}; a form or a query gives {names} directly", param)
    return InvalidValue(f"{param}: {problem['msg']}{_value(problem['input'])}", param)


def _value(value: object) -> str:
    """A value that is a number or a plain name; others may be long or secret, such as an image or its URL."""
    if isinstance(value, (bool, int, float)) or (isinstance(value, str) and PLAIN_NAME.fullmatch(value)):
        return f", not {str(value)[:MAX_DIGITS]}"
    return ""
