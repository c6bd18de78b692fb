"""Scale and shift in the node: what a range sensor or the ground says makes depth true, now or for good."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from harness import (
    HEIGHT,
    WIDTH,
    FakeBackend,
    HostedNode,
    Inbox,
    Peer,
    camera_info,
    depth_of,
    eventually,
    fake_estimator,
    image_message,
)
from lifecycle_msgs.msg import Transition
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField, Range
from std_msgs.msg import Float32, Header
from std_srvs.srv import Trigger

from depth_anything_ros.camera import CameraModel
from depth_anything_ros.node.conversions import depth_to_image
from depth_anything_ros.scale.transform import Transform

Depth = NDArray[np.float32]
Start = Callable[..., HostedNode]
Reading = Callable[[Header, Depth], Any]

OK, WARN = 0, 1
SCALE, SHIFT_M = 1.4, -0.3  # depth = SCALE * predicted + SHIFT_M
OUTLIERS = 0.4
TOLERANCE = 0.03  # of depth
MODEL_KEY = "vits_hypersim_518"
RANDOM = np.random.default_rng(5)

CAMERA = CameraModel.from_camera_info(camera_info(), rectified=False)
# Half a metre behind the lens, to its right and above, looking the same way.
EXTRINSICS = [0.2, -0.1, -0.5, math.pi / 2, -math.pi / 2, 0.0]
T_CAMERA_SENSOR = Transform.from_xyz_rpy(EXTRINSICS)

RAMP = np.broadcast_to(np.linspace(2.0, 6.0, WIDTH, dtype=np.float32), (HEIGHT, WIDTH)).copy()
HEIGHT_M = 0.6


def predicted_of(truth: Depth, scale: float = SCALE, shift_m: float = SHIFT_M) -> Depth:
    """What a model says that is off by a scale and a shift."""
    return np.asarray((truth - shift_m) / scale, np.float32)


def relative_of(truth: Depth) -> Depth:
    """What a relative model says."""
    return np.asarray((1 / truth - 0.02) / 0.05, np.float32)


def ground() -> Depth:
    """A floor that ends at a wall, with furniture on a quarter of it."""
    _, ray_y = np.broadcast_arrays(*CAMERA.rays())
    with np.errstate(divide="ignore"):
        depth = np.where(ray_y > 0, np.minimum(HEIGHT_M / ray_y, 8.0), 8.0)
    depth[:, 30:50] = np.minimum(depth[:, 30:50], 1.5)
    return np.asarray(depth, np.float32)


# What sensors send of the truth, two of five readings wrong


def with_outliers(values: NDArray[Any]) -> NDArray[Any]:
    wrong = RANDOM.permutation(len(values)) < OUTLIERS * len(values)
    factors = np.where(wrong, RANDOM.uniform(0.2, 3.0, len(values)), 1.0)
    return values * factors.reshape(-1, *[1] * (values.ndim - 1))


def in_sensor_frame(points: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((points - T_CAMERA_SENSOR.translation) @ T_CAMERA_SENSOR.rotation)


def scan(header: Header, truth: Depth) -> LaserScan:
    """Look along the sensor's plane, which meets the camera's columns one by one."""
    depth = truth[HEIGHT // 2]
    ray_x = np.broadcast_to(CAMERA.rays()[0], (HEIGHT, WIDTH))[0]
    points = in_sensor_frame(np.stack([ray_x * depth, np.full(WIDTH, EXTRINSICS[1]), depth], axis=-1))
    angles, ranges = np.arctan2(points[:, 1], points[:, 0])[::-1], np.hypot(points[:, 0], points[:, 1])[::-1]
    even = np.linspace(angles[0], angles[-1], 120)
    msg = LaserScan(header=header, angle_min=even[0], angle_increment=even[1] - even[0], range_max=100.0)
    msg.ranges = with_outliers(np.interp(even, angles, ranges)).astype(np.float32).tolist()
    return msg


def cloud(header: Header, truth: Depth) -> PointCloud2:
    """Points of pixels here and there."""
    points = CAMERA.back_project(truth).reshape(-1, 3)
    chosen = with_outliers(in_sensor_frame(points[RANDOM.choice(len(points), 400, replace=False)]))
    msg = PointCloud2(header=header, width=len(chosen), height=1, point_step=12, row_step=12 * len(chosen))
    msg.fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate("xyz")]
    msg.data.frombytes(chosen.astype(np.float32).tobytes())
    return msg


def registered(header: Header, truth: Depth) -> Image:
    """A depth camera's image of half the size, where something stands before two fifths of it."""
    half = truth[::2, ::2].copy()
    half[:, : int(OUTLIERS * half.shape[1])] *= 0.3
    return depth_to_image(half, header)


def cone(header: Header, truth: Depth) -> Range:
    """One reading: the wall straight ahead of the sensor."""
    msg = Range(header=header, field_of_view=0.1, max_range=100.0)
    is_wrong = RANDOM.uniform() < OUTLIERS
    msg.range = float(truth[0, 0] - EXTRINSICS[2]) * (RANDOM.uniform(0.2, 3.0) if is_wrong else 1.0)
    return msg


def garbage(header: Header, truth: Depth) -> LaserScan:
    """A scan of something else altogether."""
    msg = scan(header, truth)
    msg.ranges = RANDOM.uniform(0.5, 9.0, len(msg.ranges)).astype(np.float32).tolist()
    return msg


# The node, its camera and its sensor


class Rig:
    """A camera and a range sensor, and what the node makes of them."""

    def __init__(
        self,
        node: HostedNode,
        peer: Peer,
        stack: ExitStack,
        kind: type = LaserScan,
        prefix: str = "",
        listens: bool = True,
    ) -> None:
        self.node = node

        def publisher(kind: type, name: str) -> Any:
            return stack.enter_context(peer.publisher(kind, node.topic(prefix + name)))

        def listen(kind: type, name: str) -> Inbox:
            return stack.enter_context(peer.listen(kind, node.topic(f"~/{prefix}{name}"))) if listens else Inbox()

        self.images, self.infos = publisher(Image, "image"), publisher(CameraInfo, "camera_info")
        self.ranges = publisher(kind, "range")
        self.depths, self.residuals = listen(Image, "depth/image"), listen(Float32, "alignment/residual")
        self.points, self.relative = listen(PointCloud2, "points"), listen(Image, "relative/image")
        self.all_inputs = (self.images, self.infos)

    def connect(self) -> None:
        """Wait until the node listens to the camera; to the sensor only where it has one."""
        eventually(lambda: all(input.get_subscription_count() for input in self.all_inputs), "a listener")

    def show(self, truth: Depth, reading: Reading | None = None, *, is_stamped: bool = True) -> Header:
        """Publish an image, its CameraInfo and the sensor's reading; wait until the node is done with it."""
        self.connect()
        image = image_message()
        if not is_stamped:
            image.header.stamp = Time()
        if reading is not None:
            self.ranges.publish(reading(image.header, truth))
        self.infos.publish(camera_info(header=image.header))
        counts = self.node.node.counts
        done = counts.processed + counts.failed
        self.images.publish(image)

        def is_done() -> bool:
            counts = self.node.node.counts
            return counts.processed + counts.failed > done

        eventually(is_done, "the image")
        return image.header

    def show_until(self, condition: Callable[[], bool], truth: Depth, reading: Reading | None = None) -> Header:
        """Show images until something is so; return the last one's header."""
        headers: list[Header] = []

        def shown() -> bool:
            headers.append(self.show(truth, reading))
            return condition()

        eventually(shown, "the effect of images")
        return headers[-1]

    def depth(self, header: Header) -> Depth:
        """Return the depth that came of an image."""
        return depth_of(eventually(lambda: self.depths.with_stamp(header.stamp), "depth"))


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten reports a second: tests wait for them."""
    monkeypatch.setattr("depth_anything_ros.node.diagnostics.PERIOD_S", 0.1)


@pytest.fixture
def rig(host: Start, peer: Peer) -> Iterator[Callable[..., Rig]]:
    """Start a node with a camera and a sensor of a type of message."""
    with ExitStack() as stack:

        def start(
            kind: type = LaserScan, backend: FakeBackend | None = None, listens: bool = True, **parameters: Any
        ) -> Rig:
            usual = {"range_type": kind.__name__, "range_extrinsics": EXTRINSICS}
            backend = backend or FakeBackend(predicted_of(RAMP))
            return Rig(host(backend, **{**usual, **parameters}), peer, stack, kind, listens=listens)

        yield start


@pytest.fixture
def states(peer: Peer) -> Iterator[Callable[[Rig], Callable[[], str]]]:
    """A function that gives a rig's latest reported state of alignment, without waiting."""
    with peer.listen(DiagnosticArray, "/diagnostics") as inbox:

        def of(rig: Rig) -> Callable[[], str]:
            def state() -> str:
                name = f"{rig.node.name}: depth"
                found = [s for array in list(inbox.messages)[-20:] for s in array.status if s.name == name]
                values = {value.key: value.value for value in found[-1].values} if found else {}
                return str(values.get("alignment_state", ""))

            return state

        yield of


States = Callable[[Rig], Callable[[], str]]
Rigs = Callable[..., Rig]


def error_of(depth: Depth, truth: Depth) -> float:
    """The largest error, as a share of depth."""
    return float(np.max(np.abs(depth - truth) / truth))


# Scale and shift as they are configured


def test_the_configured_scale_and_shift_are_applied_and_reported(rig: Rigs, peer: Peer) -> None:
    it = rig(scale=SCALE, shift_m=SHIFT_M)
    header = it.show_until(lambda: bool(it.depths), RAMP)
    assert error_of(it.depth(header), RAMP) < 1e-5
    with it.node.diagnostics(peer) as report:
        values = report()[2]
        assert (values["scale"], values["shift_m"]) == (str(SCALE), f"{SHIFT_M} m")
        assert it.node.set(peer, scale=1.0)[0].successful
        header = it.show(RAMP)
        assert error_of(it.depth(header), predicted_of(RAMP) + SHIFT_M) < 1e-5
        assert report()[2]["scale"] == "1.0"


# Alignment


@pytest.mark.parametrize(
    ("kind", "reading"), [(LaserScan, scan), (PointCloud2, cloud), (Image, registered)], ids=lambda item: item.__name__
)
def test_alignment_makes_depth_and_clouds_true_among_outliers(
    rig: Rigs, states: States, peer: Peer, kind: type, reading: Reading
) -> None:
    it = rig(kind, alignment="range")
    state = states(it)
    it.show_until(lambda: state() == "aligned", RAMP, reading)
    header = it.show_until(lambda: bool(it.points) and bool(it.residuals), RAMP, reading)
    assert error_of(it.depth(header), RAMP) < TOLERANCE
    points = eventually(lambda: it.points.with_stamp(header.stamp), "its cloud")
    z = np.frombuffer(points.data, np.float32).reshape(HEIGHT, WIDTH, -1)[..., 2]
    assert error_of(z, RAMP) < TOLERANCE
    assert 0 <= it.residuals.messages[-1].data < TOLERANCE * RAMP.max()
    with it.node.diagnostics(peer) as report:
        level, message, values = report()
    assert (level, message) == (OK, "active"), message
    assert float(values["alignment_scale"]) == pytest.approx(SCALE, rel=TOLERANCE)
    assert float(values["alignment_shift_m"].removesuffix(" m")) == pytest.approx(SHIFT_M, abs=0.1)
    assert 0.5 < float(values["alignment_inlier_share"]) < 0.8
    assert float(values["alignment_samples"]) >= 20
    assert float(values["alignment_residual_m"].removesuffix(" m")) == pytest.approx(
        it.residuals.messages[-1].data, rel=0.5, abs=0.01
    )


def test_single_readings_of_a_range_sensor_align_when_they_are_collected(rig: Rigs, states: States) -> None:
    backend = FakeBackend()
    it = rig(Range, backend, alignment="range", alignment_window_s=60.0, alignment_hold_s=60.0)
    state = states(it)

    def wall() -> Depth:
        truth = np.full((HEIGHT, WIDTH), RANDOM.uniform(1.5, 6.0), np.float32)
        backend.depth_m = predicted_of(truth)
        return truth

    def aligned() -> bool:
        it.show(wall(), cone)
        return state() == "aligned"

    eventually(aligned, "aligned")
    for _ in range(20):
        it.show(wall(), cone)
    truth = wall()
    assert error_of(it.depth(it.show(truth, cone)), truth) < 2 * TOLERANCE


def test_alignment_holds_then_falls_back_then_takes_up_again_and_says_why(
    rig: Rigs, states: States, peer: Peer
) -> None:
    it = rig(alignment="range", alignment_window_s=0.0, alignment_time_constant_s=0.0, scale=1.1)
    state = states(it)
    it.show_until(lambda: state() == "aligned", RAMP, scan)
    with it.node.diagnostics(peer) as report:
        header = it.show(RAMP, garbage)
        level, message, _ = report()
        assert (level, message[:22]) == (WARN, "alignment is holding: ")
        assert "samples" in message
        assert error_of(it.depth(header), RAMP) < TOLERANCE  # what held before still does
        header = it.show_until(lambda: state() == "fallback", RAMP, garbage)
        header = it.show(RAMP, garbage)
        assert report()[1].startswith("alignment is fallback: ")
        assert error_of(it.depth(header), 1.1 * predicted_of(RAMP)) < 1e-5
        it.show_until(lambda: state() == "aligned", RAMP, scan)
        assert report()[:2] == (OK, "active")


def test_without_readings_alignment_falls_back_to_the_configured_scale(rig: Rigs, states: States, peer: Peer) -> None:
    it = rig(alignment="range", scale=1.1)
    state = states(it)
    it.show_until(lambda: state() == "waiting", RAMP)
    with it.node.diagnostics(peer) as report:
        assert report()[:2] == (WARN, f"alignment is waiting: no message on {it.node.namespace}/range yet")
        it.show_until(lambda: state() == "aligned", RAMP, scan)
        it.show_until(lambda: state() == "fallback", RAMP)
        level, message, _ = report()
    assert (level, message[:35]) == (WARN, "alignment is fallback: no reading f")
    assert error_of(it.depth(it.show(RAMP)), 1.1 * predicted_of(RAMP)) < 1e-5


def test_another_max_depth_begins_alignment_anew(rig: Rigs, states: States, peer: Peer) -> None:
    it = rig(alignment="range", alignment_window_s=1000.0)
    state = states(it)
    it.show_until(lambda: state() == "aligned", RAMP, scan)
    assert it.node.set(peer, max_depth=40.0)[0].successful  # the network's output now counts twice
    header = it.show(RAMP, scan)
    assert error_of(it.depth(header), RAMP) < TOLERANCE


def test_a_relative_model_is_metric_only_while_it_is_aligned(host: Start, peer: Peer, states: States) -> None:
    backend = FakeBackend(relative_of(RAMP))
    node = host(
        backend,
        load=lambda settings: fake_estimator(backend, settings, "relative"),
        range_type="LaserScan",
        range_extrinsics=EXTRINSICS,
        alignment="range",
        alignment_time_constant_s=0.0,
    )
    with ExitStack() as stack:
        it = Rig(node, peer, stack)
        state = states(it)
        it.show_until(lambda: state() == "waiting" and len(it.relative) > 3, RAMP, garbage)
        assert not it.depths.messages
        assert not it.points.messages
        it.show_until(lambda: state() == "aligned", RAMP, scan)
        header = it.show(RAMP, scan)
        assert error_of(it.depth(header), RAMP) < TOLERANCE
        relative = eventually(lambda: it.relative.with_stamp(header.stamp), "relative depth")
        assert np.allclose(depth_of(relative), relative_of(RAMP), rtol=1e-5)
        it.show_until(lambda: state() == "fallback", RAMP, garbage)
        unscaled = it.show(RAMP, garbage)
        last = it.show_until(lambda: state() == "aligned", RAMP, scan)
        last = it.show(RAMP, scan)
        it.depth(last)
        assert it.depths.with_stamp(unscaled.stamp) is None
        assert it.relative.with_stamp(unscaled.stamp) is not None


def test_depth_whose_factor_is_another_in_every_picture_has_metres_only_with_a_reading_of_that_picture(
    host: Start, peer: Peer, states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor of a third of the camera's rate; whatever smooths and holds the scale of a metric model is on."""
    monkeypatch.setattr("depth_anything_ros.node.camera_pipeline.KIND_HELD_S", 1e6)
    backend = FakeBackend(RAMP)
    node = host(
        backend,
        load=lambda settings: fake_estimator(backend, settings, "scale_invariant"),
        range_type="LaserScan",
        range_extrinsics=EXTRINSICS,
        alignment="range",
        alignment_time_constant_s=100.0,
        alignment_hold_s=3600.0,
        alignment_window_s=1000.0,
    )
    with ExitStack() as stack:
        it = Rig(node, peer, stack)
        state = states(it)
        it.show_until(lambda: state() == "aligned", RAMP, scan)
        with_reading: list[Header] = []
        without: list[Header] = []
        for i in range(6):
            backend.depth_m = RAMP * RANDOM.uniform(0.5, 2.0)
            (without if i % 3 else with_reading).append(it.show(RAMP, None if i % 3 else scan))
        assert max(error_of(it.depth(header), RAMP) for header in with_reading) < TOLERANCE
        it.depth(it.show(RAMP, scan))  # the last one: what came before has arrived
        assert not [header for header in without if it.depths.with_stamp(header.stamp)]
        it.show(RAMP)
        [camera] = node.node._cameras
        assert (camera.facts()["kind"], camera.facts()["calibrated"]) == ("metric", True), "between readings"
        monkeypatch.setattr("depth_anything_ros.node.camera_pipeline.KIND_HELD_S", 0.0)
        it.show(RAMP)
        assert camera.facts()["kind"] == "scale_invariant"


def test_readings_and_images_without_a_stamp_are_not_taken_for_one_moment(
    rig: Rigs, states: States, peer: Peer
) -> None:
    it = rig(alignment="range", scale=1.1)
    state = states(it)

    def without_stamp(_: Header, truth: Depth) -> LaserScan:
        return scan(Header(frame_id="scanner"), truth)

    it.show_until(lambda: state() == "waiting", RAMP, without_stamp)
    with it.node.diagnostics(peer) as report:
        it.show(RAMP, without_stamp)
        assert f"stamps on {it.node.namespace}/range are 0" in report()[1]
        it.show(RAMP, without_stamp, is_stamped=False)
        assert "the image's stamp is 0" in report()[1]
    assert state() == "waiting"
    assert error_of(it.depth(it.show(RAMP)), 1.1 * predicted_of(RAMP)) < 1e-5


def test_images_without_a_stamp_are_aligned_to_the_ground_as_it_is_now(rig: Rigs, states: States) -> None:
    """By stamps no time passes: the first scale would be smoothed for ever, and held for ever."""
    truth = ground()
    parameters = {"range_type": "", "alignment": "ground_plane", "camera_height_m": HEIGHT_M}
    it = rig(backend=FakeBackend(truth), **parameters, alignment_time_constant_s=0.01, alignment_hold_s=0.05)
    state = states(it)

    def show() -> bool:
        it.show(truth, is_stamped=False)
        return state() == "aligned"

    eventually(show, "the ground is found")
    it.node.backend.depth_m = np.asarray(truth / 2, np.float32)

    def is_true() -> bool:
        it.show(truth, is_stamped=False)
        return error_of(depth_of(it.depths.messages[-1]), truth) < TOLERANCE

    eventually(is_true, "depth follows the ground")
    it.node.backend.depth_m = 3.0  # a wall

    def has_fallen_back() -> bool:
        it.show(truth, is_stamped=False)
        return state() == "fallback"

    eventually(has_fallen_back, "the scale of a ground that is gone is given up")


def test_the_ground_aligns_a_camera_of_known_height(rig: Rigs, states: States, peer: Peer) -> None:
    truth = ground()
    it = rig(
        backend=FakeBackend(predicted_of(truth, shift_m=0.0)),
        range_type="",
        alignment="ground_plane",
        alignment_hold_s=1000.0,
        camera_height_m=HEIGHT_M,
    )
    state = states(it)
    it.show_until(lambda: state() == "aligned", truth)
    assert error_of(it.depth(it.show(truth)), truth) < TOLERANCE
    it.node.backend.depth_m = 3.0  # a wall
    with it.node.diagnostics(peer) as report:
        it.show_until(lambda: state() == "holding", truth)
        level, message, _ = report()
    assert (level, message[:22]) == (WARN, "alignment is holding: ")


def test_alignment_that_is_switched_off_leaves_the_configured_scale(rig: Rigs, states: States, peer: Peer) -> None:
    it = rig(alignment="range")
    state = states(it)
    it.show_until(lambda: state() == "aligned", RAMP, scan)
    assert it.node.set(peer, alignment="none")[0].successful
    it.show_until(lambda: state() == "", RAMP, scan)
    assert error_of(it.depth(it.show(RAMP, scan)), predicted_of(RAMP)) < 1e-5


# Where the sensor is, by TF


class FakeTf:
    """In tf2_ros's place: knows one transform once it is told it.

    Attributes:
        asked: target and source frames.
        listening: how many listeners there are.
    """

    def __init__(self) -> None:
        self.known: SimpleNamespace | None = None
        self.asked: set[tuple[str, str]] = set()
        self.listening = 0

    def module(self) -> ModuleType:
        tf = self

        class Buffer:
            def lookup_transform(self, target: str, source: str, time: Any, timeout: Any) -> Any:
                tf.asked.add((target, source))
                if tf.known is None:
                    raise LookupError(f"{source} does not exist")
                return SimpleNamespace(transform=tf.known)

        class TransformListener:
            def __init__(self, buffer: Buffer, node: Any) -> None:
                tf.listening += 1

            def unregister(self) -> None:
                tf.listening -= 1

        module = ModuleType("tf2_ros")
        vars(module).update(Buffer=Buffer, TransformListener=TransformListener)
        return module


def of_scanner(header: Header, truth: Depth) -> LaserScan:
    """A scan in a frame of its own."""
    msg = scan(header, truth)
    msg.header = Header(stamp=header.stamp, frame_id="scanner")
    return msg


def test_tf_says_where_the_sensor_is(host: Start, peer: Peer, states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    tf = FakeTf()
    monkeypatch.setitem(sys.modules, "tf2_ros", tf.module())
    node = host(FakeBackend(predicted_of(RAMP)), range_type="LaserScan", alignment="range")
    with ExitStack() as stack, node.diagnostics(peer) as report:
        it = Rig(node, peer, stack)
        state = states(it)
        it.show_until(lambda: bool(tf.asked), RAMP, of_scanner)
        wanted = "alignment is waiting: no transform from 'scanner' to 'camera_optical_frame': scanner does not exist"
        assert report()[:2] == (WARN, wanted)
        half = math.sqrt(0.5)  # the rotation of EXTRINSICS as a quaternion
        x, y, z = EXTRINSICS[:3]
        tf.known = SimpleNamespace(
            translation=SimpleNamespace(x=x, y=y, z=z),
            rotation=SimpleNamespace(x=half * half, y=-half * half, z=half * half, w=half * half),
        )
        assert np.allclose(Transform.from_message(tf.known).rotation, T_CAMERA_SENSOR.rotation)
        it.show_until(lambda: state() == "aligned", RAMP, of_scanner)
        assert error_of(it.depth(it.show(RAMP, of_scanner)), RAMP) < TOLERANCE
    assert tf.asked == {("camera_optical_frame", "scanner")}
    assert tf.listening == 1
    node.change(peer, Transition.TRANSITION_DEACTIVATE)
    node.change(peer, Transition.TRANSITION_CLEANUP)
    assert tf.listening == 0


def test_without_tf_the_reason_says_what_to_do(host: Start, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    node = host(FakeBackend(predicted_of(RAMP)), range_type="LaserScan", alignment="range")
    with ExitStack() as stack, node.diagnostics(peer) as report:
        it = Rig(node, peer, stack)

        def said() -> str:
            it.show(RAMP, of_scanner)
            return report()[1]

        expected = "the pose of the range sensor is not known: set range_extrinsics, or install tf2_ros"
        eventually(lambda: said() == f"alignment is waiting: {expected}", expected)


# Calibration


class showing:  # noqa: N801 (reads as a verb: with showing(rig, ...))
    """Show images with readings, one after the other, in the background."""

    def __init__(self, rigs: list[Rig], truth: Depth, reading: Reading | None = None) -> None:
        self._work = (rigs, truth, reading)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show)

    def _show(self) -> None:
        rigs, truth, reading = self._work
        while not self._done.wait(0.01):
            for rig in rigs:
                image = image_message()
                if reading is not None:
                    rig.ranges.publish(reading(image.header, truth))
                rig.infos.publish(camera_info(header=image.header))
                rig.images.publish(image)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def calibrate(node: HostedNode, peer: Peer) -> Trigger.Response:
    return peer.call(Trigger, f"{node.name}/calibrate", Trigger.Request())


def test_a_calibration_is_applied_written_and_loaded_again(
    rig: Rigs, peer: Peer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "cameras.yaml")
    it = rig(calibration_file=file)
    assert "cannot be read: No such file" in capfd.readouterr().err
    it.show(RAMP, scan)
    with showing([it], RAMP, scan):
        answer = calibrate(it.node, peer)
    assert answer.success, answer.message
    assert answer.message.startswith("camera: scale 1.")
    for part in ("shift -0.", "residual 0.", "% of ", "samples agree"):
        assert part in answer.message
    scale, shift_m = it.node.get(peer, "scale", "shift_m")
    assert (scale, shift_m) == pytest.approx((SCALE, SHIFT_M), abs=0.05)
    assert error_of(it.depth(it.show_until(lambda: True, RAMP)), RAMP) < TOLERANCE
    written = yaml.safe_load(Path(file).read_text())
    assert list(written) == ["camera"]
    entry = written["camera"]
    assert (entry["scale"], entry["shift_m"], entry["model"]) == (scale, shift_m, MODEL_KEY)
    again = rig(calibration_file=file)
    assert again.node.get(peer, "scale", "shift_m") == [scale, shift_m]
    assert error_of(again.depth(again.show_until(lambda: bool(again.depths), RAMP)), RAMP) < TOLERANCE


def write_calibration(path: Path, camera: str = "camera", model: str = MODEL_KEY) -> str:
    numbers = {"scale": 1.5, "shift_m": 0.25, "residual_m": 0.01, "inlier_share": 0.9, "samples": 900}
    path.write_text(yaml.safe_dump({camera: {**numbers, "model": model, "date": "2026-03-01"}}))
    return str(path)


def test_a_parameter_that_was_given_wins_over_the_file(host: Start, peer: Peer, tmp_path: Path) -> None:
    file = write_calibration(tmp_path / "cameras.yaml")
    assert host(calibration_file=file).get(peer, "scale", "shift_m") == [1.5, 0.25]
    assert host(calibration_file=file, scale=1.2).get(peer, "scale", "shift_m") == [1.2, 0.0]


def test_another_models_calibration_is_refused_with_a_warning(
    host: Start, peer: Peer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_calibration(tmp_path / "cameras.yaml", model="vitl_vkitti_518")
    node = host(calibration_file=file)
    assert node.get(peer, "scale", "shift_m") == [1.0, 0.0]
    assert f"was calibrated for model vitl_vkitti_518, not {MODEL_KEY}" in capfd.readouterr().err


def test_a_calibration_whose_shift_a_factor_cannot_have_is_refused_whole(
    host: Start, peer: Peer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_calibration(tmp_path / "cameras.yaml")
    backend = FakeBackend()
    node = host(
        backend, load=lambda settings: fake_estimator(backend, settings, "scale_invariant"), calibration_file=file
    )
    assert node.get(peer, "metres_per_unit", "scale") == [0.0, 1.0]
    assert "depth up to a factor has no shift, and shift_m is" in capfd.readouterr().err


def test_the_ground_calibrates_a_camera_without_a_range_sensor(rig: Rigs, peer: Peer) -> None:
    truth = ground()
    it = rig(backend=FakeBackend(predicted_of(truth, shift_m=0.0)), range_type="", camera_height_m=HEIGHT_M)
    it.show(truth)
    with showing([it], truth):
        answer = calibrate(it.node, peer)
    assert answer.success, answer.message
    assert "the ground gives the scale alone" in answer.message
    assert it.node.get(peer, "scale", "shift_m") == pytest.approx([SCALE, 0.0], rel=TOLERANCE)


def test_a_calibration_needs_no_listener(rig: Rigs, peer: Peer) -> None:
    it = rig(listens=False)
    it.connect()
    with showing([it], RAMP, scan):
        answer = calibrate(it.node, peer)
    assert answer.success, answer.message
    assert it.node.node.counts.ignored > 0


def test_readings_that_tell_nothing_are_refused_and_change_nothing(rig: Rigs, peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    it = rig(calibration_file=str(file))
    it.show(RAMP, garbage)
    with showing([it], RAMP, garbage):
        answer = calibrate(it.node, peer)
    assert not answer.success
    assert answer.message.startswith("camera: refused, ")
    assert it.node.get(peer, "scale", "shift_m") == [1.0, 0.0]
    assert not file.exists()


@pytest.mark.parametrize(("reading", "said"), [(None, "no message on {}/range yet"), ("no image", "no frame came")])
def test_a_calibration_without_evidence_ends_in_time_and_says_what_was_missing(
    rig: Rigs, peer: Peer, monkeypatch: pytest.MonkeyPatch, reading: str | None, said: str
) -> None:
    monkeypatch.setattr("depth_anything_ros.scale.calibration_run.LONGEST_S", 0.5)
    it = rig()
    it.show(RAMP)
    with showing([] if reading else [it], RAMP):
        answer = calibrate(it.node, peer)
    assert not answer.success
    assert answer.message == f"camera: refused, no evidence: {said.format(it.node.namespace)}"


@pytest.mark.parametrize("way", ["again", "deactivated", "another model"])
def test_a_calibration_that_is_overtaken_ends_at_once(rig: Rigs, peer: Peer, way: str) -> None:
    it = rig()
    it.show(RAMP)
    answers: list[Trigger.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(calibrate(it.node, peer)))
    waiting.start()
    eventually(lambda: it.node.node._cameras[0].scaling.is_calibrating, "the calibration")
    if way == "again":
        with showing([it], RAMP, scan):
            assert calibrate(it.node, peer).success
        why = "another calibration was started"
    elif way == "deactivated":
        assert it.node.change(peer, Transition.TRANSITION_DEACTIVATE)
        why = "the node was deactivated"
    else:
        assert it.node.set(peer, encoder="vitb")[0].successful
        why = "the model was changed"
    waiting.join()
    assert (answers[0].success, answers[0].message) == (False, f"camera: refused, {why}")


def test_a_relative_model_and_an_inactive_node_refuse_at_once(host: Start, peer: Peer) -> None:
    backend = FakeBackend(relative_of(RAMP))
    node = host(backend, load=lambda settings: fake_estimator(backend, settings, "relative"), range_type="LaserScan")
    answer = calibrate(node, peer)
    assert (answer.success, answer.message) == (False, "relative depth has no scale that lasts: use alignment")
    node.change(peer, Transition.TRANSITION_DEACTIVATE)
    assert calibrate(node, peer).message == "the node is not active"


def test_depth_up_to_a_factor_gets_its_factor_and_another_model_takes_it_back(
    host: Start, peer: Peer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = FakeBackend(predicted_of(RAMP, 10 * SCALE, shift_m=0.0))
    file = tmp_path / "cameras.yaml"
    usual = {"range_type": "LaserScan", "range_extrinsics": EXTRINSICS, "calibration_file": str(file)}
    with ExitStack() as stack:
        node = host(backend, load=lambda settings: fake_estimator(backend, settings, "scale_invariant"), **usual)
        it = Rig(node, peer, stack)
        it.connect()
        with showing([it], RAMP, scan):
            answer = calibrate(node, peer)
        assert answer.success, answer.message
        assert "one factor is right while the view stays the same" in answer.message
        [factor, scale] = node.get(peer, "metres_per_unit", "scale")
        assert (factor, scale) == (pytest.approx(10 * SCALE, rel=TOLERANCE), 1.0)
        assert error_of(it.depth(it.show_until(lambda: bool(it.depths), RAMP)), RAMP) < TOLERANCE
        assert yaml.safe_load(file.read_text())["camera"]["scale"] == factor
        assert node.set(peer, encoder="vitb")[0].successful
        eventually(lambda: node.get(peer, "metres_per_unit") == [0.0], "the factor is taken back")
    assert f"its scale was fitted to {MODEL_KEY}, not to vitb" in capfd.readouterr().err


def test_every_camera_is_calibrated_for_itself(host: Start, peer: Peer, tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    parameters = {
        "cameras": ["front", "rear"],
        "range_type": "LaserScan",
        "range_extrinsics": EXTRINSICS,
        "calibration_file": str(file),
        "rear.max_depth": 40.0,  # twice the depth for the same answer of the network
    }
    node = host(FakeBackend(predicted_of(RAMP)), **parameters)
    with ExitStack() as stack:
        rigs = [Rig(node, peer, stack, prefix=f"{name}/") for name in ("front", "rear")]
        for it in rigs:
            it.connect()
            eventually(it.ranges.get_subscription_count, "a listener to the sensor")
        with showing(rigs, RAMP, scan):
            answer = calibrate(node, peer)
        assert answer.success, answer.message
        front, rear = answer.message.split("; ")
        assert (front[:7], rear[:6]) == ("front: ", "rear: ")
        assert node.get(peer, "front.scale", "rear.scale") == pytest.approx([SCALE, SCALE / 2], rel=TOLERANCE)
        assert node.get(peer, "scale") == [1.0]
        written = yaml.safe_load(file.read_text())
        assert {name: round(entry["scale"], 1) for name, entry in written.items()} == {"front": 1.4, "rear": 0.7}
    again = host(FakeBackend(predicted_of(RAMP)), **parameters)
    assert again.get(peer, "front.scale", "rear.scale") == [written["front"]["scale"], written["rear"]["scale"]]
