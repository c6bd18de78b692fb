"""Pictures, videos and depth files: finding them, reading them, and writing videos."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import ImageError, InputError, SettingsError

Image = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
DEPTH_SUFFIXES = (".npy", ".npz", ".png")
FALLBACK_FPS = 25.0  # of a video that does not say
MAX_VIDEO_WIDTH_PX = 3840  # the MPEG-4 encoder ends at 8191, most players earlier
SIDE_BY_SIDE_CODEC = "mp4v"  # the one that every OpenCV can write


# ---- finding


def find_media(paths: Iterable[Path]) -> list[Path]:
    """Return the files named, and the pictures and videos in the folders named, each once, in order.

    Folders are not searched below their own level. Files in them are sorted by name, and taken by
    their suffix; hidden ones are not. A file that is named itself is taken as it is, even if it does
    not exist: reading it says so.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in files_in(path, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)) if path.is_dir() else [path]:
            found.setdefault(whole_path(file), file)
    return list(found.values())


def whole_path(path: Path) -> Path:
    """Return what tells a file from others: its path from the root, with the name it has there, link or not."""
    return path.parent.resolve() / path.name


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files in a folder that have one of the suffixes and are not hidden, sorted by name.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    return [
        path for path in entries if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")
    ]


def is_video(path: Path) -> bool:
    """Tell by the suffix: everything else is tried as a picture."""
    return path.suffix.lower() in VIDEO_SUFFIXES


# ---- pictures


def read_image(path: Path) -> Image:
    """Decode a picture to uint8 BGR (H, W, 3), its EXIF rotation applied, alpha dropped, 16 bits cut to 8.

    Raises:
        ImageError: no such file, not a picture, or one that ends too early.
    """
    try:
        data = path.read_bytes()
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from error
    except cv2.error as error:
        raise ImageError(f"{path} is not a picture") from error
    if image is None or _is_cut_jpeg(data):
        raise ImageError(f"{path} is not a picture, or a damaged one")
    return np.asarray(image, np.uint8)


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG lacks the marker of its end: OpenCV 4 decodes it all the same, the rest in grey.

    The marker counts after the pixels begin; a thumbnail in the header has one of its own.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(b"\xff\xd9", at) < 0


# ---- videos


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself; `frames` is 0 where it does not, and an estimate in some containers."""

    fps: float
    frames: int


def video_info(path: Path) -> VideoInfo:
    """Read a video's header. Raises ImageError as `read_frames`."""
    capture = _open_video(path)
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    return VideoInfo(fps if 0 < fps <= 1000 else FALLBACK_FPS, max(0, int(frames)))


def read_frames(path: Path) -> Iterator[Image]:
    """Decode a video: uint8 BGR (H, W, 3), one after the other, rotated as its header says.

    Raises:
        ImageError: no such file, not a video, or none of its frames can be decoded.
    """
    capture = _open_video(path)
    try:
        done, frame = capture.read()
        if not done:
            raise ImageError(f"none of the frames in {path} can be decoded")
        while done:
            yield np.asarray(frame, np.uint8)
            done, frame = capture.read()
    finally:
        capture.release()


def _open_video(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise ImageError(f"{path} cannot be read: no such file")
    capture = cv2.VideoCapture(str(path.resolve()))  # a whole path: a name with a colon would be a URL
    if not capture.isOpened():
        raise ImageError(f"{path} is not a video, or a damaged one")
    return capture


def side_by_side(left: Image, right: Image) -> Image:
    """Put two pictures of one size next to each other, both sides even as video encoders want them."""
    picture = np.hstack([left, right])
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_VIDEO_WIDTH_PX / width)
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    if size == (width, height):
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_video(path: Path, frames: Iterable[Image], fps: float) -> None:
    """Write pictures of one size, even on both sides, as an MP4 video.

    Raises:
        OSError: it cannot be written; OpenCV does not say why.
    """
    writer, count = cv2.VideoWriter(), 0
    try:
        for frame in frames:
            if count == 0:
                height, width = frame.shape[:2]
                writer.open(str(path.resolve()), cv2.VideoWriter.fourcc(*SIDE_BY_SIDE_CODEC), fps, (width, height))
            writer.write(frame)
            count += 1
    finally:
        writer.release()
    # The writer keeps quiet about a full disk and about frames it does not take.
    if not path.is_file() or video_info(path).frames != count:
        raise OSError(None, "OpenCV could not write the video")


# ---- depth files


def read_depth(path: Path, scale: float) -> NDArray[np.floating[Any]]:
    """Read depth in metres, (H, W), from a file; NaN where a PNG holds 0.

    Args:
        path: `.npy`, or `.npz` with one array: metres. `.png`, 16 bits, grey: levels of 1/scale metres.
        scale: levels per metre; 1000 for millimetres, 256 for KITTI.

    Raises:
        InputError: no such file, of another kind, or not a map of numbers. Nothing is ever unpickled.
        SettingsError: a scale that is not a positive number.
    """
    if not 0 < scale < math.inf:
        raise SettingsError(f"the scale of a depth PNG must be a positive number, got {scale}")
    try:
        depth = _read_depth_png(path, scale) if path.suffix.lower() == ".png" else _read_array(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, cv2.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} does not hold depth: {error}") from error
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise InputError(f"{path} does not hold a depth map (H, W) of numbers, but {depth.dtype} {depth.shape}")
    return depth


def _read_depth_png(path: Path, scale: float) -> NDArray[np.float32]:
    levels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 2:
        raise ValueError("it is not a 16-bit grey PNG")
    depth = (levels / scale).astype(np.float32)
    depth[levels == 0] = np.nan
    return depth


def _read_array(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise ValueError(f"it holds {len(loaded.files)} arrays instead of one")
            return np.asarray(loaded[loaded.files[0]])
