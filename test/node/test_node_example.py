"""examples/own_node.py answers images with a distance."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from harness import Peer, Spinner, eventually, new_header, unique
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from depth_anything_ros.node.conversions import bgr_to_image
from depth_anything_ros.synthetic.camera import SyntheticCamera

EXAMPLE = Path(__file__).parents[2] / "examples/own_node.py"


def test_what_is_published_is_the_distance_to_the_nearest_thing_in_the_middle(peer: Peer) -> None:
    namespace = unique("example")
    node = runpy.run_path(str(EXAMPLE))["Nearest"](context=peer.context, namespace=namespace)
    frame = SyntheticCamera(seed=7).frame(0.0)
    spinner = Spinner(node, peer.context)
    try:
        with (
            peer.listen(Float32, f"{namespace}/nearest") as inbox,
            peer.publisher(Image, f"{namespace}/image") as images,
        ):

            def answered() -> bool:
                images.publish(bgr_to_image(frame.image_bgr, new_header()))
                return len(inbox) > 0

            eventually(answered, "a distance")
    finally:
        spinner.stop()
    truth = np.percentile(frame.depth[160:-160, 213:-213], 1)
    assert inbox.messages[0].data == pytest.approx(truth, rel=0.15)
