"""Files of pictures and videos -> files of depth: what `depth_anything predict` does with a loaded model."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depth_anything_ros.camera import CameraModel, image_center
from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import CameraError, CannotWrite, DepthAnythingError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import colorize, depth_to_uint16, encode_ply, encode_png
from depth_anything_ros.io.media import Image, read_frames, read_image, side_by_side, video_info, write_video
from depth_anything_ros.io.whole_files import write_file
from depth_anything_ros.offline.prediction_folder import FORMATS, PredictionFolder

RELATIVE_FORMATS = ("npy", "color")  # what has no metres in it


@dataclass(frozen=True)
class CloudSettings:
    """How points are made of depth.

    Attributes:
        stride: take every n-th row and column.
        fov_deg: field of view along a picture's longer side, whatever its size.
        fx, fy: focal lengths in pixels, in place of `fov_deg`; they hold for pictures of one size.
        cx, cy: principal point in pixels; None is the middle.
    """

    stride: int = 1
    fov_deg: float = 60.0
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise SettingsError(f"the stride must be 1 or more, got {self.stride}")
        if not 0 < self.fov_deg < 180:
            raise SettingsError(f"the field of view must be between 0 and 180 degrees, got {self.fov_deg:g}")
        if self.fx is None and (self.fy, self.cx, self.cy) != (None, None, None):
            raise SettingsError("fy, cx and cy need fx")

    def describe(self) -> dict[str, float | int | None]:
        """Return what clouds must have in common to belong together."""
        if self.fx is None:
            return {"stride": self.stride, "fov_deg": self.fov_deg}
        return {"stride": self.stride, "fx": self.fx, "fy": self.fy, "cx": self.cx, "cy": self.cy}

    def camera(self, width: int, height: int) -> CameraModel:
        """Return the camera of a picture. Raises CameraError for impossible intrinsics."""
        if self.fx is None:
            return CameraModel.from_fov(self.fov_deg, width, height)
        middle_x, middle_y = image_center(width, height)
        return CameraModel(
            fx=self.fx,
            fy=self.fx if self.fy is None else self.fy,
            cx=middle_x if self.cx is None else self.cx,
            cy=middle_y if self.cy is None else self.cy,
            width=width,
            height=height,
        )


@dataclass
class Outcome:
    """What became of the files; `failed` maps those that could not be done to the reason."""

    images: int = 0
    videos: int = 0
    frames: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def usable_formats(wanted: Sequence[str], kind: str) -> tuple[str, ...]:
    """Return the formats that can be made of `metric` or `relative` depth, in the order of `FORMATS`.

    Raises:
        SettingsError: an unknown format, or none is left.
    """
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise SettingsError(f"unknown format {', '.join(unknown) or 'none'!r}; known: {', '.join(FORMATS)}")
    usable = [name for name in FORMATS if name in wanted and (kind == "metric" or name in RELATIVE_FORMATS)]
    if not usable:
        raise SettingsError(f"relative depth has no metres for {', '.join(wanted)}; it can be npy and color")
    return tuple(usable)


class Batch:
    """One run: a model, a folder for its results, and what to write there."""

    def __init__(
        self,
        estimator: DepthEstimator,
        folder: PredictionFolder,
        formats: Sequence[str],
        *,
        max_depth: float | None = None,
        cloud: CloudSettings | None = None,
    ) -> None:
        self.estimator = estimator
        self.folder = folder
        self.formats = tuple(formats)
        self.max_depth = estimator.max_depth if max_depth is None else max_depth
        self.cloud = cloud or CloudSettings()
        self.outcome = Outcome()

    def run(self, files: Mapping[str, Path]) -> Outcome:
        """Do every file, under the name the folder gave it, unless it is done already.

        What is wrong with one file is reported, and the others are done. Progress goes to stderr,
        the bar only if that is a terminal.

        Raises:
            CannotWrite: the folder takes no more.
        """
        with tqdm(files.items(), unit="file", disable=None) as bar:
            for name, path in bar:
                try:
                    self._one(name, path)
                except CannotWrite:
                    raise
                except DepthAnythingError as error:
                    self.outcome.failed[str(path)] = str(error)
                    tqdm.write(f"failed: {error}", file=sys.stderr)
        return self.outcome

    def _one(self, name: str, path: Path) -> None:
        if self.folder.is_complete(name, self.formats):
            self.outcome.skipped += 1
        elif self.folder.manifest.sources[name].is_video:
            self._video(name, path)
            self.outcome.videos += 1
        else:
            self._estimate(name, path, read_image(path))
            self.outcome.images += 1

    def _video(self, name: str, path: Path) -> None:
        """Do the frames that are missing, then put the video together from the files of all."""
        info, count = video_info(path), 0
        with tqdm(total=info.frames or None, unit="frame", desc=name, leave=False, disable=None) as bar:
            for count, image in enumerate(read_frames(path), 1):
                if not self.folder.has(name, self.formats, count - 1):
                    self._estimate(name, path, image, count - 1)
                    self.outcome.frames += 1
                bar.update()
        if count < info.frames:
            tqdm.write(f"{path} announces {info.frames} frames; {count} can be decoded", file=sys.stderr)
        if "color" in self.formats:
            self._assemble(name, path, info.fps)
        self.folder.finish_video(name, count)

    def _assemble(self, name: str, path: Path, fps: float) -> None:
        colors = (read_image(self.folder.file(name, "color", frame)) for frame in range(sys.maxsize))
        pairs = zip(read_frames(path), colors, strict=False)
        pictures = (side_by_side(image, color) for image, color in pairs)
        write_file(self.folder.video(name), lambda temporary: write_video(temporary, pictures, fps))

    def _estimate(self, name: str, path: Path, image: Image, frame: int | None = None) -> None:
        """Estimate one picture, and write its depth in every format."""
        try:
            depth = self.estimator.estimate(image, self.max_depth)
            results = {kind: self._encode(kind, depth, image) for kind in self.formats}
        except CannotWrite:
            raise
        except DepthAnythingError as error:
            raise type(error)(f"{path}: {error}") from error
        for kind, data in results.items():
            self.folder.write(name, kind, data, frame)

    def _encode(self, kind: str, depth: DepthMap, image: Image) -> bytes:
        if kind == "npy":
            return encode_npy(depth)
        if kind == "png":
            return encode_png(depth_to_uint16(depth.values))
        if kind == "color":
            return encode_png(colorize(depth.values, *self._color_range(depth)))
        points = self._camera(image).back_project(depth.values, stride=self.cloud.stride)
        return encode_ply(points, image[:: self.cloud.stride, :: self.cloud.stride])

    def _color_range(self, depth: DepthMap) -> tuple[float, float]:
        """Metres from 0 to `max_depth`; without a unit, what is in the picture, with the largest the nearest."""
        if depth.kind == "metric":
            return 0.0, self.max_depth
        return float(depth.values.max()), float(depth.values.min())

    def _camera(self, image: Image) -> CameraModel:
        height, width = image.shape[:2]
        if self.cloud.fx is not None:
            size = self.folder.camera_size(width, height)
            if size != (width, height):
                raise CameraError(
                    f"the picture is {width}x{height}, the intrinsics belong to {size[0]}x{size[1]}, the size of the "
                    "first one; do pictures of another size in a run of their own"
                )
        return self.cloud.camera(width, height)


def encode_npy(depth: DepthMap) -> bytes:
    """Depth -> an `.npy` file of float32 (H, W)."""
    buffer = io.BytesIO()
    np.save(buffer, depth.values.astype(np.float32, copy=False), allow_pickle=False)
    return buffer.getvalue()
