"""The queries of the cameras' paths, as plain data: what is read, its defaults, its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from bridge.server.errors import InvalidValue
from bridge.server.names import nearest, shown
from bridge.server.robot.encodings import STREAM_FORMATS
from depth_anything_ros.io.formats import MILLIMETRES_PER_METRE

FIRST_FRAME_MS = 5000  # subscribing, and the node's work
MAX_WAIT_MS = 30_000
PngScale = Annotated[
    float, Field(gt=0, le=65535, allow_inf_nan=False, description="levels a metre of a 16-bit PNG of depth")
]
O = TypeVar("O", bound=BaseModel)  # noqa: E741


class FrameOptions(BaseModel):
    """Query of one frame."""

    model_config = ConfigDict(extra="forbid")

    max_age_ms: Annotated[
        int | None, Field(ge=1, le=3_600_000, description="the frame's stamp is at most so old, else 504")
    ] = None
    wait_ms: Annotated[
        int | None,
        Field(ge=0, le=MAX_WAIT_MS, description="how long to wait for a frame that fits; 5000, 0 with If-None-Match"),
    ] = None
    png_scale: PngScale = MILLIMETRES_PER_METRE


class MjpegOptions(BaseModel):
    """Query of a stream of JPEG pictures."""

    model_config = ConfigDict(extra="forbid")

    what: Annotated[Literal["color", "image"], Field(description="picture of the depth, or the camera's")] = "color"
    max_rate_hz: Annotated[
        float | None, Field(gt=0, le=1000, allow_inf_nan=False, description="at most so many frames a second")
    ] = None
    ticket: Annotated[str, Field(description="in a key's place, see /tickets")] = ""


class StreamOptions(BaseModel):
    """Query of a stream over a WebSocket."""

    model_config = ConfigDict(extra="forbid")

    what: Literal["depth", "color", "points", "image"] = "depth"
    format: Literal["raw", "npy", "png", "jpeg", "ply", "pcd", ""] = ""
    max_rate_hz: Annotated[float | None, Field(gt=0, le=1000, allow_inf_nan=False)] = None
    png_scale: PngScale = MILLIMETRES_PER_METRE
    ticket: str = ""

    @property
    def checked_format(self) -> str:
        """The format, or what it is by default. Raises InvalidValue: there is no such format of this."""
        known = STREAM_FORMATS[self.what]
        if self.format and self.format not in known:
            raise InvalidValue(f"format of {self.what} must be one of {', '.join(known)}", "format")
        return self.format or known[0]


def read_query(model: type[O], query: QueryParams) -> O:
    """Read a query.

    Raises:
        InvalidValue: an unknown option, one that is given twice, or a value out of range.
    """
    values: dict[str, Any] = {}
    for name, value in query.multi_items():
        if name not in model.model_fields:
            raise InvalidValue(f"unknown option {shown(name)}{nearest(name, model.model_fields)}", shown(name))
        if name in values:
            raise InvalidValue(f"{name} is given twice", name)
        values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = str(problem["loc"][0])
        raise InvalidValue(f"{param}: {problem['msg']}", param) from None
