"""What diagnostics say while all is well, what drives them to WARN and ERROR, and that it goes away with its cause."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from harness import (
    FakeBackend,
    HostedNode,
    Inbox,
    NodeProcess,
    Peer,
    camera_info,
    eventually,
    fake_estimator,
    image_message,
)
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_srvs.srv import SetBool

from depth_anything_ros.errors import CheckpointNotFound, OutOfMemory
from depth_anything_ros.node.recovery import LOST_AFTER, Recovery
from depth_anything_ros.runtime.hardware import hardware_name

Start = Callable[..., HostedNode]
OK, WARN, ERROR = 0, 1, 2


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten reports a second: tests wait for them."""
    monkeypatch.setattr("depth_anything_ros.node.diagnostics.PERIOD_S", 0.1)


class Rig:
    """A node with a camera at 50 Hz and a listener, and what it reports.

    Attributes:
        image, info: make what is published; None publishes nothing.
    """

    def __init__(self, node: HostedNode, peer: Peer, stack: ExitStack) -> None:
        self.node, self.peer = node, peer
        self.image: Callable[[], Image] | None = image_message
        self.info: Callable[[], CameraInfo] | None = camera_info
        self.depths: Inbox = stack.enter_context(peer.listen(Image, node.topic("~/depth/image")))
        self.points: Inbox = stack.enter_context(peer.listen(PointCloud2, node.topic("~/points")))
        self._reports: Inbox = stack.enter_context(peer.listen(DiagnosticArray, "/diagnostics"))
        self._images: Any = stack.enter_context(peer.publisher(Image, node.topic("image")))
        self._infos: Any = stack.enter_context(peer.publisher(CameraInfo, node.topic("camera_info")))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        stack.callback(self._stop)

    def _send(self) -> None:
        while not self._done.wait(0.02):
            stamp = self.peer.node.get_clock().now().to_msg()
            for make, publisher in ((self.info, self._infos), (self.image, self._images)):
                if make is not None:
                    msg = make()
                    msg.header.stamp = stamp
                    publisher.publish(msg)

    def _stop(self) -> None:
        self._done.set()
        self._thread.join()

    def report(self) -> Any:
        """Return the latest report; None before the first."""
        name = f"{self.node.name}: depth"
        found = [s for array in list(self._reports.messages)[-20:] for s in array.status if s.name == name]
        return found[-1] if found else None

    def values(self) -> dict[str, str]:
        """Return the latest report's values."""
        return {value.key: value.value for value in self.report().values}

    def wait_for(self, level: int, text: str) -> None:
        """Wait for a report of a level whose message has a text."""

        def has_come() -> bool:
            report = self.report()
            return report is not None and report.level[0] == level and text in report.message

        try:
            eventually(has_come, "", 10.0)
        except AssertionError:
            report = self.report()
            pytest.fail(f"no report of level {level} with {text!r}; the last: {report.level}, {report.message!r}")


@pytest.fixture
def rig(host: Start, peer: Peer) -> Iterator[Callable[..., Rig]]:
    """Start a node with its camera."""
    with ExitStack() as stack:
        yield lambda backend=None, **parameters: Rig(host(backend, **parameters), peer, stack)


Rigs = Callable[..., Rig]


def number(value: str) -> float:
    """The number of a value that may have a unit."""
    return float(value.split()[0])


# All is well


def test_every_value_is_there_and_plausible(rig: Rigs) -> None:
    it = rig(FakeBackend(delay_s=0.002), alignment="none")
    eventually(lambda: len(it.points) > 20, "clouds")
    it.wait_for(OK, "active")
    eventually(lambda: number(it.values()["rate_out_hz"]) > 1, "a rate")
    values = it.values()
    stages = {
        f"{stage}_ms"
        for stage in ("transport", "queue", "conversion", "network", "scale", "filter", "back_projection", "publish")
    }
    counts = {f"frames_{name}" for name in ("received", "processed", "dropped", "ignored", "failed")}
    latencies = {f"latency_p{p}_ms" for p in (50, 95, 99)}
    what_runs = {"model", "sha256", "device", "backend", "precision", "hardware", "memory_mib"}
    others = {"rate_in_hz", "rate_out_hz", "image_age_s", "camera_info_age_s", "scale", "shift_m"}
    what_it_is = {"camera", "state", "topics", "kind", "width", "height", "alignment", "rectified", "calibrated"}
    counts |= {"images_lost"}
    assert set(values) == stages | counts | latencies | what_runs | others | what_it_is
    numbers = {name: number(values[name]) for name in values.keys() - what_it_is - what_runs | {"memory_mib"}}
    assert all(math.isfinite(value) and value >= 0 for value in numbers.values())
    assert 0 < numbers["latency_p50_ms"] <= numbers["latency_p95_ms"] <= numbers["latency_p99_ms"]
    assert 2 <= numbers["network_ms"] <= numbers["latency_p99_ms"]
    assert numbers["rate_out_hz"] <= numbers["rate_in_hz"] < 60
    assert numbers["image_age_s"] < 5
    assert numbers["images_lost"] == 0
    assert numbers["frames_received"] >= sum(numbers[f"frames_{name}"] for name in ("processed", "dropped", "ignored"))
    assert numbers["memory_mib"] == pytest.approx(psutil.Process().memory_info().rss / 2**20, rel=0.2)
    running = [values[name] for name in ("model", "sha256", "device", "backend", "precision")]
    assert running == ["vits_hypersim_518", "fake", "cpu", "fake", "fp32"]
    assert it.report().hardware_id == hardware_name(torch.device("cpu"))


def test_reports_come_though_the_clock_of_a_recording_stands_still(rig: Rigs) -> None:
    it = rig(use_sim_time=True)  # nobody publishes /clock
    it.wait_for(OK, "active")


# Everything that can be wrong, and right again


def silence_camera(it: Rig) -> None:
    it.image = it.info = None


def silence_infos(it: Rig) -> None:
    eventually(lambda: "camera_info_age_s" in it.values(), "a first CameraInfo")
    it.info = None


def send_unreadable(it: Rig) -> None:
    it.image = lambda: image_message(encoding="mono12")


def send_a_foreign_info(it: Rig) -> None:
    it.info = lambda: camera_info(k=[0.0] * 9)


def send_all_again(it: Rig) -> None:
    it.image, it.info = image_message, camera_info


def raise_in_the_network(it: Rig) -> None:
    it.node.backend.error = RuntimeError("unwell")


def exhaust_the_memory(it: Rig) -> None:
    it.node.backend.error = OutOfMemory("cuda:0 has no memory left")


def answer_with_nan(it: Rig) -> None:
    it.node.backend.depth_m = np.nan


def get_stuck(it: Rig) -> None:
    it.node.backend.hold.clear()


def heal_the_network(it: Rig) -> None:
    it.node.backend.error, it.node.backend.depth_m = None, 2.0
    it.node.backend.hold.set()


def align_to_nothing(it: Rig) -> None:
    assert it.node.set_together(it.peer, alignment="range").successful


def do_not_align(it: Rig) -> None:
    assert it.node.set_together(it.peer, alignment="none").successful


Act = Callable[[Rig], None]
WRONGS: dict[str, tuple[Act, Act, int, str]] = {
    "no image comes": (silence_camera, send_all_again, WARN, "/image for "),
    "no CameraInfo comes": (silence_infos, send_all_again, WARN, "/camera_info for "),
    "an unreadable image": (send_unreadable, send_all_again, WARN, "frame dropped: unknown image encoding 'mono12'"),
    "inference fails": (
        raise_in_the_network,
        heal_the_network,
        ERROR,
        "times in a row: RuntimeError: unwell; next try",
    ),
    "no memory": (exhaust_the_memory, heal_the_network, ERROR, "times in a row: cuda:0 has no memory left; next try"),
    "an answer of NaN": (answer_with_nan, heal_the_network, ERROR, "cpu answered with numbers that are not finite"),
    "a stuck device": (get_stuck, heal_the_network, ERROR, "the device is stuck: an inference has taken "),
    "alignment without evidence": (align_to_nothing, do_not_align, WARN, "alignment is waiting: no message on "),
}


@pytest.mark.parametrize("what", WRONGS)
def test_what_is_wrong_is_reported_as_long_as_it_is(rig: Rigs, what: str) -> None:
    cause, cure, level, text = WRONGS[what]
    it = rig(stale_after_s=0.3, stuck_after_s=0.2, range_type="LaserScan", range_extrinsics=[0.0] * 6)
    it.wait_for(OK, "active")
    cause(it)
    it.wait_for(level, text)
    cure(it)
    it.wait_for(OK, "active")
    answered = len(it.depths)
    eventually(lambda: len(it.depths) > answered, "depth")


def test_a_camera_info_that_never_came_or_is_of_no_use_is_reported_until_a_good_one_comes(rig: Rigs) -> None:
    it = rig()
    it.info = None
    it.wait_for(WARN, "waiting for CameraInfo on ")
    send_a_foreign_info(it)
    it.wait_for(WARN, "the camera is uncalibrated")
    send_all_again(it)
    it.wait_for(OK, "active")


def test_a_camera_that_never_sent_anything_is_stale(host: Start, peer: Peer) -> None:
    node = host(stale_after_s=0.2)
    with node.diagnostics(peer) as report:
        eventually(lambda: report()[1].startswith("no image on "), "a word about it")
        assert report()[0] == WARN


def test_a_failed_change_of_the_model_is_a_warning_until_one_succeeds(rig: Rigs, host: Start, peer: Peer) -> None:
    backend = FakeBackend()

    def load(settings: Any) -> Any:
        if settings.encoder == "vitl":
            raise CheckpointNotFound("no file for vitl")
        return fake_estimator(backend, settings)

    it = rig(backend, load=load)
    it.wait_for(OK, "active")
    assert it.node.set(peer, encoder="vitl")[0].successful
    it.wait_for(WARN, "cannot load the model asked for; keeping vits_hypersim_518: no file for vitl")
    assert it.node.set(peer, encoder="vitb")[0].successful
    it.wait_for(OK, "active")
    assert it.values()["model"] == "vitb_hypersim_518"


def test_no_model_at_all_is_an_error_until_one_is_loaded(rig: Rigs, peer: Peer) -> None:
    backend = FakeBackend()
    errors: list[Exception] = [CheckpointNotFound("no file for vits")]

    def load(settings: Any) -> Any:
        if errors:
            raise errors.pop()
        return fake_estimator(backend, settings)

    it = rig(backend, load=load)
    it.wait_for(ERROR, "cannot load vits_hypersim_518: no file for vits")
    assert "model" not in it.values()
    it.node.node.start()
    it.wait_for(OK, "active")
    assert it.values()["model"] == "vits_hypersim_518"


def test_a_disabled_node_says_so_and_is_no_problem(rig: Rigs, peer: Peer) -> None:
    it = rig()
    it.wait_for(OK, "active")
    for wanted, state in ((False, "disabled"), (True, "active")):
        answer = peer.call(SetBool, f"{it.node.name}/enable", SetBool.Request(data=wanted))
        assert answer.success
        it.wait_for(OK, state)


def test_an_inactive_node_says_so(host: Start, peer: Peer) -> None:
    node = host(autostart=False)
    with node.diagnostics(peer) as report:
        assert report()[:2] == (OK, "inactive")


# A failure anywhere costs its frame

STAGES = {
    "decode": ("depth_anything_ros.node.frame_input.image_to_bgr", WARN),
    "network": ("depth_anything_ros.estimator.DepthEstimator.predict", ERROR),
    "camera": ("depth_anything_ros.messages.camera_infos.CameraInfos.match", WARN),
    "scale": ("depth_anything_ros.node.scaling.Scaling.apply", WARN),
    "filter": ("depth_anything_ros.node.camera_stage.clip_range", WARN),
    "back-projection": ("depth_anything_ros.messages.clouds.SerialCloud.fill", WARN),
    "publish": ("depth_anything_ros.node.outputs.depth_pixels", WARN),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_at_any_stage_costs_the_frame_is_reported_and_passes(
    rig: Rigs, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    target, level = STAGES[stage]

    def fail(*_: object, **__: object) -> None:
        raise KeyError("broken")

    it = rig()
    it.wait_for(OK, "active")
    failed = it.node.node.counts.failed
    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        it.wait_for(level, "broken")
        assert it.node.node.counts.failed > failed
    it.wait_for(OK, "active")
    answered = len(it.points)
    eventually(lambda: len(it.points) > answered, "a cloud")


@pytest.mark.parametrize("target", ["hardware_name", "resident_bytes"])
def test_a_failure_of_diagnostics_themselves_passes_too(
    rig: Rigs, monkeypatch: pytest.MonkeyPatch, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the device is lost")

    it = rig()
    it.wait_for(OK, "active")
    said: list[str] = []

    def is_said() -> bool:
        said.append(it.report().hardware_id + capfd.readouterr().err)
        return "OSError: the device is lost" in "".join(said)

    with monkeypatch.context() as patch:
        patch.setattr(f"depth_anything_ros.node.diagnostics.{target}", fail)
        eventually(is_said, "a word about it")
        answered = len(it.depths)
        eventually(lambda: len(it.depths) > answered, "depth")
    eventually(lambda: it.report().hardware_id == hardware_name(torch.device("cpu")), "a report")


# A device that fails again and again


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which nodes wait after a failure."""
    clock = Clock()
    monkeypatch.setattr("depth_anything_ros.node.lifecycle.Recovery", lambda: Recovery(clock))
    return clock


def wait_until_dropped(it: Rig, count: int) -> None:
    """Wait until the node has let so many more frames go by."""
    wanted = it.node.node.counts.dropped + count
    eventually(lambda: it.node.node.counts.dropped >= wanted, f"{count} frames dropped")


@pytest.mark.parametrize("error", [OutOfMemory("full"), RuntimeError("unwell")], ids=repr)
def test_a_failing_device_is_tried_ever_more_rarely_and_frames_go_by_meanwhile(
    rig: Rigs, clock: Clock, error: Exception
) -> None:
    it = rig()
    it.wait_for(OK, "active")
    it.node.backend.error = error
    eventually(lambda: it.node.node.counts.failed == 2, "a failure and the next one at once")
    calls, wait_s = it.node.backend.calls, 0.2
    for tries in range(3):
        wait_until_dropped(it, 10)
        assert it.node.backend.calls == calls + tries
        clock.now_s += 0.9 * wait_s
        wait_until_dropped(it, 10)
        assert it.node.backend.calls == calls + tries
        clock.now_s += 0.1 * wait_s + 1e-6
        eventually(lambda: it.node.backend.calls == calls + tries + 1, "another try")  # noqa: B023
        wait_s *= 2
    it.wait_for(ERROR, "inference failed 5 times in a row: ")
    it.node.backend.error = None
    clock.now_s += 100.0
    it.wait_for(OK, "active")


class LostGpu(FakeBackend):
    """A GPU that this machine does not have, or that does not answer."""

    device = torch.device("cuda:0")

    def __init__(self) -> None:
        super().__init__()
        self.error = RuntimeError("CUDA error: device lost")


@pytest.mark.parametrize("may_fall_back", [False, True])
def test_a_hopeless_device_is_given_up_for_the_cpu_where_that_is_allowed(
    rig: Rigs, peer: Peer, clock: Clock, may_fall_back: bool
) -> None:
    gpu, cpu = LostGpu(), FakeBackend()
    loaded: list[str] = []

    def load(settings: Any) -> Any:
        loaded.append(settings.device)
        return fake_estimator(cpu if settings.device == "cpu" else gpu, settings)

    it = rig(gpu, load=load, cpu_fallback=may_fall_back)

    def fails(count: int) -> None:
        def has_failed() -> bool:
            clock.now_s += 10.0
            return it.node.node.counts.failed >= count

        eventually(has_failed, f"{count} failures")

    fails(1)
    it.wait_for(ERROR, "in a row: ")
    assert it.values()["device"] == "cuda:0"
    fails(LOST_AFTER)
    if may_fall_back:
        it.wait_for(OK, "active")
        assert (it.values()["device"], it.node.get(peer, "device")) == ("cpu", ["cpu"])
        eventually(lambda: it.depths.messages, "depth")
        assert loaded == ["auto", "cpu"]
    else:
        fails(2 * LOST_AFTER)
        it.wait_for(ERROR, "in a row: ")
        assert (it.node.get(peer, "device"), loaded) == (["auto"], ["auto"])


def test_a_fallback_that_cannot_be_loaded_is_reported_and_the_device_tried_on(
    rig: Rigs, peer: Peer, clock: Clock
) -> None:
    gpu = LostGpu()

    def load(settings: Any) -> Any:
        if settings.device == "cpu":
            raise OutOfMemory("cpu has no memory left")
        return fake_estimator(gpu, settings)

    it = rig(gpu, load=load, cpu_fallback=True)

    def tried() -> bool:
        clock.now_s += 10.0
        return "cannot load the model asked for" in it.report().message if it.report() else False

    eventually(tried, "a word about the CPU")
    failed = it.node.node.counts.failed

    def tries_on() -> bool:
        clock.now_s += 10.0
        return it.node.node.counts.failed > failed + 2

    eventually(tries_on, "more tries")
    eventually(lambda: it.node.get(peer, "device") == ["auto"], "the parameter set back")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_ended_is_reported(rig: Rigs) -> None:
    it = rig()
    it.wait_for(OK, "active")
    it.node.backend.error = SystemExit()  # what nothing in the node catches
    it.wait_for(ERROR, "the thread that handles frames has ended")
    it.node.backend.error = None
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        getattr(it.node.node, f"trigger_{transition}")()
    it.wait_for(OK, "active")


def test_a_message_that_is_not_even_text_does_not_end_the_node(toy_process: NodeProcess, peer: Peer) -> None:
    broken = serialize_message(image_message(frame_id="camera_optical_frame"))
    assert b"bgr8" in broken
    with (
        peer.listen(Image, toy_process.topic("~/depth/image")) as depths,
        toy_process.camera(peer) as camera,
    ):
        camera.ask(image_message(), depths)

        def is_said() -> bool:
            camera.images.publish(broken.replace(b"bgr8", b"\xff\xfe\xfd\xfc"))
            return bool(
                toy_process.lines("frame dropped: unknown image encoding") or toy_process.lines("a callback failed")
            )

        eventually(is_said, "a word about it")
        camera.ask(image_message(), depths)
    assert toy_process.process.poll() is None
