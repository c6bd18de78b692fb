"""What the tests of the robot's cameras share: the processes, and clients to ask them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from harness import Inbox, NodeProcess, Peer, camera_info, eventually, image_message, unique
from running_bridge import TOY, UNTRAINED, RunningBridge, launch
from sensor_msgs.msg import CameraInfo, Image
from websockets.sync.client import ClientConnection, connect

from bridge.frame_header import FrameHeader, unpack

KEY, OTHER_KEY = "key-of-the-tests", "another-key"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
RAW = {"Accept": "application/octet-stream"}
SETTINGS = ("--ros", f"--api-key={KEY}")


@dataclass
class RobotUnderTest:
    """A node whose only camera is synthetic, one with cameras `left` and `right` that tests feed, and the bridge."""

    peer: Peer
    front: NodeProcess
    rig: NodeProcess
    bridge: RunningBridge
    images: dict[str, Any] = field(default_factory=dict)  # publishers of the rig's cameras
    infos: dict[str, Any] = field(default_factory=dict)

    @property
    def front_name(self) -> str:
        """What the bridge calls the only camera of a node."""
        return self.front.namespace.strip("/")

    def rig_name(self, camera: str) -> str:
        """What it calls one of several."""
        return f"{self.rig.namespace.strip('/')}.{camera}"

    def url(self, camera: str, what: str) -> str:
        """Path of something of a camera."""
        return f"/cameras/{camera}/{what}"

    def http(self, **headers: str) -> httpx.Client:
        """A client with the key."""
        return httpx.Client(base_url=self.bridge.url, timeout=30, headers=AUTHORIZED | headers)

    def cameras(self) -> dict[str, dict[str, Any]]:
        """What `GET /cameras` says, by name."""
        with self.http() as client:
            return {camera["name"]: camera for camera in client.get("/cameras").raise_for_status().json()["cameras"]}

    @contextmanager
    def stream(self, camera: str, query: str = "", **headers: str) -> Iterator[ClientConnection]:
        """A stream, with the key unless other headers are given."""
        url = f"ws://127.0.0.1:{self.bridge.port}{self.url(camera, 'stream')}{query}"
        with connect(url, additional_headers=headers or AUTHORIZED, max_size=None, compression=None) as socket:
            yield socket

    def feed(self, camera: str, *, has_info: bool = True) -> Image:
        """Publish a picture of noise to one of the rig's cameras; return its message."""
        image = image_message(np.random.default_rng().integers(0, 256, (56, 84, 3), np.uint8))
        if has_info:
            self.infos[camera].publish(camera_info(header=image.header))
        self.images[camera].publish(image)
        return image


def receive(socket: ClientConnection, timeout_s: float = 20.0) -> tuple[FrameHeader, memoryview]:
    """The next frame of a stream."""
    message = socket.recv(timeout=timeout_s)
    assert isinstance(message, bytes)
    return unpack(message)


def text_of(stamp: Any) -> str:
    """A stamp as X-Stamp has it."""
    return f"{stamp.sec}.{stamp.nanosec:09d}"


def with_text(inbox: Inbox, text: str) -> Any:
    """Wait for the message with this X-Stamp."""

    def find() -> Any:
        return next((msg for msg in list(inbox.messages) if text_of(msg.header.stamp) == text), None)

    return eventually(find, f"a message of {text}")


@contextmanager
def running_robot(folder: Path, peer: Peer) -> Iterator[RobotUnderTest]:
    """Start everything at once, and wait until the bridge knows all three cameras."""
    with ExitStack() as stack:
        front_space = unique("front")
        front = stack.enter_context(NodeProcess(folder / "front.txt", front_space))
        rig = stack.enter_context(NodeProcess(folder / "rig.txt", unique("rig"), cameras="[left,right]"))
        module = "depth_anything_ros.node.synthetic_camera"
        camera = NodeProcess(folder / "camera.txt", front_space, (), module, rate_hz=10.0, width=84, height=56)
        stack.enter_context(camera)
        bridge = launch(folder / "bridge.txt", *TOY, *UNTRAINED, *SETTINGS)
        stack.callback(bridge.end)
        robot = RobotUnderTest(peer, front, rig, bridge)
        for name in ("left", "right"):
            robot.images[name] = stack.enter_context(peer.publisher(Image, rig.topic(f"{name}/image")))
            robot.infos[name] = stack.enter_context(peer.publisher(CameraInfo, rig.topic(f"{name}/camera_info")))
        lines = eventually(lambda: bridge.logged("listening on"), "a port", 60)
        bridge.port = int(lines[0]["message"].rpartition(":")[2])
        eventually(bridge.is_ready, "a bridge", 60)

        def all_active() -> bool:
            cameras = robot.cameras()
            return len(cameras) == 3 and all(camera["state"] == "active" for camera in cameras.values())

        eventually(all_active, "three cameras", 60)
        yield robot
