"""`undistort` over real ROS 2: a room through a lens, as the network sees it and where its walls come to lie."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from harness import HEIGHT, WIDTH, FakeBackend, HostedNode, Peer, answer, new_header
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, PointCloud2

from depth_anything_ros.messages.rectification import pinhole_of, rectification_of
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.model.preprocess import MEAN, STD
from depth_anything_ros.node.conversions import bgr_to_image, camera_to_info
from depth_anything_ros.synthetic.camera import SyntheticCamera, camera_rays, render
from depth_anything_ros.synthetic.ray_caster import stack_scenes

Host = Callable[..., HostedNode]
WALL_TOLERANCE = 0.01


class Watches(FakeBackend):
    """Keeps the picture that the network is given."""

    seen: NDArray[np.float32]

    def __call__(self, x: torch.Tensor) -> Outputs:
        self.seen = (x[0].permute(1, 2, 0) * torch.tensor(STD) + torch.tensor(MEAN)).numpy()
        return super().__call__(x)


def test_walls_seen_through_a_lens_are_where_they_are(host: Host, peer: Peer) -> None:
    room = SyntheticCamera(3, width=WIDTH, height=HEIGHT, distortion="plumb_bob")
    frame = room.frame(1.0)
    pinhole = pinhole_of(room.model)
    _, depth = render(stack_scenes([room.scene]), frame.position, frame.rotation, camera_rays(pinhole))
    true_depth = depth.reshape(HEIGHT, WIDTH).numpy()
    backend = Watches(true_depth)
    node = host(backend, undistort=True)
    with (
        node.camera(peer) as camera,
        peer.listen(PointCloud2, node.topic("~/points")) as clouds,
        peer.listen(CameraInfo, node.topic("~/depth/camera_info")) as infos,
    ):
        header = new_header()
        image = bgr_to_image(frame.image_bgr, header)
        cloud = camera.ask(image, clouds, camera_to_info(room.model, header))
        said = answer(infos, image)

    # What a rectified picture shows is tested beside `rectification`; here, that the network is given it.
    rectified = rectification_of(room.model)(frame.image_bgr)[..., ::-1] / np.float32(255)
    np.testing.assert_allclose(backend.seen, rectified, atol=1e-5)
    np.testing.assert_allclose(
        (said.k[0], said.k[4], said.k[2], said.k[5]), (pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy)
    )
    assert not any(said.d)

    points = np.ndarray((HEIGHT, WIDTH, 3), "<f4", bytes(cloud.data), 0, (cloud.row_step, cloud.point_step, 4))
    world = points @ frame.rotation.T + frame.position
    truth = pinhole.back_project(true_depth) @ frame.rotation.T + frame.position
    walls = [(axis, at) for axis in (0, 1) for at in (0.0, room.scene.size[axis])]
    visible = [(axis, at, np.isclose(truth[..., axis], at, atol=2e-3)) for axis, at in walls]
    assert sum(mask.mean() for _, _, mask in visible) > 0.2, "the camera sees walls"
    for axis, at, mask in visible:
        off_m = np.abs(world[mask][:, axis] - at)
        assert (off_m <= WALL_TOLERANCE * points[mask][:, 2]).all()
