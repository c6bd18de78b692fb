"""What the tests of the node share: the other side of its topics, and two ways to run it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rclpy
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters, SetParametersAtomically
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.depth_map import Kind
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.messages.clouds import SerialCloud
from depth_anything_ros.model.depth_network import Outputs
from depth_anything_ros.node.lifecycle import DepthAnythingNode
from depth_anything_ros.settings import ModelSettings

DEADLINE_S = 20.0
STATE_AFTER = {
    Transition.TRANSITION_CONFIGURE: "inactive",
    Transition.TRANSITION_ACTIVATE: "active",
    Transition.TRANSITION_DEACTIVATE: "inactive",
    Transition.TRANSITION_CLEANUP: "unconfigured",
}
# What a network sees at full size, so that a plane of 56 x 84 pixels comes out as it was put in.
WIDTH, HEIGHT, INPUT_SIZE = 84, 56, 56
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
FAKE_MAX_DEPTH_M = 20.0

Value = TypeVar("Value")
_numbers = itertools.count()
_stamps = itertools.count(1_000_000_001)


class NoAnswer(AssertionError):
    """A service was found and did not answer."""


def unique(name: str) -> str:
    """Return a namespace nobody else in this run has."""
    return f"/{name}_{os.getpid()}_{next(_numbers)}"


def eventually(get: Callable[[], Value], what: str, deadline_s: float = DEADLINE_S) -> Value:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + deadline_s
    while not (value := get()):
        assert time.monotonic() < end, f"after {deadline_s} s still not: {what}"
        time.sleep(0.005)
    return value


def new_header(frame_id: str = "camera_optical_frame") -> Header:
    """Return a header with a stamp of its own, odd in the last digits."""
    nanoseconds = next(_stamps) * 1_000_000_007
    return Header(frame_id=frame_id, stamp=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9))


def cloud_message(
    depth: Any, image_bgr: NDArray[np.uint8], header: Header, camera: CameraModel, stride: int = 1
) -> PointCloud2:
    """Return the cloud that the node publishes, as a subscriber gets it."""
    serialized = SerialCloud().fill(depth, image_bgr, header, camera, stride)
    received: PointCloud2 = deserialize_message(serialized.tobytes(), PointCloud2)
    return received


def image_message(
    pixels: NDArray[Any] = NOISE, encoding: str = "bgr8", frame_id: str = "camera_optical_frame"
) -> Image:
    """Return an Image without padding, in this machine's byte order."""
    msg = Image(header=new_header(frame_id), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    msg.step = pixels.nbytes // pixels.shape[0]
    msg.data.frombytes(pixels.tobytes())
    return msg


def camera_info(width: int = WIDTH, height: int = HEIGHT, header: Header | None = None, **changes: Any) -> CameraInfo:
    """Return a pinhole camera's info, its principal point off the centre."""
    fx, fy, cx, cy = 0.9 * width, 0.95 * width, 0.47 * width, 0.55 * height
    info = CameraInfo(header=header or new_header(), width=width, height=height, distortion_model="plumb_bob")
    info.d = [0.0] * 5
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def depth_of(msg: Image) -> NDArray[np.float32]:
    """Read a 32FC1 Image."""
    assert msg.encoding == "32FC1"
    assert msg.step == 4 * msg.width
    return np.frombuffer(msg.data, np.float32).reshape(msg.height, msg.width)


class Inbox:
    """What arrived on one topic."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def __len__(self) -> int:
        return len(self.messages)

    def with_stamp(self, stamp: Time) -> Any:
        """Return the message of this stamp, or None."""
        return next((msg for msg in list(self.messages) if msg.header.stamp == stamp), None)

    def stamps(self) -> list[int]:
        """Stamps in nanoseconds, in the order they came."""
        return [nanoseconds(msg.header.stamp) for msg in list(self.messages)]


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number."""
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def answer(inbox: Inbox, image: Any) -> Any:
    """Wait for the message that belongs to an image."""
    return eventually(lambda: inbox.with_stamp(image.header.stamp), "an answer")


def fields_of(cloud: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Read points (H, W, 3) and colours BGR (H, W, 3)."""
    rows = np.frombuffer(cloud.data, np.uint8).reshape(cloud.height, cloud.width, cloud.point_step)
    return np.ascontiguousarray(rows[..., :12]).view(np.float32), rows[..., 12:15]


class Peer:
    """A node that publishes, listens and calls; its executor has a thread. `domain_id`: ROS_DOMAIN_ID by default."""

    def __init__(self, domain_id: int | None = None) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context, domain_id=domain_id)
        self.node = Node("peer", context=self.context, namespace=unique("peer"))
        self._clients: dict[str, Any] = {}
        self._spinner = Spinner(self.node, self.context)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._spinner.stop()
        self.context.try_shutdown()

    @contextmanager
    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 200) -> Iterator[Inbox]:
        """Subscribe, reliably unless told otherwise."""
        inbox = Inbox()
        # rclpy's own callbacks warn of what does not fit by a method that is deprecated.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        subscription = self.node.create_subscription(kind, topic, inbox.messages.append, qos, event_callbacks=quiet)
        try:
            yield inbox
        finally:
            self.node.destroy_subscription(subscription)

    @contextmanager
    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 200) -> Iterator[Any]:
        """Publish, reliably unless told otherwise, so that only the node's own policy drops frames."""
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        publisher: Any = self.node.create_publisher(kind, topic, qos, event_callbacks=quiet)
        try:
            yield publisher
        finally:
            self.node.destroy_publisher(publisher)

    def call(self, kind: Any, name: str, request: Any, deadline_s: float = DEADLINE_S) -> Any:
        """Call a service and return the response."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        assert self._clients[name].wait_for_service(deadline_s), f"no service {name}"
        # A server that was found may not have found its client yet, and its answer goes nowhere. To ask again does
        # no harm where nothing is changed.
        asks = 2 if kind.__name__.startswith(("Get", "Describe")) else 1
        futures: list[Any] = []

        def answered() -> Any:
            if len(futures) < asks and time.monotonic() >= begun_s + len(futures) * deadline_s / asks:
                futures.append(self._clients[name].call_async(request))
            return next((future for future in futures if future.done()), None)

        begun_s = time.monotonic()
        while (answer := answered()) is None:
            if time.monotonic() > begun_s + deadline_s:
                raise NoAnswer(f"{name} did not answer within {deadline_s} s")
            time.sleep(0.005)
        return answer.result()


class Spinner:
    """An executor for one node, in a thread until `stop`."""

    def __init__(self, node: Any, context: rclpy.Context) -> None:
        self._node = node
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=node.get_name())
        self._thread.start()

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def stop(self) -> None:
        """End the thread and the node."""
        self._ending.set()
        self._executor.wake()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()


class Remote:
    """A depth_anything node somewhere, as others see it: topics and services under its namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.name = f"{namespace}/depth_anything"

    def topic(self, name: str) -> str:
        """Resolve a name as the node does."""
        return name.replace("~", self.name) if name.startswith("~") else f"{self.namespace}/{name}"

    def state(self, peer: Peer) -> str:
        """Return the lifecycle state's label."""
        return str(peer.call(GetState, f"{self.name}/get_state", GetState.Request()).current_state.label)

    def change(self, peer: Peer, transition: int) -> bool:
        """Ask for a lifecycle transition and return whether it succeeded; where the answer is lost, the state tells."""
        request = ChangeState.Request(transition=Transition(id=transition))
        try:
            return bool(peer.call(ChangeState, f"{self.name}/change_state", request, 40).success)
        except NoAnswer:
            if self.state(peer) == STATE_AFTER.get(transition):
                return True
            return bool(peer.call(ChangeState, f"{self.name}/change_state", request, 60).success)

    def trigger(self, peer: Peer, service: str) -> tuple[bool, str]:
        """Call a service without arguments and return success and message."""
        response = peer.call(Trigger, f"{self.name}/{service}", Trigger.Request())
        return response.success, response.message

    def enable(self, peer: Peer, on: bool) -> tuple[bool, str]:
        """Switch the node's work on or off and return success and message."""
        response = peer.call(SetBool, f"{self.name}/enable", SetBool.Request(data=on))
        return response.success, response.message

    def set(self, peer: Peer, **values: Any) -> list[SetParametersResult]:
        """Set parameters one by one and return what was said about each."""
        request = SetParameters.Request(parameters=_parameters(values))
        return list(peer.call(SetParameters, f"{self.name}/set_parameters", request).results)

    def set_together(self, peer: Peer, **values: Any) -> SetParametersResult:
        """Set parameters in one go."""
        request = SetParametersAtomically.Request(parameters=_parameters(values))
        return peer.call(SetParametersAtomically, f"{self.name}/set_parameters_atomically", request).result

    def get(self, peer: Peer, *names: str) -> list[Any]:
        """Return the values of parameters."""
        response = peer.call(GetParameters, f"{self.name}/get_parameters", GetParameters.Request(names=names))
        return [parameter_value_to_python(value) for value in response.values]

    def describe(self, peer: Peer, *names: str) -> list[ParameterDescriptor]:
        """Return the descriptors of parameters."""
        request = DescribeParameters.Request(names=names)
        return list(peer.call(DescribeParameters, f"{self.name}/describe_parameters", request).descriptors)

    @contextmanager
    def diagnostics(self, peer: Peer, camera: str = "depth") -> Iterator[Callable[[], tuple[int, str, dict[str, str]]]]:
        """Yield a function that waits for the next report on a camera: level, message and values."""
        with peer.listen(DiagnosticArray, "/diagnostics") as inbox:

            def reports() -> list[Any]:
                statuses = [status for array in list(inbox.messages) for status in array.status]
                return [status for status in statuses if status.name == f"{self.name}: {camera}"]

            def following() -> tuple[int, str, dict[str, str]]:
                seen = len(reports())
                status = eventually(lambda: reports()[seen:], f"diagnostics of {self.name}")[0]
                return status.level[0], status.message, {value.key: value.value for value in status.values}

            yield following

    @contextmanager
    def camera(self, peer: Peer, kind: type = Image, topic: str = "image", name: str = "") -> Iterator[Camera]:
        """Publish images to the node, as its only camera or the one of a name."""
        prefix = f"{name}/" if name else ""
        with (
            peer.publisher(kind, self.topic(prefix + topic)) as images,
            peer.publisher(CameraInfo, self.topic(f"{prefix}camera_info")) as infos,
        ):
            yield Camera(images, infos)


class Camera:
    """Publishes images and their CameraInfo."""

    def __init__(self, images: Any, infos: Any) -> None:
        self.images = images
        self.infos = infos

    def connect(self) -> None:
        """Wait until the node listens."""
        eventually(lambda: self.images.get_subscription_count() and self.infos.get_subscription_count(), "a listener")

    def ask(self, image: Any, inbox: Inbox, info: CameraInfo | None = None, deadline_s: float = DEADLINE_S) -> Any:
        """Publish until the answer with the image's stamp is there: discovery and best effort lose messages."""
        self.connect()
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if info is not None:
                self.infos.publish(info)
            self.images.publish(image)
            again = time.monotonic() + 0.3
            while time.monotonic() < again:
                if (answer := inbox.with_stamp(image.header.stamp)) is not None:
                    return answer
                time.sleep(0.002)
        raise AssertionError(f"no answer to an image within {deadline_s} s")


class NodeProcess(Remote):
    """The node in a process of its own, the toy encoder unless told otherwise."""

    def __init__(
        self,
        log: Path,
        namespace: str,
        arguments: tuple[str, ...] = (),
        module: str = "depth_anything_ros.node",
        **parameters: Any,
    ) -> None:
        super().__init__(namespace)
        toy = {"encoder": "toy", "checkpoint": "untrained", "input_size": INPUT_SIZE, "backend": "torch"}
        parameters = {**toy, **parameters}
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={_yaml(value)}")]
        command = [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}", *given, *arguments]
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        """Return everything it wrote on stdout and stderr."""
        return self._log.read_text(errors="replace")

    def lines(self, text: str) -> list[str]:
        """Return the lines it wrote that contain a text."""
        return [line for line in self.log().splitlines() if text in line]

    def wait_for(self, text: str, deadline_s: float = 60.0) -> None:
        """Wait until it wrote a text. A busy machine takes its time to import torch."""
        eventually(lambda: text in self.log() or self.process.poll() is not None, text, deadline_s)
        assert text in self.log(), self.log()

    def end_by(self, number: signal.Signals) -> float:
        """Send a signal and return the seconds until the end."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)
        return time.monotonic() - start


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parameters(values: dict[str, Any]) -> list[Any]:
    return [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]


class FakeBackend:
    """In the network's place: says the depth it is told to, slowly or not at all if wished.

    Attributes:
        depth_m: depth in metres, or without a unit; a number or (HEIGHT, WIDTH).
        max_depth_m: depth at its full output, 1 without a unit.
        hold: while cleared, inference does not end.
        error: raised instead of an answer.
        calls: inferences begun.
    """

    name = "fake"
    device = torch.device("cpu")
    precision = "fp32"
    weight_bytes = 0
    max_batch = 1

    def __init__(self, depth_m: float | NDArray[np.float32] = 2.0, delay_s: float = 0.0) -> None:
        self.depth_m = depth_m
        self.max_depth_m = FAKE_MAX_DEPTH_M
        self.delay_s = delay_s
        self.hold = threading.Event()
        self.hold.set()
        self.error: BaseException | None = None
        self.calls = 0

    def __call__(self, x: torch.Tensor) -> Outputs:
        """Normalised image (1, 3, h, w) -> depth (1, h, w) in units of `max_depth_m`."""
        self.calls += 1
        time.sleep(self.delay_s)
        self.hold.wait()
        if self.error is not None:
            raise self.error
        depth = np.broadcast_to(np.asarray(self.depth_m, np.float32), x.shape[2:])
        return {"depth": torch.from_numpy(depth / np.float32(self.max_depth_m)).unsqueeze(0)}


def fake_estimator(backend: FakeBackend, settings: ModelSettings, kind: Kind = "metric") -> DepthEstimator:
    """Return a real estimator around a backend."""
    backend.max_depth_m = FAKE_MAX_DEPTH_M if kind == "metric" else 1.0
    return DepthEstimator(
        backend, key=settings.key, kind=kind, max_depth=backend.max_depth_m, input_size=INPUT_SIZE, sha256="fake"
    )


class HostedNode(Remote):
    """The node in a thread of the test, in the peer's context, around a backend that is the test's own.

    Pass `load` for other estimators than the backend's, `autostart=False` to leave it unconfigured.
    """

    def __init__(
        self,
        context: rclpy.Context,
        backend: FakeBackend,
        load: Callable[[ModelSettings], DepthEstimator] | None = None,
        namespace: str = "",
        **parameters: Any,
    ) -> None:
        super().__init__(namespace or unique("hosted"))
        self.backend = backend
        calm = {"warm_up_width": 0}  # every inference is of an image that was sent
        self.node = DepthAnythingNode(
            load or (lambda settings: fake_estimator(backend, settings)),
            context=context,
            namespace=self.namespace,
            parameter_overrides=[Parameter(name, value=value) for name, value in {**calm, **parameters}.items()],
        )
        wanted = parameters.get("autostart", True)
        if wanted and self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.node.trigger_activate()
        self._spinner = Spinner(self.node, context)

    def __enter__(self) -> HostedNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.hold.set()
        self.node.stop(DEADLINE_S)
        self._spinner.stop()
