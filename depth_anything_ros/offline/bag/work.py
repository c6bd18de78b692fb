"""The folder beside a bag that is being made: depth that was estimated already, and the bag so far.

::

    .part-OUT/run.json                    the bag that is read, and the model
    .part-OUT/frames/TOPIC/00000000.npy   depth of a topic's frame, float32 (H, W); TOPIC with its slashes as %2F
    .part-OUT/bag/OUT/                    the bag; every run writes it again, from the frames that are there
    .part-OUT/replaced/                   the bag that was at OUT, while the new one takes its place

The complete bag moves to OUT, and the folder is removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from depth_anything_ros.errors import CannotWrite, InputError, OtherRun, os_reason
from depth_anything_ros.files.bounded_files import MIB, read_bounded
from depth_anything_ros.files.presence import exists, resolved
from depth_anything_ros.io.depth_files import read_depth
from depth_anything_ros.io.formats import encode_npy
from depth_anything_ros.io.whole_files import locked_work_folder, write_file
from depth_anything_ros.offline.bag.files import is_bag, remove_folder

RUN = "run.json"
BAG_SUFFIXES = (".mcap", ".db3", ".bag")


def check_target(out: Path, source: Path, *, overwrite: bool) -> None:
    """Check that a bag may be written as `out`.

    Raises:
        OtherRun: `out` exists, and may not be overwritten or is no bag.
        InputError: `out` is or holds the bag that is read, or has the suffix of a file.
    """
    if out.suffix in BAG_SUFFIXES:
        raise InputError(f"{out} names a file, but a bag is written as a folder: leave out {out.suffix}")
    if resolved(source).is_relative_to(resolved(out)):
        raise InputError(f"{out} is or holds the bag that is read: choose another folder")
    if not exists(out):
        return
    if not overwrite:
        raise OtherRun(f"{out} exists. Choose another folder, or replace it with --overwrite.")
    if not is_bag(out):
        raise OtherRun(f"{out} is not a bag, so it is not overwritten. Choose another folder.")


class WorkFolder:
    """The folder of a bag that is being made."""

    def __init__(self, out: Path) -> None:
        self.out = resolved(out)
        self.root = self.out.with_name(f".part-{self.out.name}")
        self.bag = self.root / "bag" / self.out.name

    @classmethod
    @contextmanager
    def open(cls, out: Path, run: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[WorkFolder]:
        """Make the folder, or open that of a run that was stopped, and hold its lock against other processes.

        Args:
            run: what all frames of a bag have in common, as JSON. Frames of another run are removed, and `say` is
                told why.

        Raises:
            CannotWrite: it cannot be made or written, or another process writes it.
        """
        work = cls(out)
        with locked_work_folder(work.root):
            work._begin(dict(run), say)
            yield work

    def load(self, topic: str, index: int, height: int, width: int) -> NDArray[np.float32] | None:
        """Return the depth of a topic's frame, float32 (H, W); None if it is missing or damaged."""
        try:
            depth = read_depth(self._frame(topic, index), scale=1.0)
        except InputError:
            return None
        return depth.astype(np.float32) if depth.shape == (height, width) else None

    def save(self, topic: str, index: int, depth: NDArray[np.float32]) -> None:
        """Keep the depth of a topic's frame. Raises CannotWrite."""
        data = encode_npy(depth)
        write_file(self._frame(topic, index), lambda temporary: temporary.write_bytes(data))

    def finish(self) -> None:
        """Move the bag to its place, and remove the folder. Raises CannotWrite."""
        with _writing(self.out):
            if self.out.exists():
                remove_folder(self.root / "replaced")
                self.out.rename(self.root / "replaced")
            self.bag.rename(self.out)
            shutil.rmtree(self.root)

    def _frame(self, topic: str, index: int) -> Path:
        return self.root / "frames" / quote(topic, safe="") / f"{index:08d}.npy"

    def _begin(self, run: dict[str, Any], say: Callable[[str], None]) -> None:
        """Remove what this run cannot use: an unfinished bag, and the frames of another run."""
        earlier = self._earlier()
        differing = [name for name in sorted(earlier.keys() | run.keys()) if earlier.get(name) != run.get(name)]
        if earlier and differing:
            was = "; ".join(f"{name} was {earlier.get(name)}, now it is {run.get(name)}" for name in differing)
            say(f"the run that was stopped had other settings: {was}. Starting over.")
        remove_folder(self.root / "bag")
        if differing:
            remove_folder(self.root / "frames")
        write_file(self.root / RUN, lambda temporary: temporary.write_text(json.dumps(run, indent=1) + "\n"))

    def _earlier(self) -> dict[str, Any]:
        try:
            content = json.loads(read_bounded(self.root / RUN, MIB))
        except (ValueError, RecursionError):  # also what cannot be read: an InputError is a ValueError
            return {}
        return content if isinstance(content, dict) else {}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {os_reason(error)}") from error
