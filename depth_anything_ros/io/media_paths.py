"""Paths of pictures and videos: which files are meant by what a user names. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from depth_anything_ros.errors import InputError, os_reason
from depth_anything_ros.files.presence import is_file, is_folder, resolved

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


def find_media(paths: Iterable[Path]) -> list[Path]:
    """Return the files named, and the pictures and videos in the folders named, each once, in order.

    A file that is named itself is returned whatever its suffix, and even if it does not exist: reading it says so.

    Raises:
        InputError: a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in files_in(path, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)) if is_folder(path) else [path]:
            found.setdefault(whole_path(file), file)
    return list(found.values())


def whole_path(path: Path) -> Path:
    """Return the path from the root, links in its folders followed: two files never have the same.

    A link keeps its own name, because results are named after it.
    """
    return resolved(path.parent) / path.name


def files_in(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files directly in a folder that have one of the suffixes, sorted by name; not the hidden ones.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {os_reason(error)}") from error
    return [
        path for path in entries if path.suffix.lower() in suffixes and not path.name.startswith(".") and is_file(path)
    ]


def is_video(path: Path) -> bool:
    """Whether a file's suffix is a video's. Everything else is read as a picture."""
    return path.suffix.lower() in VIDEO_SUFFIXES
