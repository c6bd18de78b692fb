"""Files of pictures and videos -> files of depth: what `depth_anything predict` does with a loaded model.

The command line is in `cli.predict`, the folder of results in `prediction_folder`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from depth_anything_ros.depth_map import DepthMap
from depth_anything_ros.errors import CameraError, CannotWrite, DepthAnythingError, ImageError, SettingsError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.io.formats import UNITLESS, colorize, depth_to_uint16, encode_npy, encode_ply, encode_png
from depth_anything_ros.io.pictures import FILE_LIMITS, Image, Picture, read_image, read_picture
from depth_anything_ros.io.videos import read_frames, side_by_side, video_info, write_video
from depth_anything_ros.io.whole_files import write_file
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.rectification import rectification_of, why_rectify
from depth_anything_ros.messages.remarks import SayOnce
from depth_anything_ros.model.registry import dataset_spec, network_spec
from depth_anything_ros.offline.given_camera import GivenCamera, PictureCamera
from depth_anything_ros.offline.prediction_folder import FORMATS, PredictionFolder
from depth_anything_ros.offline.progress import Progress, say
from depth_anything_ros.settings import ImageLimits

DEFAULT_FORMATS = ("npy", "png", "color", "ply")
FORMATS_OF_METRES = ("png", "ply")


@dataclass
class Outcome:
    """What became of the files; `failed` maps those that could not be done to the reason."""

    images: int = 0
    videos: int = 0
    frames: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def usable_formats(asked: Sequence[str] | None, dataset: str) -> tuple[str, ...]:
    """Return the formats that models of a dataset can give, in the order of `FORMATS`.

    Args:
        asked: by the user; None is `DEFAULT_FORMATS`. Points without a unit are written only where they are asked for.

    Raises:
        SettingsError: an unknown format, or none is left.
    """
    wanted = DEFAULT_FORMATS if asked is None else asked
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise SettingsError(f"unknown format {', '.join(unknown) or 'none'!r}; known: {', '.join(FORMATS)}")
    kind, outputs = dataset_spec(dataset).kind, network_spec(dataset).outputs
    missing = set() if "confidence" in outputs else {"confidence"}
    if kind != "metric":
        missing |= {"png"} if kind == "scale_invariant" and asked is not None else set(FORMATS_OF_METRES)
    usable = [name for name in FORMATS if name in wanted and name not in missing]
    if not usable:
        possible = ", ".join(name for name in FORMATS if name not in missing)
        raise SettingsError(f"{dataset} gives {kind} depth, which cannot be {', '.join(wanted)}; it can be {possible}")
    return tuple(usable)


@dataclass(frozen=True)
class Seen:
    """What the network is given of a picture.

    Attributes:
        pixels: uint8 BGR (H, W, 3).
        exif_focal_px: focal length in pixels as the file's EXIF data tell it; None if they do not.
        camera: of a picture that was rectified.
    """

    pixels: Image
    exif_focal_px: float | None = None
    camera: PictureCamera | None = None


class PredictRun:
    """One run: a model, a folder for its results, and the formats to write.

    Args:
        max_depth: metres at the network's full output; None for models whose depth does not depend on one.
        camera: of the pictures, for clouds and for models that need the focal length.
        stride: clouds take every n-th row and column.
        limits: of pictures and videos.
        levels: black and white of 16-bit pictures, in counts; 0 finds them.
        undistort: rectify pictures before the network, by the lens of `camera`; all results are of the rectified one.
        undistort_focal_px: focal length of rectified pictures; None is that of the largest view without holes.
    """

    def __init__(
        self,
        estimator: DepthEstimator,
        folder: PredictionFolder,
        formats: Sequence[str],
        *,
        max_depth: float | None = None,
        camera: GivenCamera | None = None,
        stride: int = 1,
        limits: ImageLimits = FILE_LIMITS,
        levels: tuple[int, int] = (0, 0),
        undistort: bool = False,
        undistort_focal_px: float | None = None,
    ) -> None:
        self.estimator = estimator
        self.folder = folder
        self.formats = tuple(formats)
        self.max_depth = max_depth
        self.camera = camera or GivenCamera()
        self.stride = stride
        self.limits = limits
        self.levels = levels
        self.undistort = undistort
        self.undistort_focal_px = undistort_focal_px
        self._remark = SayOnce(say)
        self.outcome = Outcome()

    def run(self, files: Mapping[str, Path]) -> Outcome:
        """Do every file, under the name the folder gave it, unless it is done already.

        A file that cannot be done is reported on standard error, and the next one follows.

        Raises:
            CannotWrite: the folder takes no more.
        """
        with Progress(len(files), "file") as progress:
            for name, path in files.items():
                try:
                    self._do(name, path)
                except CannotWrite:
                    raise
                except DepthAnythingError as error:
                    self.outcome.failed[str(path)] = str(error)
                    say(f"failed: {error}")
                progress.advance()
        return self.outcome

    def _do(self, name: str, path: Path) -> None:
        if self.folder.is_complete(name, self.formats):
            self.outcome.skipped += 1
        elif self.folder.manifest.sources[name].is_video:
            self._video(name, path)
            self.outcome.videos += 1
        else:
            # Each picture has a finder of its own: its depth does not depend on the pictures before it.
            finder = LevelFinder(*self.levels, self._remark)
            self._estimate(name, path, read_picture(path, self.limits, finder.to_uint8))
            self.outcome.images += 1

    def _video(self, name: str, path: Path) -> None:
        """Do the frames that are missing, then make the side-by-side video from the files of all."""
        info, count = video_info(path), 0
        with Progress(info.frames or None, "frame", name) as progress:
            for count, image in enumerate(read_frames(path, self.limits), 1):
                if not self.folder.has(name, self.formats, count - 1):
                    self._estimate(name, path, Picture(image), count - 1)
                    self.outcome.frames += 1
                progress.advance()
        if count < info.frames:
            say(f"{path} announces {info.frames} frames; {count} can be decoded")
        if "color" in self.formats:
            self._side_by_side(name, path, info.fps)
        self.folder.finish_video(name, count)

    def _side_by_side(self, name: str, path: Path, fps: float) -> None:
        colors = (read_image(self.folder.file(name, "color", frame), self.limits) for frame in itertools.count())
        frames = (self._seen(Picture(image)).pixels for image in read_frames(path, self.limits))
        pairs = zip(frames, colors, strict=False)
        pictures = (side_by_side(image, color) for image, color in pairs)
        try:
            write_file(self.folder.video(name), lambda temporary: write_video(temporary, pictures, fps))
        except ImageError as error:
            raise ImageError(f"{self.folder.video(name)}: {error}; the frames are done") from error

    def _estimate(self, name: str, path: Path, picture: Picture, frame: int | None = None) -> None:
        """Estimate one picture, and write its depth in every format."""
        try:
            seen = self._seen(picture)
            depth = self.estimator.estimate(seen.pixels, self.max_depth, self._focal_px(seen))
            results = {kind: self._encode(kind, depth, seen) for kind in self.formats}
        except CannotWrite:
            raise
        except DepthAnythingError as error:
            raise type(error)(f"{path}: {error}") from error
        for kind, data in results.items():
            self.folder.write(name, kind, data, frame)

    def _seen(self, picture: Picture) -> Seen:
        """Return what the network is given. Raises CameraError: it is to be rectified, and nothing tells the camera."""
        if not self.undistort:
            return Seen(picture.pixels, picture.focal_px)
        camera = self._given(picture.pixels, picture.focal_px)
        if not camera.is_known:
            raise CameraError("rectifying needs the focal length, which its EXIF data do not tell: give --fov or --fx")
        rectification = rectification_of(camera.model, self.undistort_focal_px)
        return Seen(rectification(picture.pixels), camera=replace(camera, model=rectification.camera))

    def _encode(self, kind: str, depth: DepthMap, seen: Seen) -> bytes:
        values = depth.sky_at_infinity()
        if kind == "npy":
            return encode_npy(values)
        if kind == "png":
            return encode_png(depth_to_uint16(values))
        if kind == "color":
            return encode_png(colorize(values, *self._color_range(depth)))
        if kind == "confidence":
            assert depth.confidence is not None
            return encode_npy(depth.confidence)
        camera = self._camera_of(seen, depth)
        if kind == "camera":
            return (json.dumps(camera.describe(), indent=1) + "\n").encode()
        points = camera.model.back_project(values, stride=self.stride)
        said = [*([] if depth.kind == "metric" else [UNITLESS]), *camera.remarks()]
        return encode_ply(points, seen.pixels[:: self.stride, :: self.stride], comments=said)

    def _color_range(self, depth: DepthMap) -> tuple[float, float]:
        """Return the values shown as near and as far: 0 and `max_depth`; without one, the picture's own range."""
        if self.max_depth is not None:
            return 0.0, self.max_depth
        lowest, highest = depth.range()
        return (highest, lowest) if depth.kind == "relative" else (lowest, highest)

    def _focal_px(self, seen: Seen) -> tuple[float, float] | None:
        """Return the focal lengths for a model that needs them. Raises CameraError: nothing tells them."""
        if not self.estimator.needs_focal:
            return None
        camera = self._camera_of(seen)
        if not camera.is_known:
            raise CameraError(
                "metres follow from the focal length, which its EXIF data do not tell: give --fov or --fx"
            )
        if why := why_rectify(camera.model):
            self._remark(f"{why}: --undistort takes it out")
        return camera.model.fx, camera.model.fy

    def _camera_of(self, seen: Seen, depth: DepthMap | None = None) -> PictureCamera:
        """The camera of what the network was given; its depth may tell the focal length where nothing else does."""
        return seen.camera or self._given(seen.pixels, seen.exif_focal_px, None if depth is None else depth.focal_px)

    def _given(
        self, pixels: Image, exif_focal_px: float | None, estimated_focal_px: float | None = None
    ) -> PictureCamera:
        height, width = pixels.shape[:2]
        if self.camera.fx is not None:
            size = self.folder.camera_size(width, height)
            if size != (width, height):
                raise CameraError(
                    f"the picture is {width}x{height}; the intrinsics are for {size[0]}x{size[1]}, the first picture's "
                    "size. Use another folder for pictures of another size, or give --fov in place of --fx"
                )
        return self.camera.of_picture(width, height, exif_focal_px, estimated_focal_px)
