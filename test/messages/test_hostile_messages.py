"""Messages of any content are read or refused with a `DepthAnythingError`: no other exception, no warning."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace as Message
from typing import Any

import numpy as np
import pytest

from depth_anything_ros.errors import DepthAnythingError
from depth_anything_ros.messages.camera_infos import CameraInfos, RecordedCameraInfos, fields_for
from depth_anything_ros.messages.images import ENCODINGS, compressed_to_bgr, image_to_bgr
from depth_anything_ros.messages.levels import LevelFinder
from depth_anything_ros.messages.ranges import depth_of, points_of, range_reading

COUNT = 300
SIZES = (0, 1, 2, 4, 5, 8, 12, 16, 64, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 0.5, 100.0, 500.0)
TEXTS = ("", "a", "/a", "b\n" * 1000)


def some_data(rng: random.Random, fitting: int) -> Any:
    count = fitting % 2**14 if rng.random() < 0.5 else rng.choice((0, 1, 7, 48, 192, 1000))
    return np.frombuffer(rng.randbytes(count), np.uint8)


def some_image(rng: random.Random) -> Any:
    width, height, channels = rng.choice(SIZES), rng.choice(SIZES), rng.choice((1, 2, 3, 4, 6, 8))
    return Message(
        width=width,
        height=height,
        encoding=rng.choice((*ENCODINGS, "16UC1", "32FC1", "BGR8", *TEXTS)),
        step=rng.choice((*SIZES, width * channels)),
        is_bigendian=rng.choice((0, 1)),
        data=some_data(rng, width * height * channels),
    )


def some_cloud(rng: random.Random) -> Any:
    width, height = rng.choice(SIZES), rng.choice(SIZES)
    fields = [Message(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")]
    if rng.random() < 0.5:
        fields[rng.randrange(3)] = Message(
            name=rng.choice("xyi"),
            offset=rng.choice(SIZES),
            datatype=rng.randrange(12),
            count=rng.choice(SIZES),
        )
    return Message(
        width=width,
        height=height,
        fields=fields,
        is_bigendian=rng.random() < 0.5,
        point_step=rng.choice((*SIZES, 12)),
        row_step=rng.choice((*SIZES, 12 * width)),
        data=some_data(rng, 12 * width * height),
    )


def some_scan(rng: random.Random) -> Any:
    names = ("angle_min", "angle_increment", "range_min", "range_max")
    numbers = {name: rng.choice(NUMBERS) for name in names}
    return Message(**numbers, ranges=rng.choices(NUMBERS, k=rng.randrange(8)))


def some_range(rng: random.Random) -> Any:
    return Message(**{name: rng.choice(NUMBERS) for name in ("field_of_view", "min_range", "max_range", "range")})


def some_header(rng: random.Random) -> Any:
    return Message(
        frame_id=rng.choice(TEXTS), stamp=Message(sec=rng.choice((0, 1, -(2**31))), nanosec=rng.choice(SIZES))
    )


def some_info(rng: random.Random) -> Any:
    sound = [50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
    return Message(
        header=some_header(rng),
        width=rng.choice((0, 64, 2**32 - 1)),
        height=rng.choice((0, 48, 2**32 - 1)),
        distortion_model=rng.choice(("plumb_bob", "rational_polynomial", "equidistant", "fisheye", *TEXTS)),
        d=rng.choices(NUMBERS, k=rng.choice((0, 1, 4, 5, 8, 14, 20))),
        k=sound if rng.random() < 0.7 else rng.choices(NUMBERS, k=9),
        r=rng.choices(NUMBERS, k=9),
        p=rng.choices(NUMBERS, k=12),
        binning_x=rng.choice((0, 1, 2, 2**32 - 1)),
        binning_y=rng.choice((0, 1, 2)),
        roi=Message(x_offset=rng.choice(SIZES), y_offset=0, width=rng.choice((0, 32)), height=0, do_rectify=False),
    )


def match(rng: random.Random) -> None:
    live, recorded = CameraInfos("/info"), RecordedCameraInfos("/info")
    for time_ns in range(3):
        info = some_info(rng)
        live.add(info)
        recorded.add(info, time_ns)
    header, how = some_header(rng), {"rectified": rng.random() < 0.5, "any_frame": rng.random() < 0.5}
    try:
        recorded.match(header, rng.randrange(4), 64, 48, **how)
    finally:
        info, camera = live.match(header, 64, 48, **how)
        fields_for(info, camera)
        camera.rays()


READERS: dict[str, Callable[[random.Random], Any]] = {
    "image": lambda rng: image_to_bgr(some_image(rng), LevelFinder()),
    "depth image": lambda rng: depth_of(some_image(rng)),
    "compressed image": lambda rng: compressed_to_bgr(Message(format=rng.choice(TEXTS), data=some_data(rng, 0))),
    "cloud": lambda rng: points_of(some_cloud(rng)),
    "scan": lambda rng: points_of(some_scan(rng)),
    "range": lambda rng: range_reading(some_range(rng)),
    "CameraInfo": match,
}


@pytest.mark.parametrize("kind", READERS)
def test_a_message_of_any_content_is_read_or_refused_by_name(kind: str) -> None:
    rng = random.Random(7)
    refused = []
    for _ in range(COUNT):
        try:
            READERS[kind](rng)
        except DepthAnythingError as error:
            refused.append(str(error))
    assert refused, "this test has to meet what is not in order"
    assert max(map(len, refused)) < 1500
