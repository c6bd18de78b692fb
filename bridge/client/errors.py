"""What a call raises when no usable answer came."""

from __future__ import annotations

from depth_anything_ros.errors import DepthAnythingError


class BridgeError(DepthAnythingError):
    """The bridge answered with an error, or not at all.

    Attributes:
        status: HTTP status; None when no answer came.
        code: the server's code for the error, such as `queue_full`; "" when it gave none.
        request_id: what to look for in the server's log; "" when there is none.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
