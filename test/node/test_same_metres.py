"""One scene, two cameras: node, REST and command line give the same metres, those of the scene.

In the network's place is one that does what DA3METRIC was trained for: it tells depth from how large a known thing
looks, as a camera of 300 pixels focal length would see it. So its answer is right only after the factor that the
focal length at the network's input gives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import torch
from harness import HostedNode, Peer, answer, camera_info, depth_of, eventually, image_message
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from bridge.codec import decode_npy
from bridge.server.app import create_app
from bridge.server.settings import BridgeSettings
from bridge.server.supervisor import open_listener
from bridge.server.worker import create_server
from depth_anything_ros.cli import main
from depth_anything_ros.estimator import CANONICAL_FOCAL_PX, DepthEstimator
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.preprocess import MEAN, STD, ResizeTwice
from depth_anything_ros.serving.model_cache import ModelCache

DISTANCE_M, BOARD_M = 3.0, 1.0
TOLERANCE = 0.01


@dataclass(frozen=True)
class Lens:
    """A camera that looks at the board, its principal point in the middle."""

    focal_px: float
    width: int
    height: int

    def picture(self) -> NDArray[np.uint8]:
        """A white square board on black; pixels at its rim are grey by how much of them it covers."""
        half_px = self.focal_px * BOARD_M / 2 / DISTANCE_M

        def covered(length: int) -> NDArray[np.float64]:
            low = np.arange(length) - length / 2
            share: NDArray[np.float64] = np.clip(np.minimum(low + 1, half_px) - np.maximum(low, -half_px), 0, 1)
            return share

        share = covered(self.height)[:, None] * covered(self.width)
        return np.repeat(np.rint(255 * share).astype(np.uint8)[..., None], 3, axis=2)


LENSES = (Lens(100.0, 160, 120), Lens(300.0, 320, 240))  # the second one: zoomed in, and of more pixels


class Measures:
    """In the network's place: the board's depth by its area in the network's input."""

    name, precision, weight_bytes, max_batch, device = "measures", "fp32", 0, 1, torch.device("cpu")

    def __call__(self, x: torch.Tensor) -> Outputs:
        area = (x[:, 0] * STD[0] + MEAN[0]).sum()
        depth = CANONICAL_FOCAL_PX * BOARD_M / area.sqrt()
        return {"depth": depth.expand(x[:, 0].shape).clone(), "sky": torch.zeros_like(x[:, 0])}


def estimator() -> DepthEstimator:
    return DepthEstimator(
        Measures(),
        key="toy_da3metric_126",
        kind="metric",
        max_depth=1.0,
        input_size=126,
        preprocessing=ResizeTwice(),
        needs_focal=True,
    )


@contextmanager
def bridge() -> Iterator[httpx.Client]:
    settings = BridgeSettings(port=0, default_encoder="toy", default_dataset="da3metric", checkpoint="untrained")
    app = create_app(ModelCache(devices=["cpu"], load=lambda _: estimator()), settings)
    listener = open_listener("127.0.0.1", 0)
    server = create_server(app, settings)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        eventually(lambda: server.started, "the bridge")
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        app.state.worker.drain()
        thread.join(30)


def by_rest(client: httpx.Client, lens: Lens) -> NDArray[np.float32]:
    content = cv2.imencode(".png", lens.picture())[1].tobytes()
    headers = {"Content-Type": "image/png", "Accept": "application/x-npy"}
    found = client.post("/metric_depth", params={"focal_px": lens.focal_px}, content=content, headers=headers)
    assert found.status_code == 200, found.text
    return decode_npy(found.content)


def by_command_line(lens: Lens, folder: Path) -> NDArray[np.float32]:
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), lens.picture())
    options = ("--encoder", "toy", "--dataset", "da3metric", "--formats", "npy", "--fx", str(lens.focal_px))
    assert main(["predict", str(folder / "a.png"), "--out", str(folder / "out"), *options]) == 0
    depth: NDArray[np.float32] = np.load(folder / "out/npy/a.npy")
    return depth


def test_one_scene_seen_by_two_cameras_has_the_same_metres_everywhere(
    host: Callable[..., HostedNode], peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DepthEstimator, "from_settings", lambda _: estimator())
    found: dict[str, NDArray[np.float32]] = {}
    node = host(load=lambda _: estimator())
    with node.camera(peer) as camera, peer.listen(Image, node.topic("depth_anything/depth/image")) as inbox:
        for index, lens in enumerate(LENSES):
            image = image_message(lens.picture())
            info = camera_info(lens.width, lens.height, image.header)
            info.k[0] = info.k[4] = lens.focal_px
            camera.ask(image, inbox, info)
            found[f"node {index}"] = depth_of(answer(inbox, image))
    with bridge() as client:
        for index, lens in enumerate(LENSES):
            found[f"rest {index}"] = by_rest(client, lens)
            found[f"cli {index}"] = by_command_line(lens, tmp_path / str(index))
    for name, depth in found.items():
        np.testing.assert_allclose(depth, DISTANCE_M, rtol=TOLERANCE, err_msg=name)
    for index in range(2):  # and to the bit, wherever the same picture went
        np.testing.assert_allclose(found[f"node {index}"], found[f"cli {index}"], rtol=1e-6)
        np.testing.assert_allclose(found[f"rest {index}"], found[f"cli {index}"], rtol=1e-6)
