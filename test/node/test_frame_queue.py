"""Where frames wait: the newest of each camera, and whose turn it is."""

from __future__ import annotations

import threading

import pytest

from depth_anything_ros.node.frame_queue import FrameQueue


def taken(queue: FrameQueue[int], count: int) -> list[tuple[int, int]]:
    """Take so many times, one frame each."""
    turns = [queue.next_batch() for _ in range(count)]
    return [turn for [turn] in filter(None, turns)]


def test_a_full_queue_gives_way_to_the_newest_and_says_so() -> None:
    latest: FrameQueue[int] = FrameQueue([1])
    assert [latest.put(0, frame) for frame in (1, 2, 3)] == [False, True, True]
    assert latest.next_batch() == [(0, 3)]


def test_a_longer_queue_hands_frames_out_in_order() -> None:
    queue: FrameQueue[int] = FrameQueue([3])
    assert [queue.put(0, frame) for frame in (1, 2, 3, 4)] == [False, False, False, True]
    assert taken(queue, 3) == [(0, 2), (0, 3), (0, 4)]


def test_take_waits_for_a_frame_and_close_ends_the_wait() -> None:
    queue: FrameQueue[int] = FrameQueue([1])
    found: list[list[tuple[int, int]] | None] = []
    has_frame = threading.Event()

    def take_all() -> None:
        while found[-1:] != [None]:
            found.append(queue.next_batch())
            has_frame.set()

    taker = threading.Thread(target=take_all)
    taker.start()
    queue.put(0, 7)
    assert has_frame.wait(20)
    queue.close()
    taker.join(20)
    assert found == [[(0, 7)], None]


def test_clear_drops_the_waiting_frames_of_one_camera_and_counts_them() -> None:
    queue: FrameQueue[int] = FrameQueue([5, 5])
    for frame in range(4):
        queue.put(0, frame)
    queue.put(1, 9)
    assert queue.clear(0) == 4
    assert queue.clear(0) == 0
    assert queue.next_batch() == [(1, 9)]


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 50, 2]])
def test_cameras_take_turns_however_many_frames_one_sends(sizes: list[int]) -> None:
    queue: FrameQueue[int] = FrameQueue(sizes)
    order = []
    for frame in range(30):
        for camera, count in enumerate((1, 20, 3)):  # the second sends far more than the others
            for _ in range(count):
                queue.put(camera, frame)
        order += [camera for camera, _ in taken(queue, 3)]
    assert [order.count(camera) for camera in range(3)] == [30, 30, 30]


def test_a_camera_that_sends_nothing_costs_nothing() -> None:
    queue: FrameQueue[int] = FrameQueue([1, 1, 1])
    for frame in range(10):
        queue.put(0, frame)
        queue.put(2, frame)
        assert sorted(taken(queue, 2)) == [(0, frame), (2, frame)]


def test_a_camera_that_comes_back_is_next() -> None:
    queue: FrameQueue[int] = FrameQueue([1, 1])
    for frame in range(5):
        queue.put(0, frame)
        queue.next_batch()
    queue.put(0, 5)
    queue.put(1, 5)
    assert taken(queue, 2) == [(1, 5), (0, 5)]


def test_frames_of_a_kind_are_taken_together_one_of_each_camera() -> None:
    queue: FrameQueue[int] = FrameQueue([2, 2, 2, 2])
    for camera, frame in ((0, 10), (1, 21), (2, 12), (0, 14), (3, 16)):
        queue.put(camera, frame)
    assert queue.next_batch(3, key=lambda frame: frame // 10) == [(0, 10), (2, 12), (3, 16)]
    assert queue.next_batch(3, key=lambda frame: frame // 10) == [(1, 21)]
    assert queue.next_batch(3, key=lambda frame: frame // 10) == [(0, 14)]


def test_frames_of_no_kind_go_alone() -> None:
    queue: FrameQueue[int] = FrameQueue([1, 1])
    queue.put(0, 1)
    queue.put(1, 1)
    assert queue.next_batch(8, key=lambda frame: None) == [(0, 1)]
