"""Which CameraInfo of a recording belongs to an image: its own first, wherever it lies."""

from __future__ import annotations

import pytest
from recorded_bags import HEIGHT, WIDTH, camera_info, header

from depth_anything_ros.errors import CameraError
from depth_anything_ros.messages.camera_infos import RecordedCameraInfos


def recorded(*focal_lengths: tuple[int, float]) -> RecordedCameraInfos:
    """Messages of pictures with these numbers, logged ten times the number."""
    infos = RecordedCameraInfos("/front/camera_info")
    for index, fx in focal_lengths:
        infos.add(camera_info(index, fx=fx), 10 * index)
    return infos


def matched(infos: RecordedCameraInfos, index: int, time_ns: int, width: int = WIDTH) -> float:
    return infos.match(header(index), time_ns, width, HEIGHT, rectified=False)[1].fx


@pytest.mark.parametrize("time_ns", [0, 20, 1000])
def test_the_info_of_the_same_stamp_is_found_on_either_side(time_ns: int) -> None:
    assert matched(recorded((1, 50.0), (2, 60.0), (3, 70.0)), 2, time_ns) == 60


def test_an_info_that_changed_nothing_is_found_by_its_stamp_too() -> None:
    infos = recorded((1, 50.0), (2, 50.0), (3, 60.0), (4, 50.0))
    assert [matched(infos, index, 1000) for index in (1, 2, 3, 4)] == [50, 50, 60, 50]


def test_without_the_same_stamp_it_is_the_latest_before_or_else_the_first() -> None:
    infos = recorded((2, 50.0), (4, 60.0))
    assert [matched(infos, 9, time_ns) for time_ns in (10, 20, 39, 40, 90)] == [50, 50, 50, 60, 60]


def test_one_that_does_not_fit_gives_way_to_one_that_does() -> None:
    infos = recorded((1, 50.0))
    infos.add(camera_info(2, width=2 * WIDTH, fx=60.0), 20)
    assert matched(infos, 2, 20) == 50
    assert matched(infos, 1, 10, width=2 * WIDTH) == 60
    with pytest.raises(CameraError, match="/front/camera_info: the image is 7x48"):
        matched(infos, 1, 10, width=7)


def test_another_frame_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(CameraError, match="frame 'front_optical'; there are: none"):
        matched(recorded(), 1, 10)
    infos = recorded()
    infos.add(camera_info(1, header=header(1, "rear")), 10)
    with pytest.raises(CameraError, match="there are: 'rear'"):
        matched(infos, 1, 10)
