"""What drivers really send, through the whole node: 16 bits, mosaics, CameraInfo without stamps or of other frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from harness import (
    HEIGHT,
    WIDTH,
    Camera,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    camera_info,
    fields_of,
    image_message,
    new_header,
)
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from depth_anything_ros.model.depth_network import Outputs

Host = Callable[..., HostedNode]
# All values, none of them rare; and a colour that grey has nothing of.
SHADES = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
ORANGE = np.full((HEIGHT, WIDTH, 3), (20, 120, 230), np.uint8)


class Eye(FakeBackend):
    """Keeps what the network was shown last, (3, h, w)."""

    seen: torch.Tensor

    def __call__(self, x: torch.Tensor) -> Outputs:
        self.seen = x[0].clone()
        return super().__call__(x)


@contextmanager
def talking_to(node: HostedNode, peer: Peer, output: str, kind: type = Image) -> Iterator[tuple[Camera, Inbox]]:
    with ExitStack() as stack:
        inbox = stack.enter_context(peer.listen(PointCloud2 if "points" in output else Image, node.topic(output)))
        topic = "image/compressed" if kind is CompressedImage else "image"
        yield stack.enter_context(node.camera(peer, kind, topic)), inbox


def compressed(pixels: NDArray[Any], form: str) -> CompressedImage:
    msg = CompressedImage(header=new_header(), format=form)
    msg.data.frombytes(bytes(cv2.imencode(".png", pixels)[1]))
    return msg


@pytest.mark.parametrize("low_high", [(0, 1023), (0, 4095), (7000, 8500)])
def test_a_16_bit_camera_is_seen_as_bright_as_one_of_8_bits_and_its_levels_are_said(
    host: Host, peer: Peer, low_high: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    low, high = low_high
    eye = Eye()
    with talking_to(host(eye), peer, "~/depth/image") as (camera, depths):
        camera.ask(image_message(SHADES, "mono8"), depths)
        expected = eye.seen
        for _ in range(3):
            counts = np.rint(low + SHADES.astype(np.float64) / 255 * (high - low)).astype(np.uint16)
            camera.ask(image_message(counts, "mono16"), depths)
    assert (eye.seen - expected).abs().max() < 0.05  # of a spread of 4
    assert capfd.readouterr().err.count("is taken for black") == 1


def test_levels_that_are_set_are_used_for_compressed_images_too(host: Host, peer: Peer) -> None:
    eye = Eye()
    node = host(eye, image_transport="compressed", white_level=1023)
    with talking_to(node, peer, "~/depth/image", CompressedImage) as (camera, depths):
        camera.ask(compressed(SHADES, "mono8; png compressed mono8"), depths)
        expected = eye.seen
        camera.ask(compressed(SHADES.astype(np.uint16) << 2, "mono16; png compressed mono16"), depths)
    assert (eye.seen - expected).abs().max() < 0.05


def test_a_compressed_mosaic_is_seen_in_colour(host: Host, peer: Peer) -> None:
    eye = Eye()
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for place, channel in enumerate((2, 1, 1, 0)):  # r g, g b
        mosaic[place // 2 :: 2, place % 2 :: 2] = ORANGE[0, 0, channel]
    node = host(eye, image_transport="compressed")
    with talking_to(node, peer, "~/depth/image", CompressedImage) as (camera, depths):
        camera.ask(compressed(ORANGE, "bgr8; png compressed bgr8"), depths)
        expected = eye.seen
        camera.ask(compressed(mosaic, "bayer_rggb8; png compressed bayer_rggb8"), depths)
    assert (eye.seen - expected).abs().max() < 0.05


def test_an_encoding_in_capitals_is_read_with_one_line(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    with talking_to(host(), peer, "~/depth/image") as (camera, depths):
        for _ in range(3):
            camera.ask(image_message(encoding="BGR8"), depths)
    assert capfd.readouterr().err.count("image encoding 'BGR8' is read as bgr8") == 1


def width_of(cloud: Any) -> float:
    x = fields_of(cloud)[0][..., 0]
    return float(x.max() - x.min())


def test_a_zoom_of_a_camera_without_stamps_reaches_the_next_cloud(host: Host, peer: Peer) -> None:
    without_stamp = Header(frame_id="camera_optical_frame")
    infos = [camera_info(header=without_stamp), camera_info(header=without_stamp)]
    infos[1].k[0] *= 2
    with talking_to(host(), peer, "~/points") as (camera, clouds):
        wide, zoomed = (width_of(camera.ask(image_message(), clouds, info)) for info in infos)
    assert zoomed == pytest.approx(wide / 2, rel=1e-4)


def test_a_camera_info_of_another_frame_is_used_where_the_parameter_says_so(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    node = host(camera_info_any_frame=True)
    with talking_to(node, peer, "~/points") as (camera, clouds):
        for _ in range(2):
            camera.ask(image_message(), clouds, camera_info(header=new_header("elsewhere")))
    assert capfd.readouterr().err.count("is of frame 'elsewhere'") == 1
