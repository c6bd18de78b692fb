"""The folder beside a bag that is being made: depth that was estimated already, and the bag so far.

::

    .part-OUT/run.json                    the bag that is read, the model
    .part-OUT/frames/TOPIC/00000000.npy   depth of a topic's frame, float32 (H, W); TOPIC with its slashes as %2F
    .part-OUT/bag/OUT/                    the bag; it is begun anew by every run, from the frames that are there
    .part-OUT/replaced/                   the bag that was at OUT, while the new one takes its place

When the bag is complete it moves to its place, and the folder goes.
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

from depth_anything_ros.errors import CannotWrite, InputError, OtherRun
from depth_anything_ros.io.whole_files import locked, write_file
from depth_anything_ros.offline.bag.files import is_bag

RUN = "run.json"


def check_target(out: Path, source: Path, *, overwrite: bool) -> None:
    """See that a bag may be written as `out`.

    Raises:
        OtherRun: there is something already, which is not to be overwritten or is no bag.
        InputError: it would lie in the place of what is read, or a file's suffix says that no folder is meant.
    """
    if out.suffix in (".mcap", ".db3"):
        raise InputError(f"{out} names a file; a bag is written as a folder: leave {out.suffix} out")
    if source.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{out} holds the bag that is read")
    if not out.exists():
        return
    if not overwrite:
        raise OtherRun(f"{out} exists. Choose another place, or let --overwrite replace it.")
    if not is_bag(out):
        raise OtherRun(f"{out} is no bag's folder: it is not overwritten")


class WorkFolder:
    """What lies beside a bag while it is made."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.root = self.out.with_name(f".part-{self.out.name}")
        self.bag = self.root / "bag" / self.out.name

    @classmethod
    @contextmanager
    def open(cls, out: Path, run: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[WorkFolder]:
        """Make the folder, or take up what an unfinished run left; no other process gets it meanwhile.

        Args:
            run: what frames must have in common to belong into one bag, as JSON has it. Those of another run are
                removed, and `say` is told why.

        Raises:
            CannotWrite: it cannot be made or written, or another process writes it.
        """
        work = cls(out)
        with locked(work.root):
            work._begin(dict(run), say)
            yield work

    def load(self, topic: str, index: int, height: int, width: int) -> NDArray[np.float32] | None:
        """Return the depth of a topic's frame, float32 (H, W); None where it is not there, or damaged."""
        try:
            depth = np.load(self._frame(topic, index), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return depth if depth.shape == (height, width) and depth.dtype == np.float32 else None

    def save(self, topic: str, index: int, depth: NDArray[np.float32]) -> None:
        """Keep the depth of a topic's frame. Raises CannotWrite."""
        write_file(self._frame(topic, index), lambda temporary: np.save(temporary, depth, allow_pickle=False))

    def finish(self) -> None:
        """Move the bag to its place, and remove the folder. Raises CannotWrite."""
        with _writing(self.out):
            if self.out.exists():
                _remove(self.root / "replaced")
                self.out.rename(self.root / "replaced")
            self.bag.rename(self.out)
            shutil.rmtree(self.root)

    def _frame(self, topic: str, index: int) -> Path:
        return self.root / "frames" / quote(topic, safe="") / f"{index:08d}.npy"

    def _begin(self, run: dict[str, Any], say: Callable[[str], None]) -> None:
        """Remove what this run cannot use: the bag that was begun, and the frames of another run."""
        earlier = self._earlier()
        differing = [name for name in sorted(earlier.keys() | run.keys()) if earlier.get(name) != run.get(name)]
        if earlier and differing:
            was = "; ".join(f"{name} was {earlier.get(name)}, now it is {run.get(name)}" for name in differing)
            say(f"an unfinished run was another: {was}. Starting anew.")
        with _writing(self.root):
            _remove(self.root / "bag")
            if differing:
                _remove(self.root / "frames")
        write_file(self.root / RUN, lambda temporary: temporary.write_text(json.dumps(run, indent=1) + "\n"))

    def _earlier(self) -> dict[str, Any]:
        try:
            content = json.loads((self.root / RUN).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written: {error.strerror}") from error
