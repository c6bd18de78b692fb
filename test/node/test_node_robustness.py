"""What other nodes and users send or write by mistake costs a line in the log, never the node."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from builtin_interfaces.msg import Time
from harness import NOISE, HostedNode, NodeProcess, Peer, Remote, eventually, new_header, unique
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import ListParameters, SetParameters
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_dict_from_yaml_file
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.frame_queue import FrameQueue
from depth_anything_ros.node.inference_worker import InferenceWorker
from depth_anything_ros.node.model_holder import ModelHolder
from depth_anything_ros.node.recovery import Recovery

Host = Callable[..., HostedNode]
CONFIG = Path(__file__).parents[2] / "config"


# Callbacks of rclpy's own


def test_a_parameter_of_a_type_that_does_not_exist_does_not_end_the_node(toy_process: NodeProcess, peer: Peer) -> None:
    client: Any = peer.node.create_client(SetParameters, f"{toy_process.name}/set_parameters")
    assert client.wait_for_service(10)
    for kind in (10, 255):
        value = ParameterValue(type=kind)
        client.call_async(SetParameters.Request(parameters=[Parameter(name="encoder", value=value)]))
    toy_process.wait_for("a callback failed: ValueError: ")
    assert toy_process.state(peer) == "active"
    peer.node.destroy_client(client)


def test_a_clock_before_the_epoch_does_not_end_the_node(toy_process: NodeProcess, peer: Peer) -> None:
    failures = len(toy_process.lines("a callback failed: "))
    assert toy_process.set(peer, use_sim_time=True)[0].successful
    with peer.publisher(Clock, "/clock") as clock:

        def is_said() -> bool:
            clock.publish(Clock(clock=Time(sec=-1)))
            return len(toy_process.lines("a callback failed: ")) > failures

        eventually(is_said, "a word about it")
        assert toy_process.state(peer) == "active"
    assert toy_process.set(peer, use_sim_time=False)[0].successful


# Stopping in the instant of the start


def test_a_worker_that_is_ended_while_it_starts_is_not_running_afterwards() -> None:
    models = ModelHolder(DepthEstimator.from_settings, lambda held: None, lambda error, held: None)
    for _ in range(100):
        worker = InferenceWorker([], FrameQueue([]), models, Recovery(), lambda estimator: None)
        starter = threading.Thread(target=worker.start)
        starter.start()
        assert worker.end(10)
        starter.join()
        assert worker.end(0)


def test_a_node_that_was_stopped_before_it_started_does_not_work(host: Host) -> None:
    node = host(autostart=False).node
    assert node.stop(1)
    node.trigger_configure()
    assert node.stop(0)


# Parameter files


def dumped(node: Remote, peer: Peer) -> dict[str, Any]:
    """What `ros2 param dump` writes: names with dots as nested mappings, null for what is not set."""
    listed = peer.call(ListParameters, f"{node.name}/list_parameters", ListParameters.Request()).result.names
    found: dict[str, Any] = {}
    for name, value in zip(listed, node.get(peer, *listed), strict=True):
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = list(value) if isinstance(value, (list, tuple)) else value
    return found


def test_dumped_parameters_start_a_node_with_the_same_ones(
    host: Host, peer: Peer, start_process: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    values = {"cameras": ["front", "rear"], "front.max_range_m": 4.0, "cloud_rate_hz": 5.0}
    original = host(autostart=False, encoder="toy", checkpoint="untrained", input_size=56, **values)
    assert original.set_together(peer, autostart=True).reason  # read-only parameters are in the dump, too
    assert original.set(peer, backend="torch")[0].successful
    before = {**dumped(original, peer), "autostart": True}
    assert before["range_extrinsics"] is None
    namespace = unique("dumped")
    file = tmp_path / "params.yaml"
    file.write_text(yaml.dump({f"{namespace}/depth_anything": {"ros__parameters": before}}))
    node = start_process(namespace, arguments=("--params-file", str(file)))
    node.wait_for("running toy_hypersim_56")
    after = dumped(node, peer)
    del after["qos_overrides"]  # declared with their topics, which the first node did not offer
    assert after == before
    assert before["front"]["max_range_m"] == 4.0


@pytest.mark.parametrize("name", ["max_range_m", "front.max_range_m", "stuck_after_s", "shift_m"])
def test_a_whole_number_is_taken_where_a_fraction_is_meant(host: Host, peer: Peer, name: str) -> None:
    node = host(autostart=False, cameras=["front"], **{name: 8})
    assert node.node.get_parameter(name).value == 8.0
    assert node.set(peer, **{name: 9})[0].successful
    assert node.node._configuration.of_camera("front").max_range_m in (None, 9.0)


def test_misspelt_parameters_are_named_with_the_nearest_right_one(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    host(autostart=False, cameras=["front"], max_rnge_m=8.0, **{"front.rectifed": True, "zzz": 1, "left.scale": 2.0})
    said = capfd.readouterr().err
    assert "there is no parameter 'max_rnge_m'; its value has no effect: did you mean max_range_m?" in said
    assert "'front.rectifed'; its value has no effect: did you mean front.rectified?" in said
    assert "there is no parameter 'zzz'; its value has no effect\n" in said
    assert "there is no parameter 'left.scale'" in said


def test_parameters_of_everyone_and_of_topics_are_not_called_misspelt(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    host(autostart=False, use_sim_time=False, **{"qos_overrides./image.subscription.depth": 3})
    assert "there is no parameter" not in capfd.readouterr().err


def test_the_shipped_parameter_file_can_be_loaded_into_a_running_node(tmp_path: Path) -> None:
    text = (CONFIG / "depth_anything.yaml").read_text().replace("ros__parameters: {}", "ros__parameters:")
    file = tmp_path / "params.yaml"
    file.write_text(text.replace("    # max_range_m", "    max_range_m"))
    found = parameter_dict_from_yaml_file(str(file), use_wildcard=True, target_nodes=["/robot/depth_anything"])
    assert RosParameter.from_parameter_msg(found["max_range_m"]).value == 40.0


# Text from messages


def test_a_text_of_a_megabyte_is_shortened_and_escaped_wherever_it_is_said(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    huge = "\x1b[31m\n" + "x" * 2**20
    node = host(image_transport="compressed")
    with (
        node.camera(peer, CompressedImage, "image/compressed") as camera,
        node.diagnostics(peer) as report,
        peer.listen(Image, node.topic("~/depth/image")),
    ):
        camera.connect()
        broken = CompressedImage(header=new_header(), format=huge)

        def is_reported() -> bool:
            camera.images.publish(broken)
            return "frame dropped: " in report()[1]

        eventually(is_reported, "a word about it")
        message = report()[1]
    log = capfd.readouterr().err
    for text in (message, log):
        assert "\\x1b[31m" in text
        assert "\x1b[31m" not in text
        assert max(map(len, text.splitlines())) < 3000


def test_a_compressed_image_that_announces_gigabytes_is_dropped_before_it_is_decoded(
    host: Host, peer: Peer, capfd: pytest.CaptureFixture[str]
) -> None:
    size = (12_000).to_bytes(4, "big") * 2
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size + b"\x08\x02\0\0\0") + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")
    node = host(image_transport="compressed")
    with (
        node.camera(peer, CompressedImage, "image/compressed") as camera,
        peer.listen(Image, node.topic("~/depth/image")) as depths,
    ):
        camera.connect()
        message = CompressedImage(header=new_header(), format="png")
        message.data.frombytes(png)
        eventually(lambda: camera.images.publish(message) or node.node.counts.failed, "a dropped frame")
        good = CompressedImage(header=new_header(), format="png")
        good.data.frombytes(cv2.imencode(".png", NOISE)[1].tobytes())
        camera.ask(good, depths)
    assert "12000x12000 pixels; allowed: up to " in capfd.readouterr().err


def _chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
