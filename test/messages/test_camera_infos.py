"""Which CameraInfo belongs to an image, live and in a recording, also where a driver leaves stamps at 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from recorded_bags import HEIGHT, WIDTH, camera_info, header, make

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.camera_infos import KEPT, CameraInfos, RecordedCameraInfos, fields_for

TOPIC = "/front/camera_info"


def stamped(stamp_s: int, frame_id: str = "front_optical") -> Any:
    stamp = make("builtin_interfaces/msg/Time", sec=stamp_s, nanosec=0)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def info(fx: float, stamp_s: int = 0, frame_id: str = "front_optical", **changes: Any) -> Any:
    return camera_info(0, fx=fx, **{"header": stamped(stamp_s, frame_id), **changes})


class Live:
    """As the node matches: images come after what they are matched with."""

    def __init__(self) -> None:
        self.remarks: list[str] = []

    def __call__(
        self,
        *infos: Any,
        stamp_s: int = 0,
        frame_id: str = "front_optical",
        width: int = WIDTH,
        any_frame: bool = False,
    ) -> float:
        kept = CameraInfos(TOPIC, remark=self.remarks.append)
        for one in infos:
            kept.add(one)
        its_header = stamped(stamp_s, frame_id)
        return kept.match(its_header, width, HEIGHT, rectified=False, any_frame=any_frame)[1].fx


class Recorded(Live):
    """As `bag` matches: all were read before, and the image was logged right after them."""

    def __call__(
        self,
        *infos: Any,
        stamp_s: int = 0,
        frame_id: str = "front_optical",
        width: int = WIDTH,
        any_frame: bool = False,
    ) -> float:
        kept = RecordedCameraInfos(TOPIC, self.remarks.append)
        for time_ns, one in enumerate(infos):
            kept.add(one, time_ns)
        time_ns, its_header = len(infos), stamped(stamp_s, frame_id)
        return kept.match(its_header, time_ns, width, HEIGHT, rectified=False, any_frame=any_frame)[1].fx


@pytest.fixture(params=[Live, Recorded])
def matched(request: pytest.FixtureRequest) -> Live:
    made: Live = request.param()
    return made


# ---- stamps decide where they can


def test_the_info_of_the_same_stamp_is_preferred_to_a_newer_one(matched: Live) -> None:
    assert matched(info(50, 1), info(60, 2), info(70, 3), stamp_s=2) == 60


def test_without_the_same_stamp_the_latest_of_the_frame_is_taken(matched: Live) -> None:
    assert matched(info(50, 1), info(60, 2), info(70, 3, "rear"), stamp_s=9) == 60


@pytest.mark.parametrize(
    ("stamps", "image_s"),
    [((0, 0), 0), ((0, 0), 5), ((7, 7), 7), ((7, 7), 9), ((5, 6), 0)],
    ids=["all zero", "infos zero", "all the same", "infos the same", "images zero"],
)
def test_a_zoom_counts_at_once_where_stamps_say_nothing(matched: Live, stamps: tuple[int, int], image_s: int) -> None:
    before, zoomed = stamps
    assert matched(info(100, before), info(100, before), info(200, zoomed), stamp_s=image_s) == 200


def test_a_loop_that_starts_over_does_not_bring_back_what_was_true_in_the_last_one(matched: Live) -> None:
    first = [info(100, stamp_s) for stamp_s in range(1, 9)]
    second = [info(200, stamp_s) for stamp_s in range(1, 4)]
    assert matched(*first, *second, stamp_s=3) == 200


def test_after_a_start_over_an_image_whose_info_has_not_come_gets_the_latest() -> None:
    assert Live()(*(info(100, stamp_s) for stamp_s in range(1, 9)), info(200, 1), stamp_s=2) == 200


def test_an_info_is_remembered_as_long_as_promised() -> None:
    kept = CameraInfos(TOPIC)
    for stamp_s in range(1, KEPT + 2):
        kept.add(info(float(stamp_s), stamp_s))
    assert kept.match(stamped(2), WIDTH, HEIGHT, rectified=False)[1].fx == 2
    assert kept.match(stamped(1), WIDTH, HEIGHT, rectified=False)[1].fx == KEPT + 1


# ---- which can be used


def test_an_info_of_another_size_gives_way_to_an_older_one_that_fits(matched: Live) -> None:
    assert matched(info(50, 1), info(60, 2, width=2 * WIDTH), stamp_s=9) == 50


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "uncalibrated": ({"k": np.zeros(9)}, "uncalibrated"),
    "NaN": ({"k": np.full(9, math.nan)}, "finite"),
    "unknown lens": ({"distortion_model": "spiral", "d": np.full(3, 0.1)}, "unknown distortion model 'spiral'"),
    "another shape": ({"height": 99}, f"the image is {WIDTH}x{HEIGHT}, but its CameraInfo describes {WIDTH}x99"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_image_whose_own_info_is_of_no_use_gets_no_older_one(matched: Live, what: str) -> None:
    change, said = BROKEN[what]
    with pytest.raises(CameraError, match=f"no cloud from CameraInfo on {TOPIC}: .*{said}"):
        matched(info(50, 1), info(60, 2, **change), stamp_s=2)


@pytest.mark.parametrize("what", ["uncalibrated", "NaN", "unknown lens"])
def test_a_camera_that_says_it_is_uncalibrated_is_believed(matched: Live, what: str) -> None:
    with pytest.raises(CameraError, match=BROKEN[what][1]):
        matched(info(50), info(60, **BROKEN[what][0]))


def test_waiting_for_the_first_info_names_the_topic() -> None:
    with pytest.raises(CameraError, match=f"waiting for CameraInfo on {TOPIC}"):
        CameraInfos(TOPIC).match(stamped(1), WIDTH, HEIGHT, rectified=False)


# ---- frames


@pytest.mark.parametrize(
    ("of_info", "of_image"),
    [("", "left"), ("left", ""), ("/left", "left"), ("left", "/left"), ("", "")],
)
def test_an_empty_frame_is_any_and_a_leading_slash_says_nothing(matched: Live, of_info: str, of_image: str) -> None:
    assert matched(info(50, 1, of_info), stamp_s=1, frame_id=of_image) == 50
    assert not matched.remarks


def test_an_info_of_another_frame_is_refused_with_both_names(matched: Live) -> None:
    with pytest.raises(CameraError, match=r"'left'.*'right'"):
        matched(info(50, 1, "right"), stamp_s=1, frame_id="left")


def test_an_info_of_another_frame_is_used_where_that_is_allowed_and_said(matched: Live) -> None:
    assert matched(info(50, 1, "right"), stamp_s=1, frame_id="left", any_frame=True) == 50
    [said] = matched.remarks
    assert "'left'" in said
    assert "'right'" in said
    assert matched(info(50, 1, "right"), info(60, 1, "left"), stamp_s=1, frame_id="left", any_frame=True) == 60


def test_a_frame_of_a_megabyte_is_shortened_in_what_is_said(matched: Live) -> None:
    with pytest.raises(CameraError) as refused:
        matched(info(50, 1, "x\n" * 500_000), stamp_s=1, frame_id="left")
    assert len(str(refused.value)) < 400
    assert "\n" not in str(refused.value)


# ---- recordings


def recorded(*focal_lengths: tuple[int, float]) -> RecordedCameraInfos:
    """Messages of pictures with these numbers, logged ten times the number."""
    infos = RecordedCameraInfos(TOPIC)
    for index, fx in focal_lengths:
        infos.add(camera_info(index, fx=fx), 10 * index)
    return infos


def at(infos: RecordedCameraInfos, index: int, time_ns: int) -> float:
    return infos.match(header(index), time_ns, WIDTH, HEIGHT, rectified=False)[1].fx


@pytest.mark.parametrize("time_ns", [0, 20, 1000])
def test_the_info_of_the_same_stamp_is_found_on_either_side(time_ns: int) -> None:
    assert at(recorded((1, 50.0), (2, 60.0), (3, 70.0)), 2, time_ns) == 60


def test_an_info_that_changed_nothing_is_found_by_its_stamp_too() -> None:
    infos = recorded((1, 50.0), (2, 50.0), (3, 60.0), (4, 50.0))
    assert [at(infos, index, 1000) for index in (1, 2, 3, 4)] == [50, 50, 60, 50]


def test_without_the_same_stamp_it_is_the_latest_before_or_else_the_first() -> None:
    infos = recorded((2, 50.0), (4, 60.0))
    assert [at(infos, 9, time_ns) for time_ns in (10, 20, 39, 40, 90)] == [50, 50, 50, 60, 60]


def test_a_recorded_loop_gives_each_image_the_info_of_its_own_round() -> None:
    infos = RecordedCameraInfos(TOPIC)
    for round_, fx in enumerate((100.0, 200.0)):
        for stamp_s in (1, 2, 3):
            infos.add(info(fx, stamp_s), 100 * round_ + 10 * stamp_s)
    found = [
        infos.match(stamped(stamp_s), 100 * round_ + 10 * stamp_s - 1, WIDTH, HEIGHT, rectified=False)[1].fx
        for round_ in (0, 1)
        for stamp_s in (1, 2, 3)
    ]
    assert found == [100, 100, 100, 200, 200, 200], "also where the info was logged after its image"


def test_a_recording_without_stamps_gives_each_image_what_was_true_then() -> None:
    infos = RecordedCameraInfos(TOPIC)
    for time_ns, fx in ((10, 100.0), (20, 100.0), (30, 200.0), (40, 200.0)):
        infos.add(info(fx), time_ns)
    found = [infos.match(stamped(0), time_ns, WIDTH, HEIGHT, rectified=False)[1].fx for time_ns in (11, 21, 31, 41)]
    assert found == [100, 100, 200, 200]


def test_a_recording_without_any_info_says_which_frames_there_are() -> None:
    with pytest.raises(CameraError, match="frame 'front_optical'; there are: none"):
        at(recorded(), 1, 10)


# ---- what drivers leave out


def test_a_size_of_zero_is_the_images(matched: Live) -> None:
    assert matched(info(50, 1, width=0, height=0), stamp_s=1) == 50
    assert any("size is 0x0" in text for text in matched.remarks)
    sent = fields_for(info(50, 1, width=0, height=0), CameraModel(50, 50, 1, 1, WIDTH, HEIGHT))
    assert (sent["width"], sent["height"]) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_projection_of_zeros_is_published_as_k(factor: int) -> None:
    its_info = info(50, 1, p=np.zeros(12), r=np.zeros(9))
    camera = CameraModel.from_camera_info(its_info).scaled_to(factor * WIDTH, factor * HEIGHT)
    sent = fields_for(its_info, camera)
    k = np.reshape(sent["k"], (3, 3))
    np.testing.assert_array_equal(k, [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    np.testing.assert_array_equal(np.reshape(sent["p"], (3, 4)), np.column_stack([k, np.zeros(3)]))
    np.testing.assert_array_equal(np.reshape(sent["r"], (3, 3)), np.eye(3))


def test_a_lens_is_published_under_its_ros_name() -> None:
    its_info = info(50, 1, distortion_model="fisheye", d=np.full(4, 0.01))
    sent = fields_for(its_info, CameraModel.from_camera_info(its_info))
    assert (sent["distortion_model"], list(sent["d"])) == ("equidistant", [0.01] * 4)
    its_info = info(50, 1, distortion_model="none", d=np.zeros(0))
    sent = fields_for(its_info, CameraModel.from_camera_info(its_info))
    assert (sent["distortion_model"], list(sent["d"])) == ("plumb_bob", [0.0] * 5)


def test_a_rotation_between_raw_and_rectified_images_is_said_for_raw_ones(matched: Live) -> None:
    cos, sin = math.cos(math.radians(1)), math.sin(math.radians(1))
    turned = np.array([cos, 0, sin, 0, 1, 0, -sin, 0, cos])
    assert matched(info(50, 1, r=turned), stamp_s=1) == 50
    [said] = matched.remarks
    assert "R rotates rectified images by 1.00 degrees" in said
    remarks: list[str] = []
    kept = CameraInfos(TOPIC, remark=remarks.append)
    kept.add(info(50, 1, r=turned))
    kept.match(stamped(1), WIDTH, HEIGHT, rectified=True)
    assert not remarks


def test_a_usual_info_causes_no_remark(matched: Live) -> None:
    matched(info(50, 1), stamp_s=1)
    matched(info(50, 1, d=np.array([-0.1, 0.02, 0, 0, 0])), stamp_s=1)
    assert not matched.remarks
