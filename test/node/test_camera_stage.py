"""What becomes of a model's depth before it is published, without a node."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from harness import HEIGHT, INPUT_SIZE, WIDTH, FakeBackend, camera_info
from std_msgs.msg import Header

from depth_anything_ros.depth_map import Kind
from depth_anything_ros.estimator import DepthEstimator, DepthTensors
from depth_anything_ros.messages.camera_infos import CameraInfos
from depth_anything_ros.node.camera_stage import CameraStage
from depth_anything_ros.node.frame import Frame, FrameDepth
from depth_anything_ros.node.health import CameraHealth
from depth_anything_ros.node.scaling import RELATIVE_REFUSAL
from depth_anything_ros.runtime.stopwatch import Stopwatch
from depth_anything_ros.scale.alignment import AlignmentState
from depth_anything_ros.scale.fit import ScaleFit
from depth_anything_ros.settings import CameraSettings

FILL_M, NEAR_M = 5.0, 4.9  # close enough for a filter to take one for flicker of the other
SKY = (torch.arange(HEIGHT)[:, None] < HEIGHT // 2).expand(HEIGHT, WIDTH)


def estimator_of(kind: Kind, *, needs_focal: bool = False) -> DepthEstimator:
    return DepthEstimator(
        FakeBackend(), key="toy", kind=kind, max_depth=1.0, input_size=INPUT_SIZE, needs_focal=needs_focal
    )


class Bench:
    """A camera stage and its health, with a CameraInfo or without."""

    def __init__(self, *, has_info: bool = True) -> None:
        infos = CameraInfos("camera_info")
        self.header = Header(frame_id="camera", stamp=Time(sec=1))
        if has_info:
            infos.add(camera_info(header=self.header))
        self.health = CameraHealth(Mock(), Mock())
        self.stage = CameraStage(infos, self.health)

    def process(
        self, estimator: DepthEstimator, depth: float = NEAR_M, sky: torch.Tensor | None = None, **settings: Any
    ) -> FrameDepth:
        """Take a frame, a tenth of a second after the last one."""
        self.header = Header(frame_id="camera", stamp=Time(sec=1, nanosec=self.header.stamp.nanosec + 10**8))
        values = torch.full((HEIGHT, WIDTH), depth)
        if sky is not None:
            values = torch.where(sky, FILL_M, values)
        frame = Frame(self.header, np.zeros((HEIGHT, WIDTH, 3), np.uint8), Stopwatch())
        return self.stage.process(frame, DepthTensors(values, sky), estimator, CameraSettings(**settings))


def test_what_fills_the_sky_is_not_remembered_as_depth() -> None:
    bench, estimator = Bench(), estimator_of("metric")
    first = bench.process(estimator, sky=SKY, temporal_filter_s=1.0).metres
    second = bench.process(estimator, sky=SKY & False, temporal_filter_s=1.0).metres
    assert first is not None
    assert second is not None
    assert torch.equal(first == torch.inf, SKY)
    torch.testing.assert_close(second, torch.full_like(second, NEAR_M))


def test_sky_is_infinite_where_depth_has_no_unit() -> None:
    unitless = Bench().process(estimator_of("scale_invariant"), sky=SKY).scale_invariant
    no_info = Bench(has_info=False).process(estimator_of("metric", needs_focal=True), sky=SKY).scale_invariant
    for depth in (unitless, no_info):
        assert depth is not None
        assert torch.equal(depth == torch.inf, SKY)
        torch.testing.assert_close(depth[~SKY], torch.full_like(depth[~SKY], NEAR_M))


@pytest.mark.parametrize("kind", ["relative", "scale_invariant"])
def test_diagnostics_say_nothing_of_an_alignment_that_was_switched_off(kind: Kind) -> None:
    bench, estimator = Bench(), estimator_of(kind)
    bench.process(estimator, alignment="range", range_type="Range")
    assert isinstance(bench.health.alignment, AlignmentState)
    bench.process(estimator, alignment="none")
    assert bench.health.alignment is None


@pytest.mark.parametrize(
    ("kind", "needs_focal", "why"),
    [("metric", True, "toy needs a focal length, and no CameraInfo fits"), ("relative", False, RELATIVE_REFUSAL)],
)
def test_a_calibration_without_metres_says_why(
    kind: Kind, needs_focal: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[ScaleFit | Exception] = []
    bench = Bench(has_info=False)
    bench.stage.scaling.calibrate(found.append)
    bench.process(estimator_of(kind, needs_focal=needs_focal))
    monkeypatch.setattr("depth_anything_ros.scale.calibration_run.LONGEST_S", 0.0)
    bench.stage.scaling.check_time()
    assert why in str(found[0])


def test_a_rectified_image_keeps_the_camera_of_what_came_for_sensors_that_are_registered_to_it() -> None:
    infos = CameraInfos("camera_info")
    header = Header(frame_id="camera", stamp=Time(sec=1))
    infos.add(camera_info(header=header, d=[-0.2, 0.03, 0.0, 0.0, 0.0]))
    stage = CameraStage(infos, CameraHealth(Mock(), Mock()))
    frame = Frame(header, np.zeros((HEIGHT, WIDTH, 3), np.uint8), Stopwatch())
    camera = stage.rectified(frame, CameraSettings(undistort=True)).camera
    assert camera is not None
    assert camera.raw is not None
    assert camera.raw.distortion == (-0.2, 0.03, 0.0, 0.0, 0.0)
    assert not camera.model.distortion_model
