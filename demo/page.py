"""Camera, node and bridge kept running, for a browser to look at."""

from __future__ import annotations

import os
import time
import webbrowser
from pathlib import Path

from bridge.client import DepthClient, RetryPolicy
from demo.bridge import LOOPBACK, bridge_command, free_port, wait_until_up
from demo.processes import child
from depth_anything_ros.settings import ModelSettings

LOOK_EVERY_S = 0.5
SCREENS = {"DISPLAY", "WAYLAND_DISPLAY"}


def show_page(node: list[str], camera: list[str], model: ModelSettings, port: int, out: Path) -> int:
    """Run all three until Ctrl-C, and open the page where there is a browser.

    Args:
        node, camera: commands.
        port: of the page; 0 takes a free one.
        out: folder of the logs.

    Raises:
        ChildFailed: one of them ended by itself. BridgeError: the bridge does not answer.
    """
    port = port or free_port()
    url = f"http://{LOOPBACK}:{port}/"
    with (
        child("depth node", node, out / "node.log") as node_process,
        child("camera", camera, out / "camera.log") as camera_process,
        child("bridge", bridge_command(model, port, "--ros"), out / "bridge.log") as bridge_process,
        DepthClient(url, retry=RetryPolicy(attempts=1)) as client,
    ):
        wait_until_up(bridge_process, client)
        print(
            f"open {url}#robot in a browser for this camera, {url} for pictures of your own; Ctrl-C ends it", flush=True
        )
        if SCREENS & os.environ.keys():  # without one, a browser of text would take the terminal
            webbrowser.open(f"{url}#robot")
        while True:
            for process in (node_process, camera_process, bridge_process):
                process.check()
            time.sleep(LOOK_EVERY_S)
