"""What can go wrong with a request, and the one table that turns it into an answer.

::

    DepthAnythingError
    └── RequestError
        ├── BadRequest            400  malformed, or a field missing
        ├── Unauthorized          401  no key, or a wrong one
        ├── OtherHost             403  a name that is none of the server's
        ├── OtherOrigin           403  a web page of another origin
        ├── NotFound              404
        │   ├── NoRobot           404  the server runs without --ros
        │   └── UnknownCamera     404
        ├── MethodNotAllowed      405
        ├── NotAcceptable         406  no such output format
        ├── BodyTooSlow           408  headers or body did not arrive in time
        ├── NoCalibration         409  a cloud or CameraInfo of a camera without one that fits
        ├── NoMetres              409  a cloud of depth without a unit
        ├── BodyTooLarge          413
        ├── UnsupportedMedia      415  no such input format
        ├── InvalidValue          422  understood, but out of range
        ├── SlowImage             422  an image that takes too long to decode
        ├── RateLimited           429
        ├── TooManyStreams        429  of this key
        ├── Overloaded            503  too many streams in all
        ├── CameraGone            503  its node is not heard
        ├── CameraInactive        503  its node is not active, or disabled
        ├── QueueFull             503
        ├── Loading               503
        ├── Draining              503
        ├── WeightsMissing        503  no weights for the model here
        ├── WeightsUnusable       503  damaged ones, or another model's
        ├── DeviceFailed          503  the worker is replaced
        ├── NoFrame               504  no frame that fits came in time
        └── DeadlineExceeded      504

Clients get the messages of RequestError and of ImageError as they are: the latter name formats and sizes, here never
paths. Other messages may hold paths or data, so the table has words for them, by their class alone.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from bridge.codec import UndecodableData, UnusableScale
from bridge.server.image_url import ImageHostFailed, UrlRefused
from bridge.server.media import JSON, dump_json
from depth_anything_ros.errors import (
    CheckpointError,
    DepthAnythingError,
    DeviceError,
    ImageError,
    InputError,
    OutOfMemory,
    SettingsError,
)
from depth_anything_ros.io.image_header import OversizedImage, UndecodableImage

logger = logging.getLogger("bridge.requests")


class RequestError(DepthAnythingError):
    """A request that is refused, and why.

    Attributes:
        param: the field, header or parameter at fault.
        headers: what the answer carries beside the usual.
    """

    def __init__(self, message: str, param: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.headers = headers or {}


class BadRequest(RequestError):
    """Malformed, or something required is missing."""


class Unauthorized(RequestError):
    """No valid key."""


class OtherHost(RequestError):
    """The server was called by a name that is none of its own."""


class OtherOrigin(RequestError):
    """A web page of another origin asks."""


class NotFound(RequestError):
    """No such path."""


class NoRobot(NotFound):
    """The server shows no robot's cameras."""


class UnknownCamera(NotFound):
    """No such camera."""


class NoCalibration(RequestError):
    """No CameraInfo fits the camera's images."""


class NoMetres(RequestError):
    """The camera's depth has no unit."""


class MethodNotAllowed(RequestError):
    """The path has other methods."""


class NotAcceptable(RequestError):
    """None of the formats that the client accepts can be made."""


class BodyTooSlow(RequestError):
    """Headers or body did not arrive in time."""


class BodyTooLarge(RequestError):
    """More bytes than the limit."""


class UnsupportedMedia(RequestError):
    """A content type or coding that is not read."""


class InvalidValue(RequestError):
    """A value of the wrong type or out of range."""


class SlowImage(RequestError):
    """An image that takes too long to decode."""


class RateLimited(RequestError):
    """The key asked too often."""


class TooManyStreams(RequestError):
    """The key has too many streams and waiting requests."""


class Overloaded(RequestError):
    """All keys together have."""


class CameraGone(RequestError):
    """The camera's node is not heard."""


class CameraInactive(RequestError):
    """The camera's node takes no images."""


class NoFrame(RequestError):
    """No frame that fits came in time."""


class QueueFull(RequestError):
    """No place left to wait in."""


class Loading(RequestError):
    """The models named at start are not loaded yet."""


class Draining(RequestError):
    """The server is going down."""


class WeightsMissing(RequestError):
    """The model has no weights on this server."""


class WeightsUnusable(RequestError):
    """The model's weights on this server cannot be used."""


class DeviceFailed(RequestError):
    """The device cannot be used any more by this process."""


class DeadlineExceeded(RequestError):
    """The answer was not ready in time."""


@dataclass(frozen=True)
class Answer:
    """Row of the table. `words` None: the error's own message is written for clients."""

    status: int
    type: str
    code: str
    words: str | None = None
    retry_after_s: int | None = None


INVALID, OVERLOADED, SERVER = "invalid_request", "overloaded", "server_error"

ANSWERS: dict[type[BaseException], Answer] = {
    BadRequest: Answer(400, INVALID, "bad_request"),
    UndecodableData: Answer(400, INVALID, "bad_base64"),
    Unauthorized: Answer(401, "authentication", "unauthorized"),
    UrlRefused: Answer(403, "permission", "image_url_refused", "this server does not fetch that image_url"),
    OtherHost: Answer(403, "permission", "other_host"),
    OtherOrigin: Answer(403, "permission", "other_origin"),
    NotFound: Answer(404, INVALID, "not_found"),
    NoRobot: Answer(404, INVALID, "no_robot"),
    UnknownCamera: Answer(404, INVALID, "unknown_camera"),
    MethodNotAllowed: Answer(405, INVALID, "method_not_allowed"),
    NotAcceptable: Answer(406, INVALID, "not_acceptable"),
    BodyTooSlow: Answer(408, INVALID, "too_slow"),
    NoCalibration: Answer(409, "conflict", "uncalibrated"),
    NoMetres: Answer(409, "conflict", "no_metres"),
    BodyTooLarge: Answer(413, INVALID, "body_too_large"),
    UnsupportedMedia: Answer(415, INVALID, "unsupported_media_type"),
    InvalidValue: Answer(422, INVALID, "invalid_value"),
    SlowImage: Answer(422, INVALID, "undecodable_image"),
    UndecodableImage: Answer(422, INVALID, "undecodable_image"),
    OversizedImage: Answer(422, INVALID, "image_size"),
    ImageError: Answer(422, INVALID, "image_size"),
    UnusableScale: Answer(422, INVALID, "png_scale"),
    InputError: Answer(422, INVALID, "invalid_value", "a value is outside this server's limits"),
    ImageHostFailed: Answer(424, "upstream", "image_host_failed", "no image came from the host of image_url"),
    RateLimited: Answer(429, "rate_limit", "rate_limited", None, 1),
    TooManyStreams: Answer(429, "rate_limit", "too_many_streams", None, 1),
    Overloaded: Answer(503, OVERLOADED, "overloaded", None, 5),
    CameraGone: Answer(503, "robot", "camera_gone", None, 2),
    CameraInactive: Answer(503, "robot", "camera_inactive", None, 2),
    QueueFull: Answer(503, OVERLOADED, "queue_full", None, 1),
    Loading: Answer(503, OVERLOADED, "loading", None, 5),
    Draining: Answer(503, OVERLOADED, "draining", None, 5),
    DeviceFailed: Answer(503, SERVER, "device_failed", None, 5),
    DeviceError: Answer(503, SERVER, "device_failed", "the device that computes depth failed", 5),
    OutOfMemory: Answer(503, SERVER, "out_of_memory", "no memory left for this model and image size", 5),
    MemoryError: Answer(503, SERVER, "out_of_memory", "no memory left for this model and image size", 5),
    # No Retry-After: weights do not come by themselves.
    WeightsMissing: Answer(503, SERVER, "weights_missing"),
    WeightsUnusable: Answer(503, SERVER, "weights_unusable"),
    CheckpointError: Answer(503, SERVER, "weights_unusable", "this server's weights for the model cannot be used"),
    NoFrame: Answer(504, "robot", "no_frame"),
    DeadlineExceeded: Answer(504, SERVER, "deadline"),
    # Values of a request never become one: only the server's own settings do.
    SettingsError: Answer(500, SERVER, "misconfigured", "this server's settings for the model cannot be used"),
    Exception: Answer(500, SERVER, "internal", "something went wrong; the request_id finds it in the server's log"),
}


def answer_for(error: BaseException) -> Answer:
    """Look an error up by the nearest of its classes."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def error_body(error: Exception, request_id: str) -> dict[str, Any]:
    """What an answer says about an error."""
    answer = answer_for(error)
    message = answer.words or str(error)
    detail = {
        "message": message,
        "type": answer.type,
        "code": answer.code,
        "param": getattr(error, "param", None),
        "request_id": request_id,
    }
    return {"detail": message, "error": detail}


def error_response(error: Exception, request_id: str) -> Response:
    """Make the answer to a request that failed."""
    answer = answer_for(error)
    headers = dict(error.headers) if isinstance(error, RequestError) else {}
    if answer.retry_after_s is not None:
        headers.setdefault("Retry-After", str(answer.retry_after_s))
    return Response(dump_json(error_body(error, request_id)), answer.status, headers, JSON)


def error_item(error: Exception, request_id: str) -> bytes:
    """Log an error, and make the JSON that stands in place of one of several answers."""
    log_failure(error, request_id)
    return dump_json(error_body(error, request_id) | {"status": answer_for(error).status})


def log_failure(error: Exception, request_id: str) -> None:
    """Log errors that are not plain refusals. Expected errors need no traceback."""
    if isinstance(error, RequestError):
        return
    is_expected = isinstance(error, DepthAnythingError)
    logger.log(
        logging.WARNING if is_expected else logging.ERROR,
        "request failed: %s",
        error,
        exc_info=None if is_expected else error,
        extra={"fields": {"request_id": request_id}},
    )


def retry_after(seconds: float) -> dict[str, str]:
    """Header for a wait that is known more exactly than in the table."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
