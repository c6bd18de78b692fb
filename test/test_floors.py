"""Imports point down, never in a circle, and heavy ones stay where they belong.

The floors are read from the table in docs/architecture.md, so that what the docs show is what is checked.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "architecture.md"
ROW = re.compile(r"^\| (?P<floor>\d) \| `(?P<room>[\w.]+)` \| (?P<what>[^|]+) \| (?P<packages>[^|]*)\|$", re.MULTILINE)
# Importing any of these costs time or needs an extra; the table says which room may.
HEAVY = {"torch", "cv2", "rosbags", "rclpy", "fastapi", "httpx"}
# What a heavy package brings along.
BELONGS_TO = {"starlette": "fastapi", "uvicorn": "fastapi", "pydantic": "fastapi", "pydantic_settings": "fastapi"}
ROS_MESSAGES = {"sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs", "rcl_interfaces", "cv_bridge", "tf2_ros"}
PACKAGES = ("depth_anything_ros", "bridge")
KNOW_ROS = ("depth_anything_ros.node", "bridge.server.robot.ros_side")
# The two facades load nothing by themselves, and the programs behind `python -m` only start what is in a room.
FACADES = ("depth_anything_ros", "bridge", "bridge.__main__")
# Rooms inside another, whose row says what they alone import.
INNER_ROOMS = ("bridge.server.robot",)
MAX_TOP_LEVEL_MODULES = 8
TOP_FLOOR = 7


@dataclass(frozen=True)
class Room:
    """One row of the table."""

    floor: int
    packages: frozenset[str]


def rooms_of_the_table() -> dict[str, Room]:
    rows = ROW.finditer(TABLE.read_text())
    return {row["room"]: Room(int(row["floor"]), frozenset(row["packages"].split())) for row in rows}


def source_files() -> dict[str, Path]:
    """Module name -> file, for everything in the two packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


ROOMS = rooms_of_the_table()
FILES = source_files()
MODULES = [module for module in FILES if module not in FACADES]


def room_of(module: str) -> str:
    """The room a module is in, by the name that the table gives it: the innermost one."""
    inner = [room for room in ROOMS if room in INNER_ROOMS and f"{module}.".startswith(f"{room}.")]
    return inner[0] if inner else house_of(module)


def house_of(module: str) -> str:
    """The room a module is in; one inside another counts as the outer one, and shares its floor."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    return f"bridge.{first}" if package == "bridge" else first


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(module: str, *, only_when_imported: bool = False) -> Iterator[str]:
    """Names of what a module imports; a name taken from a package counts where it is a module.

    With `only_when_imported`, imports inside functions and for type checking are left out.
    """
    pending: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else str(node.module) for name in names)
        is_late = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(node)
        if not (only_when_imported and is_late):
            pending.extend(ast.iter_child_nodes(node))


def own_imports(module: str) -> set[str]:
    """Our own modules that a module imports, anywhere in it."""
    return {name for name in imports(module) if name.partition(".")[0] in PACKAGES}


def packages_imported(module: str, *, only_when_imported: bool = False) -> set[str]:
    return {name.partition(".")[0] for name in imports(module, only_when_imported=only_when_imported)}


def test_the_table_is_read() -> None:
    assert len(ROOMS) > 15, f"no table of floors in {TABLE}"
    assert not {package for room in ROOMS.values() for package in room.packages} - HEAVY


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_in_a_room_of_the_table(module: str) -> None:
    assert room_of(module) in ROOMS, f"{module} is in no room: add {room_of(module)!r} to the table in {TABLE}"


def test_every_room_of_the_table_exists() -> None:
    assert ROOMS.keys() == {room_of(module) for module in MODULES}


def test_the_top_of_the_package_holds_what_everybody_talks_about() -> None:
    assert len(list((ROOT / "depth_anything_ros").glob("*.py"))) <= MAX_TOP_LEVEL_MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_or_stay_in_the_room(module: str) -> None:
    here = house_of(module)
    for name in own_imports(module):
        there = house_of(name)
        assert there in ROOMS, f"{module} imports {name}, which is in no room: import the module that defines the name"
        is_allowed = there == here or ROOMS[there].floor < ROOMS[here].floor
        assert is_allowed, f"{module} (floor {ROOMS[here].floor}) imports {name} (floor {ROOMS[there].floor})"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: {name for name in own_imports(module) if name != module} for module in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_the_heavy_packages_of_its_row_alone(module: str) -> None:
    packages = {BELONGS_TO.get(name, name) for name in packages_imported(module, only_when_imported=True)}
    assert not (packages & HEAVY) - ROOMS[room_of(module)].packages


@pytest.mark.parametrize("module", [module for module in FILES if not module.startswith(KNOW_ROS)])
def test_ros_is_for_the_node_and_one_module_of_the_bridge(module: str) -> None:
    assert not packages_imported(module) & ({"rclpy"} | ROS_MESSAGES)


@pytest.mark.parametrize("module", [module for module in MODULES if ROOMS[room_of(module)].floor < TOP_FLOOR])
def test_the_core_knows_no_web(module: str) -> None:
    assert not packages_imported(module) & {"fastapi", "starlette", "uvicorn", "httpx", "pydantic"}


def modules_after(statement: str) -> set[str]:
    """Import something in a fresh interpreter; return the names of all modules that are loaded then."""
    program = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_rclpy() -> None:
    assert not {"torch", "rclpy", "numpy", "cv2"} & modules_after("import depth_anything_ros, bridge")


@pytest.mark.parametrize("name", ["DepthEstimator", "DepthMap", "CameraModel"])
def test_the_package_gives_its_main_names_on_first_use(name: str) -> None:
    loaded = modules_after(f"from depth_anything_ros import {name}; assert {name}.__name__ == {name!r}")
    assert "rclpy" not in loaded
    assert ("torch" in loaded) == (name == "DepthEstimator")


def test_the_package_names_what_it_lacks() -> None:
    import depth_anything_ros

    assert {"DepthEstimator", "DepthMap", "CameraModel"} <= set(dir(depth_anything_ros))
    with pytest.raises(AttributeError, match="no attribute 'DepthEstimater'"):
        depth_anything_ros.DepthEstimater  # noqa: B018


def test_importing_the_light_rooms_and_the_tables_loads_neither_torch_nor_rclpy() -> None:
    heavy = {"torch", "rclpy", "rosbags", "httpx", "fastapi"}
    light = [module for module in MODULES if not ROOMS[room_of(module)].packages & heavy]
    names = [*light, "depth_anything_ros.model.registry", "depth_anything_ros.backends"]
    assert not {"torch", "rclpy"} & modules_after(f"import {', '.join(names)}")


def test_a_bridge_without_a_robot_loads_no_rclpy() -> None:
    assert "rclpy" not in modules_after("import bridge.server.command, bridge.server.worker")


def test_importing_the_client_loads_neither_torch_nor_ros_nor_a_server() -> None:
    loaded = modules_after("import bridge.client, bridge.client.cli")
    assert not {"torch", "rclpy", "fastapi", "pydantic", "uvicorn"} & loaded
