"""Video files: what their headers say, their frames, and a video made of pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from depth_anything_ros.errors import ImageError
from depth_anything_ros.files.presence import is_file
from depth_anything_ros.io.image_header import check_size
from depth_anything_ros.io.pictures import FILE_LIMITS, Image
from depth_anything_ros.settings import ImageLimits

SANE_FPS = (0.1, 1000.0)
FALLBACK_FPS = 25.0  # of a video whose header names no rate, or one outside `SANE_FPS`
MAX_VIDEO_WIDTH_PX = 3840  # the MPEG-4 encoder takes up to 8191, most players less
SIDE_BY_SIDE_CODEC = "mp4v"  # every OpenCV can write it
PROBE_BYTES = 65_536


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says. `frames` is 0 if it names no number; some containers only estimate it."""

    fps: float
    frames: int


def video_info(path: Path) -> VideoInfo:
    """Read a video's header. Raises ImageError as `read_frames`."""
    capture = _open_video(path)
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    capture.release()
    lowest, highest = SANE_FPS
    return VideoInfo(fps if lowest <= fps <= highest else FALLBACK_FPS, max(0, int(frames)))


def read_frames(path: Path, limits: ImageLimits = FILE_LIMITS) -> Iterator[Image]:
    """Decode a video's frames in order: uint8 BGR (H, W, 3), rotated as its header says.

    Raises:
        ImageError: no such file, not a video, larger than the limits, or no frame can be decoded.
    """
    capture = _open_video(path)
    try:
        _check_frame_size(path, capture, limits)
        done, frame = capture.read()
        if not done:
            raise ImageError(f"none of the frames in {path} can be decoded")
        while done:
            yield np.asarray(frame, np.uint8)
            done, frame = capture.read()
    finally:
        capture.release()


def _check_frame_size(path: Path, capture: cv2.VideoCapture, limits: ImageLimits) -> None:
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    try:
        check_size(width, height, limits)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _open_video(path: Path) -> cv2.VideoCapture:
    if not is_file(path):
        raise ImageError(f"{path} cannot be read: no such file, or not a regular one")
    capture = cv2.VideoCapture(str(path.resolve()))  # from the root: OpenCV takes a name with a colon for a URL
    if not capture.isOpened():
        raise ImageError(f"{path} is not a video that OpenCV reads, or a damaged one")
    return capture


def side_by_side(left: Image, right: Image) -> Image:
    """Put two pictures of one size next to each other. Both sides of the result are even, as video encoders need it."""
    picture = np.hstack([left, right])
    height, width = picture.shape[:2]
    scale = min(1.0, MAX_VIDEO_WIDTH_PX / width)
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    if size == (width, height):
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def write_video(path: Path, frames: Iterable[Image], fps: float) -> None:
    """Write pictures of one size, with even sides, as an MP4 video.

    Raises:
        OSError: the disk takes no more. ImageError: there are no frames, or no video can be made of them.
    """
    writer, count = cv2.VideoWriter(), 0
    try:
        for frame in frames:
            if count == 0:
                height, width = frame.shape[:2]
                codec = cv2.VideoWriter.fourcc(*SIDE_BY_SIDE_CODEC)
                if not writer.open(str(path.resolve()), codec, fps, (width, height)):
                    _probe(path)
                    raise ImageError(f"no video of {width}x{height} pixels at {fps:g} frames/s can be made")
            writer.write(frame)
            count += 1
    finally:
        writer.release()
    if not _holds(path, count):  # the writer does not report a full disk
        _probe(path)
        raise ImageError(f"OpenCV could not make a video of {count} frames")


def _holds(path: Path, frames: int) -> bool:
    try:
        return video_info(path).frames == frames
    except ImageError:
        return False


def _probe(path: Path) -> None:
    """Write behind a file that did not become a video. Raises OSError with the reason, if it was the disk."""
    with path.open("ab") as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
