"""docs/node.md and the parameter files name what there is: no more, no less."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import HostedNode, Peer, camera_info, eventually, image_message
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2

from depth_anything_ros.node.parameters import CAMERA_PARAMETERS, MODEL_PARAMETERS, NODE_PARAMETERS, PARAMETERS
from depth_anything_ros.scale.alignment import AlignmentState
from depth_anything_ros.scale.fit import DepthScale, InverseScale

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def tables(section: str) -> list[list[list[str]]]:
    """Cells of every table in a section of docs/node.md, without the head."""
    [text] = re.findall(
        rf"^## {section}\n(.*?)(?=^## |\Z)", (ROOT / "docs/node.md").read_text(), re.DOTALL | re.MULTILINE
    )
    found = re.findall(r"((?:^\|.*\n)+)", text, re.MULTILINE)
    return [[row.strip("|\n").split("|") for row in table.splitlines()[2:]] for table in found]


def names_in(table: list[list[str]]) -> list[str]:
    return [name for first, *_ in table for name in re.findall(r"`([^`]+)`", first)]


def test_the_tables_of_parameters_name_all_there_are() -> None:
    kinds = (MODEL_PARAMETERS, CAMERA_PARAMETERS, NODE_PARAMETERS)
    assert [sorted(names_in(table)) for table in tables("Parameters")] == [sorted(kind) for kind in kinds]


def test_the_tables_of_parameters_say_which_are_read_at_the_start_only() -> None:
    rows = [row for table in tables("Parameters") for row in table]
    said = {name for row in rows if row[1].strip() == "at the start" for name in names_in([row])}
    assert said == {name for name, parameter in PARAMETERS.items() if parameter.fixed}


def test_the_tables_of_topics_and_services_name_all_there_are(host: Callable[..., HostedNode]) -> None:
    node = host().node
    said_in, said_out = (set(names_in(table)) for table in tables("Topics"))
    own = f"{node.get_fully_qualified_name()}/"
    topics_in = {topic.topic_name.removeprefix(f"{node.get_namespace()}/") for topic in node.subscriptions}
    topics_out = {topic.topic_name.replace(own, "~/") for topic in node.publishers}
    assert said_in == (topics_in - {"/clock", "/parameter_events"}) | {"image/compressed", "range"}  # on demand
    assert said_out == topics_out - {"/rosout", "/parameter_events", "~/transition_event"}
    [services] = tables("Services")
    offered = {service.srv_name.replace(own, "~/") for service in node.services if "std_srvs" in str(service.srv_type)}
    assert set(names_in(services)) == offered


def test_the_table_of_diagnostics_names_all_values(host: Callable[..., HostedNode], peer: Peer) -> None:
    hosted = host()
    with hosted.camera(peer) as camera, hosted.diagnostics(peer) as diagnostics:
        with peer.listen(PointCloud2, hosted.topic("depth_anything/points"), QoSProfile(depth=10)) as inbox:
            camera.connect()
            image = image_message()
            camera.ask(image, inbox, camera_info(header=image.header))

        def after_a_frame() -> dict[str, str]:
            values = diagnostics()[2]
            return values if "publish_ms" in values else {}

        values = eventually(after_a_frame, "values of a frame")
    states = (
        AlignmentState("aligned", scale, 0.1, 0.9, 100, 0.0) for scale in (DepthScale(1.0, 0.0), InverseScale(1.0, 0.0))
    )
    aligned = {f"alignment_{name}" for state in states for name in state.describe()}
    clocks = {"transport_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"}  # stamps here are of no clock
    [_, table] = tables("/diagnostics")
    said = set(
        re.findall(
            r"`(\w+)`", " ".join(first for first, *_ in table) + " `alignment_scale_per_m` `alignment_shift_per_m`"
        )
    )
    at_times = {"device_memory_mib", "metres_per_unit", "focal_estimate_px"}
    assert said == set(values) | aligned | clocks | at_times


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if link.startswith("http"):
            continue
        file, _, heading = link.partition("#")
        target = (document.parent / file) if file else document
        assert target.exists(), f"{document.name} links {link}"
        assert not heading or heading in headings(target), f"{document.name} links {link}"


def headings(document: Path) -> set[str]:
    """Headings as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def parameter_files() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where parameters of the node are written as YAML, and what is written; what is commented out is read, too."""
    for file in ("depth_anything.yaml", "synthetic.yaml"):
        text = re.sub(r"^    # ( *\w+:)", r"    \1", (ROOT / "config" / file).read_text(), flags=re.MULTILINE)
        yield file, yaml.safe_load(text.replace("ros__parameters: {}", "ros__parameters:"))
    for path in sorted((ROOT / "config/recipes").iterdir()):
        yield path.name, yaml.safe_load(path.read_text())
    for document in DOCUMENTS:
        for block in re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL):
            yield document.name, yaml.safe_load(block)


def test_parameter_files_name_parameters_there_are() -> None:
    found = [
        (name, content[key])
        for name, content in parameter_files()
        for key in ("/**", "/**/depth_anything")
        if key in content
    ]
    assert {"depth_anything.yaml", "synthetic.yaml", "nav2.yaml", "node.md"} <= {name for name, _ in found}
    for name, content in found:
        values = content["ros__parameters"]
        cameras = values.get("cameras", [])
        assert {key for key in values if key not in cameras} <= set(PARAMETERS), name
        assert {key for camera in cameras for key in values.get(camera, {})} <= set(CAMERA_PARAMETERS), name


# Flags of tf2_ros's static_transform_publisher. Numbers without flags, the old way, depend on their order.
PLACE = {"--x", "--y", "--z", "--qx", "--qy", "--qz", "--qw", "--roll", "--pitch", "--yaw"}
FRAMES = {"--frame-id", "--child-frame-id"}


def commands() -> Iterator[tuple[str, list[str]]]:
    """Shell commands of all documents, each with its document's name; those over several lines as one."""
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                yield document.name, shlex.split(line, comments=True)


def test_commands_name_launch_files_arguments_and_installed_files_there_are() -> None:
    launches = [
        (name, words[3:]) for name, words in commands() if words[:3] == ["ros2", "launch", "depth_anything_ros"]
    ]
    assert {"node.md", "nav2.md", "bags.md", "several_robots.md"} <= {name for name, _ in launches}
    for name, (file, *arguments) in launches:
        text = (ROOT / "launch" / file).read_text()
        for argument in arguments:
            assert f'"{argument.partition(":=")[0]}"' in text, f"{name}: {file} has no argument {argument}"
    for name, words in commands():
        for path in re.findall(r"\$SHARE/([\w./]+)", " ".join(words)):
            assert (ROOT / path).is_file(), f"{name}: no file {path}"


def test_commands_set_parameters_there_are() -> None:
    starts = [(name, words) for name, words in commands() if {"depth_anything_node", "-p"} <= set(words)]
    assert starts
    for name, words in starts:
        for flag, value in pairwise(words):
            known = value.partition(":=")[0] in PARAMETERS or value.startswith("qos_overrides.")
            assert flag != "-p" or known, f"{name}: no parameter {value}"


def test_static_transforms_are_given_by_names_and_so_in_any_order() -> None:
    given = [words[4:] for _, words in commands() if words[2:4] == ["tf2_ros", "static_transform_publisher"]]
    assert given
    for words in given:
        flags, values = words[::2], words[1::2]
        assert FRAMES <= set(flags) <= FRAMES | PLACE
        assert all(math.isfinite(float(value)) for flag, value in zip(flags, values, strict=True) if flag in PLACE)
