"""One camera's stages, opened and closed together: input, camera, outputs, and the health that they write.

What happens to a frame is in `inference_worker`; this file only says which stages exist and whether they work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.io.snapshots import Snapshot
from depth_anything_ros.messages.camera_infos import CameraInfos
from depth_anything_ros.node.camera_stage import CameraStage
from depth_anything_ros.node.frame import Frame, FrameDepth, WaitingFrame
from depth_anything_ros.node.frame_input import FrameInput
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.health import CameraHealth
from depth_anything_ros.node.input_topics import InputTopics
from depth_anything_ros.node.outputs import Makes, Outputs
from depth_anything_ros.node.range_input import RangeInput
from depth_anything_ros.node.scaling import Scaling
from depth_anything_ros.settings import CameraSettings

KIND_HELD_S = 2.0  # diagnostics come once a second


@dataclass(frozen=True)
class Made:
    """What was last published: its kind, and whether a CameraInfo fits; None where none was looked for."""

    kind: Kind
    has_camera: bool | None

    @classmethod
    def of(cls, depth: FrameDepth, model_kind: Kind) -> Made:
        """Of a frame's depth; a metric model always needs the camera."""
        is_looked_for = model_kind == "metric" or depth.metres is not None
        is_found = depth.camera is not None and not depth.camera.is_estimated
        return cls(depth.kind, is_found if is_looked_for else None)


class CameraPipeline:
    """One camera of the node.

    Args:
        node: where subscriptions and publishers live.
        name: of the camera; empty for the only one of a node.
        settings: replaced by the node when parameters change.
        queue, place: where frames wait, and which of its places is this camera's.
        makes: what the model makes of an image; None while no model is in use.

    Attributes:
        image_size: (H, W) of the last image that was estimated; None before the first.
        made: the depth that was last published, see `note`; None before the first.
    """

    def __init__(
        self,
        node: LifecycleNode,
        name: str,
        settings: CameraSettings,
        queue: FrameQueue[WaitingFrame],
        place: int,
        makes: Callable[[], Makes | None],
    ) -> None:
        self.name = name
        self.settings = settings
        self.image_size: tuple[int, int] | None = None
        self.made: Made | None = None
        self._metric_s = -math.inf  # when depth was last published in metres
        self._node = node
        self._prefix = f"{name}/" if name else ""
        self._makes = makes
        self._topics = topics = InputTopics.resolve(node, self._prefix)
        self.health = CameraHealth(node, topics)
        self._camera_infos = CameraInfos(topics.camera_info, remark=self.health.remark)
        self.input = FrameInput(node, topics, queue, place, self._camera_infos, self.health, self._is_wanted)
        self.stage = CameraStage(self._camera_infos, self.health)
        self.outputs: Outputs | None = None  # only while the topics are offered

    @property
    def title(self) -> str:
        """Its name, for people and files."""
        return self.name or "camera"

    @property
    def is_active(self) -> bool:
        """Whether images are taken."""
        return self.health.active_since_s is not None

    @property
    def scaling(self) -> Scaling:
        """What makes metres of the model's depth."""
        return self.stage.scaling

    @property
    def latest(self) -> Snapshot | None:
        """The last frame that was published with metric depth."""
        return None if self.outputs is None else self.outputs.latest

    @property
    def expected_size(self) -> tuple[int, int] | None:
        """(H, W) of the images that came, or are to come; None if nobody knows."""
        expected = self.settings.warm_up_height, self.settings.warm_up_width
        return self.image_size or (expected if all(expected) else None)

    def facts(self) -> dict[str, object]:
        """What the camera is, for diagnostics; what is not known yet is left out."""
        outputs, settings = self.outputs, self.settings
        topics = self._topics.subscribed(settings.image_transport) | ({} if outputs is None else outputs.topic_names)
        facts: dict[str, object] = {"camera": self.name, "alignment": settings.alignment}
        facts["rectified"] = settings.rectified or settings.undistort
        facts["topics"] = " ".join(f"{name}={topic}" for name, topic in topics.items())
        if size := self.image_size or self.input.image_size:
            facts["height"], facts["width"] = size
        if self.made is not None:
            facts["kind"] = self.made.kind
        if self.made is not None and self.made.has_camera is not None:
            facts["calibrated"] = self.made.has_camera
        return facts

    def note(self, made: Made) -> None:
        """Note what was published. Where some pictures alone get metres by alignment, those count for a while."""
        now_s = time.monotonic()
        if made.kind == "metric":
            self._metric_s = now_s
        elif self.settings.alignment != "none" and now_s - self._metric_s < KIND_HELD_S:
            return
        self.made = made

    def decode(self, waiting: WaitingFrame) -> Frame:
        """Read the image of a frame whose turn has come; rectify it if that is wanted. Raises InputError."""
        frame = self.input.decode(waiting)
        return self.stage.rectified(frame, self.settings) if self.settings.undistort else frame

    def open(self) -> None:
        """Offer the topics."""
        qos = self.health.qos
        self.outputs = Outputs(self._node, self.name, self._prefix, qos, self.health.warn)
        has_range = self.settings.range_type is not None
        range_input = RangeInput(self._node, self._topics.range, self.settings, qos) if has_range else None
        self.stage = CameraStage(self._camera_infos, self.health, range_input)

    def start(self) -> None:
        """Start taking images, and say from where, and where what is made of them goes."""
        self.health.activated()
        self.input.start(self.settings)
        makes = self._makes()
        if makes is not None and self.outputs is not None:
            topics = self.outputs.topics(makes, self.settings)
            log = self._node.get_logger()
            log.info(f"publishes, each while somebody listens: {', '.join(topics)}")

    def stop_publishing(self) -> None:
        """Publish nothing any more, not even a frame that is being worked on."""
        self.health.deactivated()

    def stop(self) -> None:
        """Stop taking images; one that is being worked on is not published any more."""
        self.stop_publishing()
        self.scaling.give_up("the node was deactivated")
        self.input.stop()

    def close(self) -> None:
        """Remove the topics and drop the model."""
        self.stage.destroy()
        self.stage = CameraStage(self._camera_infos, self.health)
        if self.outputs is not None:
            self.outputs.destroy()
            self.outputs = None

    def _is_wanted(self) -> bool:
        """Whether anything would be done with a frame."""
        makes, outputs = self._makes(), self.outputs
        if makes is None or outputs is None:
            return False
        return self.scaling.is_calibrating or outputs.someone_listens(makes, self.settings)
