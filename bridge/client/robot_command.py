"""`depth_anything_client --cameras`, `--camera NAME`, `--camera NAME --watch`: what the robot's cameras see."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bridge.client.calls import plain
from bridge.client.client import DepthClient
from bridge.client.errors import BridgeError
from bridge.client.results import depth_range, write, write_depth
from bridge.client.robot import RobotCamera
from bridge.client.robot_calls import RobotFrame
from depth_anything_ros.io.result_names import safe_name

LINE_EVERY_S = 1.0
PLY = "application/x-ply"
# The server's words for a cloud that cannot be: the depth is written without it.
NO_CLOUD_CODES = ("uncalibrated", "no_metres")


def list_cameras(client: DepthClient) -> None:
    """Print a line for each of the robot's cameras."""
    cameras = client.cameras()
    for camera in cameras:
        print(plain(described(camera)))
    if not cameras:
        print("no camera: the server hears no depth node")


def described(camera: dict[str, Any]) -> str:
    """A camera's line."""
    size = f"{camera['width']}x{camera['height']}" if camera["width"] else "no picture yet"
    rate = f"{camera['rate_out_hz']:.1f} Hz" if camera["rate_out_hz"] is not None else "no depth yet"
    return f"{camera['name']}: {camera['state']}, {size}, {rate}, {camera['model']}, {camera['node']}"


def save_frame(camera: RobotCamera, folder: Path) -> None:
    """Write the latest depth, and what follows from it, as files named after the camera."""
    frame = camera.depth()
    target = folder / safe_name(camera.name)
    written = plain(write_depth(target, frame.values, frame.header.kind))
    print(line_of(camera.name, frame))
    print(f"  -> {target}{written}{_cloud(camera, target)}")


def _cloud(camera: RobotCamera, target: Path) -> str:
    """Write the cloud, where there is one; what is said of it."""
    try:
        cloud = camera.file("points", PLY)
    except BridgeError as error:
        if error.code not in NO_CLOUD_CODES:
            raise
        return f"; no cloud: {error}"
    write(Path(f"{target}.ply"), cloud)
    return ", .ply"


def watch(camera: RobotCamera) -> None:
    """Print a line a second about the latest depth, until Ctrl-C."""
    shown_s, frames = time.monotonic(), 0
    for frame in camera.stream():
        frames += 1
        now_s = time.monotonic()
        if now_s - shown_s >= LINE_EVERY_S:
            print(f"{line_of(camera.name, frame)}, {frames / (now_s - shown_s):.1f} frames/s", flush=True)
            shown_s, frames = now_s, 0


def line_of(name: str, frame: RobotFrame) -> str:
    """What a frame of depth holds, in a line."""
    header, values = frame.header, frame.values
    unit = " m" if header.kind == "metric" else ""
    lowest, highest = depth_range(values)
    centre = float(values[values.shape[0] // 2, values.shape[1] // 2])
    line = f"{name}: {header.width}x{header.height} {header.kind}, {lowest:.2f} to {highest:.2f}{unit}"
    return plain(f"{line}, centre {centre:.2f}{unit}, stamp {frame.stamp_s:.3f}")
