"""The folder that `depth_anything predict` writes: what lies where, and what is there already.

::

    OUT/predict.json            model, camera, and which file each result was made from
    OUT/npy/NAME.npy            a picture's depth; beside it png/, color/, ply/, confidence/, camera/
    OUT/NAME/npy/000000.npy     a video frame's, numbered from 0
    OUT/NAME/side_by_side.mp4   video and colour pictures next to each other

A result appears under its name only when it is complete. `predict.json` is written before the results it names,
so a run that ends early leaves nothing that could be taken for something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from depth_anything_ros.errors import CannotWrite, OtherRun, os_reason, quoted
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.files.presence import exists
from depth_anything_ros.io.media_paths import is_video, whole_path
from depth_anything_ros.io.result_names import ResultNames, is_safe_name
from depth_anything_ros.io.whole_files import locked, remove_unfinished, write_file

# Format -> its files' suffix; its folder has its own name.
FORMATS = {"npy": ".npy", "png": ".png", "color": ".png", "ply": ".ply", "confidence": ".npy", "camera": ".json"}
MANIFEST = "predict.json"
MAX_MANIFEST_BYTES = 256 * MIB  # a million files
VIDEO = "side_by_side.mp4"


@dataclass(frozen=True)
class Source:
    """The file a result was made from, as it was then. `frames` is set when all frames of a video are done."""

    path: str
    size_bytes: int
    modified_ns: int
    frames: int | None = None

    @classmethod
    def of(cls, path: Path) -> Source:
        """Describe a file; a missing one as empty, because reading it will say so."""
        try:
            status = path.stat()
        except OSError:
            return cls(str(whole_path(path)), 0, 0)
        return cls(str(whole_path(path)), status.st_size, status.st_mtime_ns)

    @property
    def is_video(self) -> bool:
        """Whether results are numbered frames."""
        return is_video(Path(self.path))


@dataclass(frozen=True)
class Manifest:
    """Content of `predict.json`.

    Attributes:
        model: what results in one folder have in common: key, kind, sha256, max_depth_m, ...
        checkpoint: where the weights were, for people.
        cloud: stride and camera of the clouds; None before the first one.
        camera_size: (width, height) of the pictures that the intrinsics in `cloud` are for; None before the first one.
        sources: name of a result -> its file.
    """

    model: Mapping[str, Any]
    checkpoint: str = ""
    cloud: Mapping[str, Any] | None = None
    camera_size: tuple[int, int] | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the file's content."""
        return (json.dumps({"version": 1, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read it back. Raises ValueError, TypeError, LookupError or AttributeError for anything else."""
        content = json.loads(data)
        if content.pop("version") != 1:
            raise ValueError("another version")
        size = content.pop("camera_size")
        sources = {name: _source(name, source) for name, source in content.pop("sources").items()}
        manifest = cls(sources=sources, camera_size=None if size is None else (int(size[0]), int(size[1])), **content)
        dict(manifest.model), dict(manifest.cloud or {})
        return manifest


def _source(name: str, content: Mapping[str, Any]) -> Source:
    source = Source(**content)
    if not is_safe_name(name):
        raise ValueError(f"the name {quoted(name)} leads out of the folder")
    if not isinstance(source.path, str) or not isinstance(source.frames, int | None):
        raise TypeError(f"{quoted(name)} has a path or a number of frames of a wrong type")
    return source


def read_manifest(folder: Path) -> Manifest | None:
    """Read the `predict.json` of a folder; None where there is none.

    Raises:
        OtherRun: it is not one of this program's.
    """
    path = folder / MANIFEST
    if not exists(path):
        return None
    try:
        return Manifest.from_json(read_bounded(path, MAX_MANIFEST_BYTES))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise OtherRun(f"{path} is damaged, or of another program or version: {error}") from error


class PredictionFolder:
    """Results in a folder, under names that stay bound to the files they were made from."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest

    @classmethod
    @contextmanager
    def open(cls, root: Path, run: Manifest, *, overwrite: bool = False) -> Iterator[PredictionFolder]:
        """Make the folder, or open an earlier run's, and hold its lock against other processes.

        Args:
            run: this run's manifest, without sources.
            overwrite: remove the results of another model or camera instead of refusing.

        Raises:
            OtherRun: it holds such results. CannotWrite: it cannot be made or written.
        """
        with locked(root):
            remove_unfinished(root)
            yield cls(root, _continued(root, run, overwrite))

    def claim(self, files: Sequence[Path], *, overwrite: bool = False) -> dict[str, Path]:
        """Give every file a name, and save the names in `predict.json`. A file keeps the name of earlier runs.

        Results of a file that has changed since are removed; with `overwrite`, those of all these files.

        Raises:
            OtherRun: files of unknown origin lie under a name that would be given.
            CannotWrite: files cannot be removed or written.
        """
        sources, claimed = dict(self.manifest.sources), {}
        known = {source.path: name for name, source in sources.items()}
        names = ResultNames([*sources, *FORMATS, MANIFEST])
        for file in files:
            now = Source.of(file)
            name = known.get(now.path) or names.give(file.stem)
            before = sources.get(name)
            if before is None and not overwrite:
                self._refuse_strangers(name)
            if overwrite or before is None or replace(before, frames=None) != now:
                self._remove(name)
                sources[name] = now
            claimed[name] = file
        self._save(replace(self.manifest, sources=sources))
        return claimed

    def is_complete(self, name: str, formats: Sequence[str]) -> bool:
        """Whether a picture, or a video with all its frames, has a file of every format."""
        source = self.manifest.sources[name]
        if not source.is_video:
            return self.has(name, formats)
        if source.frames is None or ("color" in formats and not self.video(name).is_file()):
            return False
        return all(self.has(name, formats, frame) for frame in range(source.frames))

    def has(self, name: str, formats: Sequence[str], frame: int | None = None) -> bool:
        """Whether a picture, or one frame, has a file of every format."""
        return all(self.file(name, kind, frame).is_file() for kind in formats)

    def file(self, name: str, kind: str, frame: int | None = None) -> Path:
        """Return where a picture's or frame's result of a format lies."""
        if frame is None:
            return self.root / kind / f"{name}{FORMATS[kind]}"
        return self.root / name / kind / f"{frame:06d}{FORMATS[kind]}"

    def video(self, name: str) -> Path:
        """Return where the video made of a video lies."""
        return self.root / name / VIDEO

    def write(self, name: str, kind: str, data: bytes, frame: int | None = None) -> None:
        """Write a picture's or frame's result of a format. Raises CannotWrite."""
        write_file(self.file(name, kind, frame), lambda temporary: temporary.write_bytes(data))

    def finish_video(self, name: str, frames: int) -> None:
        """Save that all frames of a video are done. Raises CannotWrite."""
        sources = dict(self.manifest.sources)
        sources[name] = replace(sources[name], frames=frames)
        self._save(replace(self.manifest, sources=sources))

    def camera_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) that the intrinsics are for: the first picture's. Raises CannotWrite."""
        if self.manifest.camera_size is None:
            self._save(replace(self.manifest, camera_size=(width, height)))
        return self.manifest.camera_size or (width, height)

    def _save(self, manifest: Manifest) -> None:
        self.manifest = manifest
        write_file(self.root / MANIFEST, lambda temporary: temporary.write_bytes(manifest.to_json()))

    def _results(self, name: str) -> Iterator[Path]:
        """Every file that may exist under a name, of a picture or of a video."""
        yield self.video(name)
        for kind, suffix in FORMATS.items():
            yield self.file(name, kind)
            yield from (self.root / name / kind).glob(f"[0-9]*{suffix}")

    def _refuse_strangers(self, name: str) -> None:
        found = next((path for path in self._results(name) if path.exists()), None)
        if found is not None:
            raise OtherRun(
                f"{found} exists, and {self.root / MANIFEST} does not say what it was made from. "
                "Choose another folder, or replace it with --overwrite."
            )

    def _remove(self, name: str) -> None:
        for path in self._results(name):
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:  # so there is nothing to remove
                continue
            except OSError as error:
                raise CannotWrite(f"{path} cannot be removed: {os_reason(error)}") from error


def _continued(root: Path, run: Manifest, overwrite: bool) -> Manifest:
    """Return the manifest to go on with: the earlier run's if results of both may be in one folder, else this run's."""
    try:
        earlier = read_manifest(root)
    except OtherRun:
        if not overwrite:
            raise
        return run
    if earlier is None:
        return run
    differences = list(_differences(earlier, run))
    if not differences:
        return replace(run, cloud=run.cloud or earlier.cloud, camera_size=earlier.camera_size, sources=earlier.sources)
    if not overwrite:
        raise OtherRun(
            f"{root} holds the results of another run: {'; '.join(differences)}. "
            "Choose another folder, or remove them with --overwrite."
        )
    old = PredictionFolder(root, earlier)
    for name in earlier.sources:
        old._remove(name)
    return run


def _differences(earlier: Manifest, run: Manifest) -> Iterator[str]:
    pairs = [("", earlier.model, run.model)]
    if earlier.cloud is not None and run.cloud is not None:
        pairs.append(("cloud ", earlier.cloud, run.cloud))
    for what, old, new in pairs:
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                yield f"{what}{name} was {old.get(name)}, now it is {new.get(name)}"
