"""The parts behind the robot's cameras, each alone: names, states, limits, pairing, tickets, the frame's header."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr, ValidationError
from running_bridge import toy_settings
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from bridge.codec import decode_depth_png16
from bridge.frame_header import FrameHeader, UndecodableFrame, unpack
from bridge.server.auth import KeyRing
from bridge.server.errors import (
    CameraGone,
    CameraInactive,
    NoCalibration,
    NoMetres,
    NotAcceptable,
    Overloaded,
    RateLimited,
    TooManyStreams,
    Unauthorized,
    UnknownCamera,
)
from bridge.server.robot import feed as feeds
from bridge.server.robot.camera_status import CameraStatus, describe, read_status
from bridge.server.robot.encodings import encode, etag_of
from bridge.server.robot.feed import Feed, LatestOnly
from bridge.server.robot.frames import Frame
from bridge.server.robot.limits import StreamLimits
from bridge.server.robot.pairing import Pairing
from bridge.server.robot.quiet_websocket import frame_header
from bridge.server.robot.roster import FORGOTTEN_S, GONE_S, Roster
from bridge.server.robot.streams import Pace
from bridge.server.sessions import TICKET_LIFETIME_S, Sessions, Tickets

TOPICS = "image=/cam/image depth/image=/d depth/camera_info=/i points=/p relative/image=/r scale_invariant/image=/s"


class Clock:
    """Seconds that the test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """Notes who subscribes, and hands over messages."""

    def __init__(self) -> None:
        self.listeners: dict[str, Callable[[Any], None]] = {}

    def subscribe(self, what: str, topic: str, listener: Callable[[Any], None]) -> Callable[[], None]:
        self.listeners[topic] = listener
        return lambda: self.listeners.__delitem__(topic)


def status(node: str = "/front/depth_anything", camera: str = "", **values: str) -> CameraStatus:
    given = {"camera": camera, "state": "active", "topics": TOPICS, "frames_processed": "0"}
    given |= {"model": "vits_hypersim_518"} | values
    found = read_status(f"{node}: {camera or 'depth'}", 0, "active", given)
    assert found is not None
    return found


def message(stamp: int) -> Any:
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp, nanosec=0), frame_id="f"))


def latest_of(feed: Feed) -> Frame | None:
    """What a feed holds now."""
    return feed.latest


@pytest.mark.parametrize(
    ("node", "camera", "name"),
    [
        ("/depth_anything", "", "camera"),
        ("/depth_anything", "left", "left"),
        ("/front/depth_anything", "", "front"),
        ("/robot/depth_anything", "left", "robot.left"),
        ("/robot/other", "depth", "robot.other.depth"),
    ],
)
def test_a_camera_is_named_by_its_namespace_and_its_own_name(node: str, camera: str, name: str) -> None:
    assert status(node, camera).name == name


def test_a_status_of_another_node_is_no_camera() -> None:
    assert read_status("/driver: camera", 0, "fine", {"state": "active"}) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.5", 12.5),
        ("12.5 ms", 12.5),
        ("9.8 Hz", 9.8),
        ("-1e-3 m", -0.001),
        ("640", 640.0),
        ("nan Hz", None),
        ("inf s", None),
        ("none", None),
        ("", None),
        ("ms 12", None),
    ],
)
def test_a_value_of_diagnostics_is_a_number_with_or_without_its_unit(text: str, number: float | None) -> None:
    said = status(latency_p50_ms=text, rate_out_hz=text, image_age_s="0.25 s", width="640 px", height="480 px")
    assert said.number("latency_p50_ms") == number
    assert said.number("nothing") is None
    entry = describe(said, 0.5, is_gone=False)
    assert (entry["latency_ms"], entry["rate_out_hz"]) == (number, number)
    assert (entry["width"], entry["height"], entry["age_ms"]) == (640, 480, 750)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1_228_800])
def test_a_message_is_framed_as_a_websocket_library_does_it(size: int) -> None:
    payload = bytes(size)
    assert frame_header(size) + payload == WebSocketFrame(Opcode.BINARY, payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("values", "kind", "topic"),
    [
        ({}, "metric", "/d"),
        ({"model": "vits_relative_518"}, "relative", "/r"),
        ({"model": "vits_relative_518", "kind": "metric", "alignment": "range"}, "metric", "/d"),
        ({"model": "vitl_da3metric_504", "kind": "scale_invariant"}, "scale_invariant", "/s"),
    ],
)
def test_depth_is_taken_from_the_topic_of_its_kind(values: dict[str, str], kind: str, topic: str) -> None:
    assert (status(**values).kind, status(**values).topic_of("depth")) == (kind, topic)


def test_what_cannot_come_is_refused_for_its_reason() -> None:
    async def run() -> None:
        clock = Clock()
        roster = Roster(Source(), clock=clock)
        roster.hear(status())
        camera = roster.get("front")
        points = camera.feed("points")
        with points.wanted():
            camera.check(points)
            roster.hear(status(calibrated="False"))  # said of frames before anybody asked
            camera.check(points)
            roster.hear(status(calibrated="False", frames_processed="1"))
            with pytest.raises(NoCalibration, match="no CameraInfo fits"):
                camera.check(points)
            roster.hear(status(model="vits_relative_518"))
            with pytest.raises(NoMetres):
                camera.check(points)
            camera.check(camera.feed("depth"))
            roster.hear(status(state="inactive"))
            with pytest.raises(CameraInactive):
                camera.check(points)
            clock.now_s += GONE_S + 1
            with pytest.raises(CameraGone):
                camera.check(points)
        assert roster.describe()[0]["state"] == "gone"
        clock.now_s += FORGOTTEN_S
        with pytest.raises(UnknownCamera, match="known: none yet"):
            roster.get("front")

    asyncio.run(run())


@pytest.mark.parametrize("how", [{"metres_per_unit": "2"}, {"alignment": "range"}])
def test_points_of_depth_up_to_a_factor_come_where_the_node_makes_metres_of_it(how: dict[str, str]) -> None:
    async def run() -> None:
        roster = Roster(Source(), clock=Clock())
        roster.hear(status(model="vits_da3_504"))
        camera = roster.get("front")
        points = camera.feed("points")
        with pytest.raises(NoMetres):
            camera.check(points)
        roster.hear(status(model="vits_da3_504", kind="metric", calibrated="True", frames_processed="3", **how))
        camera.check(points)

    asyncio.run(run())


def test_a_cloud_whose_focal_length_is_an_estimate_is_not_shown_as_one_that_is_calibrated() -> None:
    """The node publishes its CameraInfo before each cloud, and none where the model estimates the focal length."""

    async def run() -> None:
        source = Source()
        feed = Feed("points", source, status(), lambda: None)
        with feed.wanted():
            source.listeners["/p"](message(1))
            await asyncio.sleep(0.1)
            assert latest_of(feed) is None
            source.listeners["/i"](message(2))
            source.listeners["/p"](message(2))
            await asyncio.sleep(0.1)
            latest = latest_of(feed)
            assert latest is not None
            assert latest.stamp_ns == 2 * 10**9
            source.listeners["/p"](message(3))
            await asyncio.sleep(0.1)
            assert latest_of(feed) is latest

    asyncio.run(run())


def test_depth_in_millimetres_is_answered_in_metres_and_depth_without_a_unit_never_as_a_png_of_metres() -> None:
    levels = np.array([[0, 1500], [65535, 2]], "<u2")
    image = message(1)
    image.width, image.height, image.encoding, image.step, image.is_bigendian = 2, 2, "16UC1", 4, 0
    image.data = levels.tobytes()
    raw = encode(Frame("depth", image, 1, "metric"), "application/octet-stream", 1000.0)
    np.testing.assert_allclose(np.frombuffer(raw.body, "<f4"), [np.nan, 1.5, 65.535, 0.002], rtol=1e-6)
    assert (raw.headers["X-Unit"], raw.headers["X-Min"][:5], raw.headers["X-Max"][:6]) == ("m", "0.002", "65.535")
    png = encode(Frame("depth", image, 1, "metric"), "image/png", 1000.0)
    np.testing.assert_allclose(np.nan_to_num(decode_depth_png16(png.body)) * 1000, levels, rtol=1e-6)
    with pytest.raises(NotAcceptable, match="depth of kind scale_invariant has none"):
        encode(Frame("depth", image, 1, "scale_invariant"), "image/png", 1000.0)


def test_frames_without_a_stamp_are_told_apart_by_nothing_and_sent_again() -> None:
    assert etag_of(Frame("depth", message(1), 1)) == 'W/"1.000000000"'
    assert etag_of(Frame("depth", message(0), 1)) == ""


def test_the_first_of_two_cameras_of_one_name_keeps_it() -> None:
    roster = Roster(Source(), clock=Clock())

    async def run() -> None:
        roster.hear(status("/a/depth_anything", "b"))
        roster.hear(status("/a/b/depth_anything"))
        assert roster.get("a.b").status.node == "/a/depth_anything"

    asyncio.run(run())


def test_nodes_that_are_not_asked_for_are_not_shown() -> None:
    async def run() -> None:
        roster = Roster(Source(), ["left/depth_anything"], Clock())
        for node in ("/left/depth_anything", "/right/depth_anything"):
            roster.hear(status(node))
        assert [camera["name"] for camera in roster.describe()] == ["left"]

    asyncio.run(run())


def test_a_topic_is_left_after_the_last_who_asks_and_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LINGER_S", 0.05)

    async def run() -> None:
        source = Source()
        feed = Feed("color", source, status(topics="depth/color=/c"), lambda: None)
        with feed.wanted(), feed.wanted():
            assert set(source.listeners) == {"/c"}
            late = source.listeners["/c"]
            late(message(1))
            await feed.change(1.0)
            assert latest_of(feed) is not None
        await asyncio.sleep(0.02)
        assert source.listeners
        await asyncio.sleep(0.1)
        assert not source.listeners
        assert latest_of(feed) is None
        late(message(2))  # was on its way
        await asyncio.sleep(0.01)
        assert latest_of(feed) is None
        with feed.wanted():
            feed.follow(status(topics="depth/color=/other"))
            assert set(source.listeners) == {"/other"}

    asyncio.run(run())


def test_messages_that_the_loop_cannot_take_replace_each_other() -> None:
    taken: list[int] = []

    async def run() -> None:
        slot = LatestOnly(asyncio.get_running_loop(), taken.append)
        for number in range(100):
            slot.put(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert taken == [99]


def test_a_frame_is_encoded_once_however_many_ask() -> None:
    made: list[int] = []

    async def run() -> None:
        frame = Frame("depth", message(1), 1)
        with ThreadPoolExecutor() as pool:
            await asyncio.gather(*(frame.make("png", lambda: made.append(1), pool) for _ in range(20)))

    asyncio.run(run())
    assert made == [1]


def test_depth_waits_for_its_camera_info_only_while_they_come() -> None:
    released: list[tuple[int, int | None]] = []
    timers: list[Callable[[], None]] = []

    def later(_: float, call: Callable[[], None]) -> Any:
        timers.append(call)
        return SimpleNamespace(cancel=lambda: timers.remove(call) if call in timers else None)

    def release(image: Any, info: Any) -> None:
        released.append((image.header.stamp.sec, info and info.header.stamp.sec))

    pairing = Pairing(release, later)
    pairing.image(message(1))
    pairing.info(message(1))
    pairing.info(message(2))
    pairing.image(message(2))
    assert released == [(1, 1), (2, 2)]
    pairing.image(message(3))
    timers.pop()()
    pairing.image(message(4))  # they do not come any more
    assert released[2:] == [(3, None), (4, None)]
    pairing.info(message(5))
    pairing.image(message(6))
    pairing.image(message(7))
    pairing.info(message(7))
    assert released[4:] == [(6, None), (7, 7)]


def test_where_stamps_are_zero_each_camera_info_goes_with_one_image_in_their_order() -> None:
    released: list[tuple[int, int | None]] = []
    pairing = Pairing(
        lambda image, info: released.append((image.number, info and info.number)),
        lambda _, call: SimpleNamespace(cancel=lambda: None),
    )

    def unstamped(number: int) -> Any:
        return SimpleNamespace(header=message(0).header, number=number)

    for number in (1, 2):
        pairing.image(unstamped(number))
        pairing.info(unstamped(number))
    pairing.image(unstamped(3))
    pairing.image(unstamped(4))
    assert released == [(1, 1), (2, 2), (3, None)]


def test_streams_are_counted_by_key_and_in_all() -> None:
    limits = StreamLimits(toy_settings(max_streams=3, max_streams_per_key=2))
    with limits.open("a"), limits.open("a"):
        with pytest.raises(TooManyStreams), limits.open("a"):
            pass
        with limits.open("b"), pytest.raises(Overloaded), limits.open("c"):
            pass
    with limits.open("a"), limits.open("a"):
        pass


def test_a_key_beyond_its_bytes_waits_until_they_are_worked_off() -> None:
    clock = Clock()
    limits = StreamLimits(toy_settings(max_stream_bytes_per_s=1000), clock)
    limits.pay("a", 3000)
    assert limits.wait_s("a") == pytest.approx(2.0)
    assert limits.wait_s("b") == 0
    with pytest.raises(RateLimited) as refused:
        limits.check("a")
    assert refused.value.headers == {"Retry-After": "2"}
    clock.now_s += 2.0
    limits.check("a")


def test_a_pace_keeps_its_average() -> None:
    clock = Clock()
    pace, taken = Pace(10, clock), 0
    for _ in range(300):  # frames at 30 Hz
        if pace.wait_s() == 0:
            pace.took_one()
            taken += 1
        clock.now_s += 1 / 30
    assert taken == pytest.approx(100, abs=2)


def test_a_ticket_is_for_one_request_of_one_path_and_origin_and_ends() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.issue("/cameras/a/stream", "key", "https://page")
    assert tickets.use(ticket, "/cameras/a/stream", "https://page") == "key"
    wrong = [("/cameras/b/stream", "https://page"), ("/cameras/a/stream", "https://other")]
    for path, origin in [*wrong, ("/cameras/a/stream", "https://page")]:
        late = tickets.issue("/cameras/a/stream", "key", "https://page")
        clock.now_s += TICKET_LIFETIME_S + 1 if (path, origin) not in wrong else 0
        with pytest.raises(Unauthorized):
            tickets.use(late, path, origin)
    with pytest.raises(Unauthorized):
        tickets.use(ticket, "/cameras/a/stream", "https://page")


def test_a_session_ends_by_time_with_its_key_and_where_it_is_forged() -> None:
    clock = Clock()
    keys = KeyRing(toy_settings(api_key=SecretStr("one")))
    sessions = Sessions(keys, 60.0, b"secret", clock)
    session = sessions.issue("api-key")
    assert sessions.identify(session) == "api-key"
    others = KeyRing(toy_settings(api_key=SecretStr("two")))
    end, name, signature = session.split(".")
    forged = [f"{int(end) + 1000}.{name}.{signature}", "", "a.b.c", "...", f"{end}.{name}.é"]
    for bad in forged:
        with pytest.raises(Unauthorized):
            sessions.identify(bad)
    for other in (Sessions(others, 60.0, b"secret", clock), Sessions(keys, 60.0, b"other", clock)):
        with pytest.raises(Unauthorized):
            other.identify(session)
    clock.now_s += 61
    with pytest.raises(Unauthorized):
        sessions.identify(session)


def test_a_frames_header_comes_back_and_lies_where_the_docs_say() -> None:
    header = FrameHeader(
        "depth", "png", -5 * 10**9 + 7, 640, 480, "cämera", "metric", 500.0, (1.0, 2.0, 3.0, 4.0), True, 0.5, 9.5, 77
    )
    packed = header.pack(3) + b"xyz"
    assert unpack(packed) == (header, memoryview(b"xyz"))
    assert packed[:4] == b"DAR1"
    assert int.from_bytes(packed[4:6], "little") % 8 == 0
    assert (packed[6], packed[7], packed[24], packed[25]) == (1, 3, 1, 3)
    assert int.from_bytes(packed[16:20], "little") == 640
    assert int.from_bytes(packed[60:64], "little") == 3
    assert packed[64:71] == "cämera".encode()


@pytest.mark.parametrize("damage", [lambda m: m[:63], lambda m: b"XXXX" + m[4:], lambda m: m + b"!", lambda m: m[:-1]])
def test_a_message_that_contradicts_its_header_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UndecodableFrame):
        unpack(damage(FrameHeader("image", "raw", 1, 2, 3).pack(4) + b"abcd"))


def test_a_robot_needs_one_worker() -> None:
    with pytest.raises(ValidationError, match="ros needs 1 worker, got 2"):
        toy_settings(ros=True, workers=2)


def test_without_rclpy_one_line_says_what_to_do_and_the_status_is_2() -> None:
    program = "import sys; sys.modules['rclpy'] = None; import bridge.server.command as c; sys.exit(c.main(['--ros']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "depth_anything_bridge: --ros needs rclpy: source the setup.bash of a ROS 2, or pip install '.[bridge,ros]'"
    ]
