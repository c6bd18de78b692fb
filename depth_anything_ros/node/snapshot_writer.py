"""The service ~/snapshot: writes every camera's last frame, in a thread of its own: a large cloud takes a second.

What a snapshot consists of is in `io/snapshots`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future as Work
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from rclpy.node import Node
from rclpy.task import Future

from depth_anything_ros.errors import describe
from depth_anything_ros.io.snapshots import write_snapshot
from depth_anything_ros.node.camera_pipeline import CameraPipeline

SNAPSHOT_FOLDER = "depth_anything_snapshots"


class SnapshotWriter:
    """Owns the thread that writes; the thread exists from the first snapshot on.

    Args:
        node: whose executor waits for it.
        cameras: the cameras.
        folder: None is `depth_anything_snapshots` in the ROS home.
    """

    def __init__(self, node: Node, cameras: Sequence[CameraPipeline], folder: str | None) -> None:
        self._node = node
        self._cameras = cameras
        self._folder = snapshot_folder(folder)
        self._thread = ThreadPoolExecutor(1, "files")
        self._writing: set[Work[None]] = set()

    async def write(self) -> tuple[bool, str]:
        """Write every camera's latest frame. Returns success, and the folders or the reason."""
        latest = [camera.latest for camera in self._cameras if camera.latest is not None]
        if not latest:
            return False, "no frame with metric depth was published yet"
        written: Future[str] = Future(executor=self._node.executor)

        def work() -> None:
            try:
                written.set_result(", ".join(str(write_snapshot(snapshot, self._folder)) for snapshot in latest))
            except Exception as error:
                written.set_exception(error)

        self._writing = {self._thread.submit(work)}  # one after the other: when the last is done, all are
        try:
            return True, await written or ""
        except Exception as error:
            return False, describe(error)

    def join(self, timeout_s: float) -> bool:
        """Wait for what is being written. Returns False if it still is after the time."""
        return not wait(self._writing, timeout_s).not_done


def snapshot_folder(name: str | None) -> Path:
    """Return the folder for snapshots; None is `depth_anything_snapshots` in the ROS home."""
    if name is not None:
        return Path(name).expanduser()
    return Path(os.environ.get("ROS_HOME", "~/.ros")).expanduser() / SNAPSHOT_FOLDER
