"""A bag's images -> the same bag with depth beside them: what `depth_anything bag` does with a loaded model."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Connection

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.errors import CameraError, DamagedMessage, ImageError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.messages.camera_infos import RecordedCameraInfos, fields_for, pinhole_fields
from depth_anything_ros.messages.clouds import FIELD_OFFSETS, POINT_STEP_BYTES, cloud_shape, pack_cloud
from depth_anything_ros.messages.images import BgrImage, compressed_to_bgr, depth_pixels, image_fields, image_to_bgr
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.rectification import rectification_of, why_rectify
from depth_anything_ros.messages.remarks import SayOnce
from depth_anything_ros.offline.bag.cameras import Camera
from depth_anything_ros.offline.bag.files import CAMERA_INFO, COMPRESSED_IMAGE, Bag, BagWriter, files_of
from depth_anything_ros.offline.bag.work import WorkFolder
from depth_anything_ros.offline.prediction_folder import Source
from depth_anything_ros.offline.progress import Progress, say
from depth_anything_ros.settings import BagSettings

FLOAT32 = 7  # of sensor_msgs/PointField


@dataclass
class Tally:
    """What became of one camera's frames.

    Attributes:
        frames: images of the topic.
        estimated: images that the network ran on now; depth of the others is from a run that was stopped.
        skipped: reason -> how many could not be read.
        without_camera: reason -> how many have depth only, because no CameraInfo fits them.
    """

    frames: int = 0
    estimated: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    without_camera: dict[str, int] = field(default_factory=dict)


class BagRun:
    """One run over a bag: a model, the cameras, and where the results go.

    Args:
        max_depth: metres at the network's full output; None for models whose depth does not depend on one.

    Attributes:
        tallies: what became of each camera's frames, by topic.
        messages: how many were written.
    """

    def __init__(
        self,
        estimator: DepthEstimator,
        bag: Bag,
        cameras: Sequence[Camera],
        settings: BagSettings,
        work: WorkFolder,
        *,
        max_depth: float | None = None,
    ) -> None:
        self.estimator = estimator
        self.bag = bag
        self.cameras = {camera.topic: camera for camera in cameras}
        self.settings = settings
        self.work = work
        self.max_depth = max_depth
        set_levels = settings.black_level, settings.white_level
        self.tallies = {camera.topic: Tally() for camera in cameras}
        self.messages = 0
        self._remark = SayOnce(say)
        self._levels = {topic: LevelFinder(*set_levels, self._remark) for topic in self.cameras}
        self._images = [one for one in bag.images() if one.topic in self.cameras]
        self._frame_ms: list[float] = []

    def run(self) -> None:
        """Write the bag to its place in the work folder, in one pass and in recorded order.

        An image that cannot be read is reported, counted and left out.

        Raises:
            InputError: the bag is damaged. CannotWrite: the disk takes no more.
            DepthAnythingError: the network cannot run.
        """
        originals = [] if self.settings.only_depth else self.bag.connections
        frames = sum(connection.msgcount for connection in self._images)
        with BagWriter.create(self.work.bag, self.settings.storage or self.bag.storage) as writer:
            writer.copy_topics(originals)
            outputs = self._outputs(writer)
            with Progress(frames, "frame") as progress:
                for connection, time_ns, data in self.bag.messages(originals or self._images):
                    if originals:
                        writer.copy(connection, time_ns, data)
                    if connection in self._images:
                        self._frame(outputs[connection.topic], connection, time_ns, data)
                        progress.advance()
            self.messages = writer.messages

    @property
    def ms_per_frame(self) -> float | None:
        """Median time of the network for one frame; None if it did not run."""
        return round(statistics.median(self._frame_ms), 1) if self._frame_ms else None

    @property
    def left_something_out(self) -> bool:
        """Whether a frame has no depth, or none of the clouds that were asked for."""
        return any(t.skipped or (self.settings.cloud and t.without_camera) for t in self.tallies.values())

    def _outputs(self, writer: BagWriter) -> dict[str, CameraOutput]:
        kind, settings = self.estimator.kind, self.settings
        infos = self._camera_infos() if kind == "metric" or settings.undistort else {}
        return {c.topic: CameraOutput(writer, c, kind, settings, infos.get(c.topic)) for c in self.cameras.values()}

    def _camera_infos(self) -> dict[str, RecordedCameraInfos]:
        """Read all CameraInfo messages of the cameras: an image's own may come after it."""
        topics = [camera.info_topic for camera in self.cameras.values()]
        infos = {topic: RecordedCameraInfos(topic, self._remark) for topic in topics}
        connections = [connection for connection in self.bag.of_type(CAMERA_INFO) if connection.topic in infos]
        for connection, time_ns, data in self.bag.messages(connections):
            try:
                infos[connection.topic].add(self.bag.read(connection, data), time_ns)
            except DamagedMessage as error:
                say(f"skipped: a CameraInfo on {connection.topic}: {error}")
        return {camera.topic: infos[camera.info_topic] for camera in self.cameras.values()}

    def _frame(self, output: CameraOutput, connection: Connection, time_ns: int, data: bytes) -> None:
        tally = self.tallies[connection.topic]
        index, tally.frames = tally.frames, tally.frames + 1
        try:
            message = self.bag.read(connection, data)
            image = self._image(connection, message)
            camera = output.match(message.header, time_ns, image)
            if self.settings.undistort:
                image, camera = output.rectified(message.header, image, camera)
            depth = self._depth(tally, connection.topic, index, image, self._focal_px(camera))
        except (DamagedMessage, ImageError, CameraError) as error:
            self._count(tally.skipped, f"skipped: {connection.topic}, frame {index}", str(error))
            return
        output.write(message.header, time_ns, depth, image, camera)
        if camera.problem:
            self._count(tally.without_camera, f"depth only: {connection.topic}, frame {index}", camera.problem)

    def _focal_px(self, camera: MatchedCamera) -> tuple[float, float] | None:
        """Return the focal lengths for a model that needs them. Raises CameraError: the camera is not known."""
        if not self.estimator.needs_focal:
            return None
        if camera.model is None:
            raise CameraError(f"metres follow from the focal length, which is not known: {camera.problem}")
        if why := why_rectify(camera.model):
            self._remark(f"{why}: --undistort takes it out")
        return camera.model.fx, camera.model.fy

    def _image(self, connection: Connection, message: Any) -> BgrImage:
        levels = self._levels[connection.topic]
        if connection.msgtype == COMPRESSED_IMAGE:
            return compressed_to_bgr(message, levels)
        return image_to_bgr(message, levels, self._remark)

    def _count(self, reasons: dict[str, int], what: str, reason: str) -> None:
        """Count a reason, and say it the first time."""
        if reason not in reasons:
            say(f"{what}: {reason}")
        reasons[reason] = reasons.get(reason, 0) + 1

    def _depth(
        self, tally: Tally, topic: str, index: int, image: BgrImage, focal_px: tuple[float, float] | None
    ) -> NDArray[np.float32]:
        """Return the depth of a frame, +Inf in the sky; from the run that was stopped if it got so far."""
        depth = self.work.load(topic, index, *image.shape[:2])
        if depth is None:
            began_s = time.perf_counter()
            depth = self.estimator.estimate(image, self.max_depth, focal_px).sky_at_infinity()
            self._frame_ms.append(1000 * (time.perf_counter() - began_s))
            self.work.save(topic, index, depth)
            tally.estimated += 1
        return depth


class MatchedCamera(NamedTuple):
    """CameraInfo of an image and the camera it describes; without them, the problem, empty if none were needed."""

    info: Any = None
    model: CameraModel | None = None
    problem: str = ""


class CameraOutput:
    """What is written for one camera: depth, and for what has a CameraInfo that too, and a cloud.

    Args:
        infos: None for what needs none: depth without metres, of images as they are.
    """

    def __init__(
        self, writer: BagWriter, camera: Camera, kind: Kind, settings: BagSettings, infos: RecordedCameraInfos | None
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._infos = infos
        topics = camera.outputs(kind, settings)
        self._topics = {name: writer.add_topic(topic, type_) for name, (topic, type_) in topics.items()}

    def match(self, header: Any, time_ns: int, image_bgr: BgrImage) -> MatchedCamera:
        """Return the camera of an image (H, W, 3), with its header and log time."""
        if self._infos is None:
            return MatchedCamera()
        height, width = image_bgr.shape[:2]
        settings = self._settings
        try:
            info, model = self._infos.match(
                header,
                time_ns,
                width,
                height,
                rectified=settings.rectified,
                any_frame=settings.camera_info_any_frame,
            )
        except CameraError as error:
            return MatchedCamera(problem=str(error))
        return MatchedCamera(info, model)

    def rectified(self, header: Any, image_bgr: BgrImage, camera: MatchedCamera) -> tuple[BgrImage, MatchedCamera]:
        """Return an image without its lens's distortion, and the pinhole camera that is true for it.

        Raises:
            CameraError: no CameraInfo fits the image, or its lens cannot be rectified.
        """
        if camera.model is None:
            raise CameraError(f"the image cannot be rectified, and --undistort was given: {camera.problem}")
        rectification = rectification_of(camera.model, self._settings.undistort_focal_px)
        pinhole = rectification.camera
        return rectification(image_bgr), MatchedCamera(self._pinhole_info(header, pinhole), pinhole)

    def _pinhole_info(self, header: Any, pinhole: CameraModel) -> Any:
        fields = pinhole_fields(pinhole)
        arrays = {name: np.array(fields.pop(name), np.float64) for name in ("d", "k", "r", "p")}
        whole = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False}
        roi = self._writer.make("sensor_msgs/msg/RegionOfInterest", **whole)
        make = self._writer.make
        return make(CAMERA_INFO, header=header, binning_x=0, binning_y=0, roi=roi, **fields, **arrays)

    def write(
        self, header: Any, time_ns: int, depth: NDArray[np.float32], image_bgr: BgrImage, camera: MatchedCamera
    ) -> None:
        """Write what is made of one image, with its header and log time.

        Args:
            depth: float32 (H, W). image_bgr: uint8 (H, W, 3).
            camera: the image's; without one, depth alone is written.
        """
        self._write_depth(header, time_ns, depth)
        if camera.model is None:
            return
        self._write_info(header, time_ns, fields_for(camera.info, camera.model), camera.info)
        if self._settings.cloud:
            self._write_cloud(header, time_ns, camera.model, depth, image_bgr)

    def _write_depth(self, header: Any, time_ns: int, depth: NDArray[np.float32]) -> None:
        encoding = self._settings.depth_encoding
        pixels = depth_pixels(depth, encoding)
        fields = image_fields(pixels, encoding)
        self._writer.write(self._topics["depth"], time_ns, header=header, data=_bytes(pixels), **fields)

    def _write_info(self, header: Any, time_ns: int, fields: dict[str, Any], info: Any) -> None:
        matrices = {name: np.asarray(fields.pop(name), np.float64) for name in ("d", "k", "r", "p")}
        none = {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": info.roi.do_rectify}
        roi = fields.pop("roi") or self._writer.make("sensor_msgs/msg/RegionOfInterest", **none)
        self._writer.write(self._topics["info"], time_ns, header=header, roi=roi, **fields, **matrices)

    def _write_cloud(
        self, header: Any, time_ns: int, camera: CameraModel, depth: NDArray[np.float32], image_bgr: BgrImage
    ) -> None:
        stride = self._settings.cloud_stride
        rows, columns = depth.shape
        height, width = cloud_shape(rows, columns, stride)
        data = np.empty(height * width * POINT_STEP_BYTES, np.uint8)
        points = np.where(np.isfinite(depth), depth, np.float32(np.nan))  # the sky has none
        is_dense = pack_cloud(points, image_bgr, camera, data, stride)
        make = self._writer.make
        self._writer.write(
            self._topics["points"],
            time_ns,
            header=header,
            height=height,
            width=width,
            fields=[
                make("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=FLOAT32, count=1)
                for name, offset in FIELD_OFFSETS.items()
            ],
            is_bigendian=sys.byteorder == "big",
            point_step=POINT_STEP_BYTES,
            row_step=width * POINT_STEP_BYTES,
            data=data,
            is_dense=is_dense,
        )


def describe_source(path: Path) -> list[list[Any]]:
    """Return names, sizes and times of a bag's files: they differ for another bag, and for this one after a change."""
    sources = [Source.of(file) for file in files_of(path)]
    return [[Path(source.path).name, source.size_bytes, source.modified_ns] for source in sources]


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
