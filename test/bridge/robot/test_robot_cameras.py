"""The robot's cameras over HTTP and WebSockets, against the nodes' own messages: real nodes, a real bridge process."""

from __future__ import annotations

import base64
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import httpx
import hypothesis
import numpy as np
import psutil
import pytest
import schemathesis
from harness import FakeBackend, HostedNode, Inbox, NodeProcess, Peer, eventually, fake_estimator, image_message
from lifecycle_msgs.msg import Transition
from rclpy.qos import qos_profile_sensor_data
from robot_under_test import AUTHORIZED, RAW, RobotUnderTest, receive, text_of, with_text
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import status_code_conformance
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import ClientConnection

from bridge.codec import decode_depth_png16, decode_npy
from bridge.server.robot.encodings import FORMATS

MEMORY_MIB = 50
BUSY_S = 2.0
PATIENCE_S = 4.0  # two seconds are promised; a busy machine may need a little more


@contextmanager
def listening(robot: RobotUnderTest, kind: type, topic: str) -> Iterator[Inbox]:
    """What the front node publishes on a topic, beside the bridge."""
    with robot.peer.listen(kind, robot.front.topic(topic), qos_profile_sensor_data) as inbox:
        eventually(lambda: inbox.messages, f"something on {topic}")
        yield inbox


def ask(robot: RobotUnderTest, what: str, camera: str = "", **options: Any) -> httpx.Response:
    headers = options.pop("headers", {})
    with robot.http(**headers) as client:
        return client.get(robot.url(camera or robot.front_name, what), params=options)


def test_the_cameras_of_all_nodes_are_listed_and_nothing_is_subscribed(robot: RobotUnderTest) -> None:
    cameras = robot.cameras()
    assert cameras.keys() == {robot.front_name, robot.rig_name("left"), robot.rig_name("right")}
    front = cameras[robot.front_name]
    assert front["node"] == robot.front.name
    assert front["topics"]["image"] == robot.front.topic("image")
    assert (front["model"], front["kind"]) == ("toy_hypersim_56", "metric")
    assert all(not camera["subscribed"] for camera in cameras.values())
    assert robot.peer.node.count_subscribers(robot.front.topic("~/depth/image")) == 0


def test_depth_is_the_nodes_own_to_the_byte_in_every_format(robot: RobotUnderTest) -> None:
    with listening(robot, Image, "~/depth/image") as inbox:
        raw = ask(robot, "depth", headers=RAW)
        message = with_text(inbox, raw.headers["x-stamp"])
        assert raw.content == bytes(message.data)
        assert raw.headers["x-frame-id"] == message.header.frame_id
        assert (raw.headers["x-kind"], raw.headers["x-unit"], raw.headers["x-shape"]) == ("metric", "m", "56,84")
        npy = ask(robot, "depth", headers={"Accept": "application/x-npy"})
        np.testing.assert_array_equal(decode_npy(npy.content), depth_in(with_text(inbox, npy.headers["x-stamp"])))
        json = ask(robot, "depth")
        values = depth_in(with_text(inbox, json.headers["x-stamp"]))
        assert base64.b64decode(json.json()["depth_map"]) == values.tobytes()
        assert json.json()["stamp"] == json.headers["x-stamp"]
        assert json.json()["max"] == pytest.approx(float(values.max()))
        png = ask(robot, "depth", headers={"Accept": "image/png"}, png_scale=500)
        depth = decode_depth_png16(png.content, float(png.headers["x-scale"]))
        np.testing.assert_allclose(depth, depth_in(with_text(inbox, png.headers["x-stamp"])), atol=0.00101)


def depth_in(message: Image) -> Any:
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def test_points_are_the_nodes_own_in_every_format(robot: RobotUnderTest) -> None:
    with listening(robot, PointCloud2, "~/points") as inbox:
        raw = ask(robot, "points", headers=RAW)
        points = points_in(with_text(inbox, raw.headers["x-stamp"]))
        assert raw.content == points.tobytes()
        assert raw.headers["x-shape"] == f"{56 * 84},3"
        json = ask(robot, "points")
        expected = points_in(with_text(inbox, json.headers["x-stamp"]))
        assert base64.b64decode(json.json()["pointcloud"]) == expected.tobytes()
        ply = ask(robot, "points", headers={"Accept": "application/x-ply"})
        message = with_text(inbox, ply.headers["x-stamp"])
        header, _, body = ply.content.partition(b"end_header\n")
        kinds = [("xyz", "<f4", 3), ("rgb", "u1", 3)]
        vertices = np.frombuffer(body, kinds)
        assert f"element vertex {56 * 84}\n".encode() in header
        np.testing.assert_array_equal(vertices["xyz"].reshape(-1, 3), points_in(message))
        np.testing.assert_array_equal(vertices["rgb"][:, ::-1], bytes_in(message)[:, 12:15])


def bytes_in(cloud: PointCloud2) -> Any:
    return np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)


def points_in(cloud: PointCloud2) -> Any:
    return np.ascontiguousarray(bytes_in(cloud)[:, :12]).view(np.float32)


def test_pictures_and_the_camera_info_are_those_of_the_messages(robot: RobotUnderTest) -> None:
    with listening(robot, Image, "image") as images, listening(robot, CameraInfo, "~/depth/camera_info") as infos:
        png = ask(robot, "image", headers={"Accept": "image/png"})
        picture = cv2.imdecode(np.frombuffer(png.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.tobytes() == bytes(with_text(images, png.headers["x-stamp"]).data)
        said = ask(robot, "camera_info")
        info = with_text(infos, said.headers["x-stamp"])
        assert said.json()["k"] == list(info.k)
        assert said.json()["p"] == list(info.p)
        assert (said.json()["width"], said.json()["height"]) == (info.width, info.height)
    with listening(robot, Image, "~/depth/color") as inbox:
        color = ask(robot, "color", headers={"Accept": "application/octet-stream"})
        assert color.content == bytes(with_text(inbox, color.headers["x-stamp"]).data)
    assert ask(robot, "color").content.startswith(b"\xff\xd8\xff")


def test_a_known_frame_is_not_sent_again_and_a_newer_one_is_waited_for(robot: RobotUnderTest) -> None:
    left = robot.rig_name("left")
    with robot.peer.listen(Image, robot.rig.topic("~/left/depth/image")) as inbox:
        first = fed(robot, "left", inbox)
        seen = eventually(lambda: ask(robot, "depth", left, headers=RAW), "an answer")
        assert seen.headers["etag"] == f'W/"{text_of(first.header.stamp)}"'
        known = {"If-None-Match": seen.headers["etag"], **RAW}
        assert ask(robot, "depth", left, headers=known).status_code == 304
        later = threading.Timer(0.3, robot.feed, ["left"])
        later.start()
        newer = ask(robot, "depth", left, headers=known, wait_ms=10_000)
        assert newer.status_code == 200
        assert newer.headers["etag"] != seen.headers["etag"]
        later.join()


def fed(robot: RobotUnderTest, camera: str, inbox: Inbox, *, has_info: bool = True) -> Image:
    """Feed a camera while the bridge listens to its depth, until depth of a picture came; return the picture."""
    with robot.stream(robot.rig_name(camera)) as stream:

        def answered() -> Any:
            image = robot.feed(camera, has_info=has_info)
            end_s = time.monotonic() + 0.5
            while time.monotonic() < end_s:
                if inbox.with_stamp(image.header.stamp) is not None:
                    return image
                time.sleep(0.01)
            return None

        image = eventually(answered, "depth")
        while receive(stream)[0].stamp_ns != image.header.stamp.sec * 10**9 + image.header.stamp.nanosec:
            pass
        return image


def test_a_frame_that_is_too_old_is_no_answer(robot: RobotUnderTest) -> None:
    with robot.peer.listen(Image, robot.rig.topic("~/left/depth/image")) as inbox:
        fed(robot, "left", inbox)  # its stamp is decades old
        refused = ask(robot, "depth", robot.rig_name("left"), max_age_ms=1000, wait_ms=0)
        assert refused.status_code == 504
        assert refused.json()["error"]["code"] == "no_frame"
        assert "use_sim_time" in refused.json()["detail"]
    assert ask(robot, "depth", max_age_ms=5000).status_code == 200


def test_a_camera_without_a_camera_info_has_depth_but_no_cloud(robot: RobotUnderTest) -> None:
    right = robot.rig_name("right")
    with robot.peer.listen(Image, robot.rig.topic("~/right/depth/image")) as inbox, robot.stream(right) as stream:
        fed(robot, "right", inbox, has_info=False)
        assert receive(stream)[0].intrinsics is None
        ending = threading.Event()
        feeding = threading.Thread(target=lambda: [robot.feed("right", has_info=False) for _ in until(ending)])
        feeding.start()
        try:
            refused = ask(robot, "points", right, wait_ms=20_000)
        finally:
            ending.set()
            feeding.join()
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "uncalibrated")
    assert robot.cameras()[right]["calibrated"] is False


def until(ending: threading.Event) -> Iterator[None]:
    while not ending.wait(0.1):
        yield


def test_depth_without_a_unit_is_told_by_its_kind_and_never_as_metres(robot: RobotUnderTest) -> None:
    backend = FakeBackend()
    model: dict[str, Any] = {"encoder": "toy", "dataset": "relative", "checkpoint": "untrained", "input_size": 56}
    with ExitStack() as stack:
        hosted = HostedNode(
            robot.peer.context, backend, lambda settings: fake_estimator(backend, settings, "relative"), **model
        )
        node = stack.enter_context(hosted)
        name = node.namespace.strip("/")
        camera = stack.enter_context(node.camera(robot.peer))
        inbox = stack.enter_context(robot.peer.listen(Image, node.topic("~/relative/image")))
        eventually(lambda: name in robot.cameras(), "the camera")
        camera.ask(image_message(), inbox)
        stream = stack.enter_context(robot.stream(name))
        end = threading.Event()
        feeding = threading.Thread(target=lambda: [camera.images.publish(image_message()) for _ in until(end)])
        feeding.start()
        try:
            header, payload = receive(stream)
            message = with_text(inbox, f"{header.stamp_ns // 10**9}.{header.stamp_ns % 10**9:09d}")
            assert (header.kind, bytes(payload)) == ("relative", bytes(message.data))
            answer = ask(robot, "depth", name, headers=RAW)
            assert (answer.headers["x-kind"], answer.headers["x-unit"]) == ("relative", "none")
            assert ask(robot, "depth", name, headers={"Accept": "image/png"}).status_code == 406
            assert ask(robot, "points", name).json()["error"]["code"] == "no_metres"
        finally:
            end.set()
            feeding.join()


def test_an_unknown_camera_is_named_with_its_nearest(robot: RobotUnderTest) -> None:
    answer = ask(robot, "depth", robot.front_name[:-1])
    assert answer.status_code == 404
    assert f"did you mean {robot.front_name}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "code"),
    [("?what=sound", 4422), ("?what=image&format=ply", 4422), ("?max_rate_hz=0", 4422), ("?nope=1", 4422)],
)
def test_a_stream_that_cannot_be_is_closed_with_the_errors_code(robot: RobotUnderTest, query: str, code: int) -> None:
    assert closed_with(robot, robot.front_name, query) == code


def closed_with(robot: RobotUnderTest, camera: str, query: str = "", **headers: str) -> int | None:
    with robot.stream(camera, query, **headers) as stream:
        return close_code(stream)


def test_a_stream_carries_the_nodes_messages_with_their_intrinsics(robot: RobotUnderTest) -> None:
    with (
        listening(robot, Image, "~/depth/image") as inbox,
        listening(robot, CameraInfo, "~/depth/camera_info") as infos,
        robot.stream(robot.front_name) as stream,
    ):
        for _ in range(5):
            header, payload = receive(stream)
            stamp = f"{header.stamp_ns // 10**9}.{header.stamp_ns % 10**9:09d}"
            assert bytes(payload) == bytes(with_text(inbox, stamp).data)
            k = with_text(infos, stamp).k
            assert header.intrinsics == pytest.approx((k[0], k[4], k[2], k[5]))
            assert (header.kind, header.width, header.height) == ("metric", 84, 56)


def test_pictures_come_as_parts_that_an_image_element_reads(robot: RobotUnderTest) -> None:
    seen = b""
    with robot.http() as client, client.stream("GET", robot.url(robot.front_name, "stream.mjpeg")) as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        for piece in answer.iter_bytes():
            seen += piece
            if seen.count(b"--frame\r\n") >= 3:
                break
    _, first, *_ = seen.split(b"--frame\r\n")
    head, _, jpeg = first.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(jpeg) - 2}".encode() in head
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (56, 84, 3)


def test_one_that_never_reads_among_twenty_streams_costs_nobody_anything(robot: RobotUnderTest) -> None:
    [worker] = robot.bridge.workers()
    with ExitStack() as stack:
        sockets = [stack.enter_context(robot.stream(robot.front_name, "?what=points")) for _ in range(19)]
        stack.enter_context(never_reading(robot, "?what=points"))
        for stream in sockets:
            receive(stream)
        before = psutil.Process(worker).memory_info().rss
        counts = [0] * len(sockets)

        def read(index: int, end_s: float) -> None:
            while time.monotonic() < end_s:
                receive(sockets[index])
                counts[index] += 1

        end_s = time.monotonic() + BUSY_S
        readers = [threading.Thread(target=read, args=(index, end_s)) for index in range(len(sockets))]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        grown = psutil.Process(worker).memory_info().rss - before
        assert grown < MEMORY_MIB * 2**20
        assert min(counts) >= max(counts) - 3
        assert robot.cameras()[robot.front_name]["streams"] == 20
    eventually(lambda: robot.cameras()[robot.front_name]["streams"] == 0, "the end of all streams")


@contextmanager
def never_reading(robot: RobotUnderTest, query: str) -> Iterator[None]:
    """A stream whose client asks for it and takes nothing, not even the answer to its handshake."""
    asked = (
        f"GET {robot.url(robot.front_name, 'stream')}{query} HTTP/1.1\r\nHost: 127.0.0.1:{robot.bridge.port}\r\n"
        f"Authorization: {AUTHORIZED['Authorization']}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", robot.bridge.port)) as connection:
        connection.sendall(asked.encode())
        yield


# Keys


# Always the same requests, and a failing one is shown as it is.
MADE_UP = hypothesis.settings(
    max_examples=12, deadline=None, database=None, derandomize=True, phases=[hypothesis.Phase.generate]
)
# The list has nothing to be asked wrongly with.
CASES = [("/cameras", GenerationMode.POSITIVE)]
CASES += [
    (f"/cameras/{{name}}/{what}", mode)
    for what in (*FORMATS, "stream.mjpeg")
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
]
SHORT_WAIT_MS = 300
# The node's state may be any at all; these say that something is broken.
BROKEN = (500, 501, 502)


@pytest.fixture(scope="module")
def api(robot: RobotUnderTest) -> Any:
    """The document of a bridge that shows a robot."""
    return schemathesis.openapi.from_url(f"{robot.bridge.url}/openapi.json", headers=AUTHORIZED)


@pytest.mark.parametrize(("path", "mode"), CASES)
def test_every_answer_to_a_made_up_request_is_documented(
    robot: RobotUnderTest, api: Any, path: str, mode: GenerationMode
) -> None:
    names = cycle((robot.front_name, None))

    @MADE_UP
    @hypothesis.given(case=api[path]["GET"].as_strategy(generation_mode=mode))
    def ask_it(case: Any) -> None:
        name = next(names)
        if name is not None and case.path_parameters and path != "/cameras/{name}/stream.mjpeg":  # which has no end
            case.path_parameters["name"] = name
        if isinstance(case.query, dict) and isinstance(case.query.get("wait_ms"), int):
            case.query["wait_ms"] = min(case.query["wait_ms"], SHORT_WAIT_MS)
        answer = case.call_and_validate(checks=[status_code_conformance], headers=AUTHORIZED, timeout=30)
        assert answer.status_code not in BROKEN, answer.text

    ask_it()
    assert robot.bridge.is_ready()


def ticket(robot: RobotUnderTest, what: str = "stream", **headers: str) -> str:
    with robot.http(**headers) as client:
        answer = client.post("/tickets", json={"path": robot.url(robot.front_name, what)})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def test_a_ticket_opens_one_stream_of_its_path_once(robot: RobotUnderTest) -> None:
    once = ticket(robot)
    nobody = {"X-Nobody": "1"}
    with robot.stream(robot.front_name, f"?ticket={once}", **nobody) as stream:
        receive(stream)
    assert closed_with(robot, robot.front_name, f"?ticket={once}", **nobody) == 4401
    assert closed_with(robot, robot.rig_name("left"), f"?ticket={ticket(robot)}", **nobody) == 4401
    assert closed_with(robot, robot.front_name, "", **nobody) == 4401
    with httpx.Client(base_url=robot.bridge.url, timeout=30) as client:
        path = robot.url(robot.front_name, "stream.mjpeg")
        assert client.get(path).status_code == 401
        with client.stream("GET", path, params={"ticket": ticket(robot, "stream.mjpeg")}) as answer:
            assert answer.status_code == 200
    assert not robot.bridge.logged(once)
    assert once not in robot.bridge.log.read_text()


def test_pages_of_other_origins_get_no_ticket_no_session_and_no_stream(robot: RobotUnderTest) -> None:
    own, other = {"Origin": robot.bridge.url}, {"Origin": "https://example.com"}
    with robot.http(**other) as client:
        for answer in (client.post("/session"), client.post("/tickets", json={"path": "/cameras/a/stream"})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "other_origin")
    assert closed_with(robot, robot.front_name, **AUTHORIZED, **other) == 4403
    stolen = ticket(robot, **own)
    assert closed_with(robot, robot.front_name, f"?ticket={stolen}", **other) == 4401


def test_a_session_cookie_stands_for_the_key_until_it_is_forgotten(robot: RobotUnderTest) -> None:
    with httpx.Client(base_url=robot.bridge.url, timeout=30) as browser:
        assert browser.get("/session").json() == {"needs_key": True, "signed_in": False, "name": None, "robot": True}
        assert browser.get("/cameras").status_code == 401
        assert browser.post("/session").status_code == 401
        answer = browser.post("/session", headers=AUTHORIZED)
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"))
        assert browser.get("/session").json()["signed_in"] is True
        assert browser.get("/cameras").status_code == 200
        assert browser.get("/cameras", headers={"Origin": "https://example.com"}).status_code == 403
        value = browser.cookies["depth_bridge_session"]
        with robot.stream(robot.front_name, Cookie=f"depth_bridge_session={value}", Origin=robot.bridge.url) as stream:
            receive(stream)
        assert browser.delete("/session").status_code == 204
        assert browser.get("/cameras").status_code == 401


# Nodes that come and go


def test_a_topic_is_subscribed_while_somebody_asks_and_a_little_longer(robot: RobotUnderTest) -> None:
    topic = robot.rig.topic("~/right/depth/color")
    count = robot.peer.node.count_subscribers
    assert count(topic) == 0
    with robot.stream(robot.rig_name("right"), "?what=color"), robot.stream(robot.rig_name("right"), "?what=color"):
        eventually(lambda: count(topic) == 1, "one subscription for two clients")
        assert "color" in robot.cameras()[robot.rig_name("right")]["subscribed"]
    assert count(topic) == 1
    eventually(lambda: count(topic) == 0, "no subscription")


def test_a_node_that_dies_closes_its_streams_and_comes_back(robot: RobotUnderTest, tmp_path: Path) -> None:
    name = robot.front_name
    with robot.stream(name) as stream:
        receive(stream)
        robot.front.process.send_signal(signal.SIGKILL)
        closed = close_of(stream)
    assert closed is not None
    assert (closed.code, closed.reason.partition(":")[0]) == (4503, "camera_gone")
    gone = ask(robot, "depth", name)
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "camera_gone")
    assert robot.cameras()[name]["state"] == "gone"
    with NodeProcess(tmp_path / "again.txt", robot.front.namespace, autostart=False) as again:
        eventually(lambda: robot.cameras()[name]["state"] == "inactive", "the camera again", 60)
        inactive = ask(robot, "depth", name)
        assert (inactive.status_code, inactive.json()["error"]["code"]) == (503, "camera_inactive")
        assert again.change(robot.peer, Transition.TRANSITION_CONFIGURE)
        assert again.change(robot.peer, Transition.TRANSITION_ACTIVATE)
        eventually(lambda: robot.cameras()[name]["state"] == "active", "an active camera")
        assert ask(robot, "depth", name).status_code == 200


def test_the_bridge_without_the_peer_is_one_participant(robot: RobotUnderTest, peer: Peer) -> None:
    assert [name for name, _ in peer.node.get_node_names_and_namespaces()].count("depth_bridge") == 1


def test_interrupt_ends_server_streams_and_ros_within_two_seconds(robot: RobotUnderTest) -> None:
    with robot.stream(robot.rig_name("left")) as stream:
        eventually(lambda: robot.cameras()[robot.rig_name("left")]["streams"] == 1, "a stream")
        began_s = time.monotonic()
        assert robot.bridge.end(signal.SIGINT) == 0
        assert time.monotonic() - began_s < PATIENCE_S
        assert close_code(stream) in (1001, 1012)


def close_code(stream: ClientConnection) -> int | None:
    """Read on until the stream is closed; return the code."""
    closed = close_of(stream)
    return None if closed is None else closed.code


def close_of(stream: ClientConnection) -> Close | None:
    """Read on until the stream is closed; return what the server said."""
    try:
        while True:
            stream.recv(timeout=20)
    except ConnectionClosed as closed:
        return closed.rcvd
