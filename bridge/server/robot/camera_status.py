"""What a depth node says of a camera in /diagnostics, once a second; nothing has to be subscribed to know it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import SettingsError
from depth_anything_ros.model.registry import dataset_spec

NODE_NAME = "depth_anything"  # what a node is called unless told otherwise: not worth a part of the name
UNNAMED = "camera"
LEVELS = ("ok", "warn", "error", "stale")
# The topic that depth of a kind comes on, by its name in docs/node.md.
DEPTH_TOPICS: dict[Kind, str] = {
    "metric": "depth/image",
    "relative": "relative/image",
    "scale_invariant": "scale_invariant/image",
}


@dataclass(frozen=True)
class CameraStatus:
    """One status message, read.

    Attributes:
        node: full name of the camera's node.
        camera: name of the camera there; empty for the only one.
        level: one of `LEVELS`.
        message: the node's own words.
        topics: full names by their names in docs/node.md.
        values: everything else, as text.
    """

    node: str
    camera: str
    level: str
    message: str
    topics: Mapping[str, str]
    values: Mapping[str, str]

    @property
    def name(self) -> str:
        """How clients name the camera: its namespace, its node if that has a name of its own, and the camera."""
        *namespace, node = self.node.strip("/").split("/")
        parts = [*namespace, *([] if node == NODE_NAME else [node]), *([self.camera] if self.camera else [])]
        return ".".join(parts) or UNNAMED

    @property
    def state(self) -> str:
        """`active`, `disabled` or `inactive`."""
        return self.values["state"]

    @property
    def model(self) -> str | None:
        """Key of the model, None while there is none."""
        return self.values.get("model")

    @property
    def model_kind(self) -> Kind | None:
        """Kind of depth that the model makes; None without a model, or one that this version does not know."""
        parts = (self.model or "").split("_")
        try:
            return dataset_spec(parts[1]).kind if len(parts) == 3 else None
        except SettingsError:
            return None

    @property
    def kind(self) -> Kind | None:
        """Kind of the depth: that of the last frame; before it, what the model makes."""
        said = self.values.get("kind")
        return next((kind for kind in DEPTH_TOPICS if kind == said), None) or self.model_kind

    @property
    def is_calibrated(self) -> bool | None:
        """Whether the last frame had a CameraInfo; None where nobody looked."""
        return {"True": True, "False": False}.get(self.values.get("calibrated", ""))

    @property
    def is_rectified(self) -> bool:
        """Whether P of the CameraInfo describes the images."""
        return self.values.get("rectified") == "True"

    @property
    def gets_metres(self) -> bool:
        """Whether the node makes metres of depth that has none: fitted, or by a factor."""
        return self.values.get("alignment", "none") != "none" or "metres_per_unit" in self.values

    @property
    def processed(self) -> int:
        """Frames that went through the node."""
        return int(self.number("frames_processed") or 0)

    def number(self, name: str) -> float | None:
        """A value as a number, whose unit may stand behind it; None where it is none, or not finite."""
        try:
            number = float(self.values[name].partition(" ")[0])
        except (KeyError, ValueError):
            return None
        return number if math.isfinite(number) else None

    def topic_of(self, what: str) -> str | None:
        """Full name of the topic on which something comes; None where it is not offered."""
        names: dict[str, tuple[str, ...]] = {
            "depth": (DEPTH_TOPICS[self.kind or "metric"],),
            "depth_info": ("depth/camera_info",),
            "camera_info": ("depth/camera_info",),
            "points": ("points",),
            "color": ("depth/color",),
            "image": ("image", "image/compressed"),
        }
        return next((self.topics[name] for name in names[what] if name in self.topics), None)


def read_status(name: str, level: int, message: str, values: Mapping[str, str]) -> CameraStatus | None:
    """Read a status of /diagnostics; None where it is none of a depth node's cameras."""
    node, separator, _ = name.rpartition(": ")
    if not separator or not {"camera", "state", "topics", "frames_processed"} <= values.keys():
        return None
    topics = dict(part.split("=", 1) for part in values["topics"].split() if "=" in part)
    return CameraStatus(node, values["camera"], LEVELS[min(level, 3)], message, topics, values)


def describe(status: CameraStatus, silent_s: float, *, is_gone: bool) -> dict[str, Any]:
    """What `GET /cameras` says of a camera.

    Args:
        silent_s: seconds since the status came.
    """
    age_s, width, height = (status.number(name) for name in ("image_age_s", "width", "height"))
    return {
        "name": status.name,
        "node": status.node,
        "state": "gone" if is_gone else status.state,
        "level": "error" if is_gone else status.level,
        "message": f"nothing heard of {status.node} for {silent_s:.0f} s" if is_gone else status.message,
        "topics": dict(status.topics),
        "width": None if width is None else int(width),
        "height": None if height is None else int(height),
        "model": status.model,
        "kind": status.kind,
        "calibrated": status.is_calibrated,
        "rate_in_hz": status.number("rate_in_hz"),
        "rate_out_hz": status.number("rate_out_hz"),
        "latency_ms": status.number("latency_p50_ms"),
        "age_ms": None if age_s is None else round(1000 * (age_s + silent_s)),
    }
