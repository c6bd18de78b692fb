"""Imports point down only, and heavy ones stay where they belong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
# A module belongs to the longest name here that starts its own. Modules of one group may import each
# other and everything on a lower floor; groups that share a floor never meet.
GROUPS: dict[str, tuple[int, str]] = {
    "depth_anything_ros": (0, "core"),
    "depth_anything_ros.errors": (0, "core"),
    "depth_anything_ros.settings": (0, "core"),
    "depth_anything_ros.allocator": (0, "core"),
    "depth_anything_ros.threads": (0, "core"),
    "depth_anything_ros.depth_map": (0, "core"),
    "depth_anything_ros.camera": (0, "core"),
    "depth_anything_ros.camera_infos": (0, "core"),
    "depth_anything_ros.formats": (0, "core"),
    "depth_anything_ros.compressed_depth": (0, "core"),
    "depth_anything_ros.image_encodings": (0, "core"),
    "depth_anything_ros.metrics": (0, "core"),
    "depth_anything_ros.media": (0, "core"),
    "depth_anything_ros.predictions": (0, "core"),
    "depth_anything_ros.scenes": (0, "core"),
    "depth_anything_ros.clouds": (0, "core"),
    "depth_anything_ros.snapshots": (0, "core"),
    "depth_anything_ros.stopwatch": (0, "core"),
    "depth_anything_ros.frame_statistics": (0, "core"),
    "depth_anything_ros.recovery": (0, "core"),
    "depth_anything_ros.stamps": (0, "core"),
    "depth_anything_ros.scale": (0, "core"),
    "depth_anything_ros.model": (1, "core"),
    "depth_anything_ros.backends": (1, "core"),
    "depth_anything_ros.hardware": (1, "core"),
    "depth_anything_ros.ray_caster": (1, "core"),
    "depth_anything_ros.synthetic": (1, "core"),
    "depth_anything_ros.temporal_filter": (1, "core"),
    "depth_anything_ros.edge_filter": (1, "core"),
    "depth_anything_ros.transfer": (1, "core"),
    "depth_anything_ros.hf_names": (2, "core"),
    "depth_anything_ros.weights": (2, "core"),
    "depth_anything_ros.preprocess": (2, "core"),
    "depth_anything_ros.onnx_files": (2, "core"),
    "depth_anything_ros.estimator": (2, "core"),
    "depth_anything_ros.batching": (2, "core"),
    "depth_anything_ros.model_cache": (2, "core"),
    "depth_anything_ros.batch": (2, "core"),
    "depth_anything_ros.bag": (2, "core"),
    "depth_anything_ros.conversions": (3, "node"),
    "depth_anything_ros.parameters": (3, "node"),
    "depth_anything_ros.frame_queue": (3, "node"),
    "depth_anything_ros.model_holder": (3, "node"),
    "depth_anything_ros.outputs": (3, "node"),
    "depth_anything_ros.qos_watch": (3, "node"),
    "depth_anything_ros.range_input": (3, "node"),
    "depth_anything_ros.scaling": (3, "node"),
    "depth_anything_ros.camera_stream": (3, "node"),
    "depth_anything_ros.diagnostics": (3, "node"),
    "depth_anything_ros.inference_worker": (3, "node"),
    "depth_anything_ros.calibrator": (3, "node"),
    "depth_anything_ros.snapshot_writer": (3, "node"),
    "depth_anything_ros.node_main": (3, "node"),
    "depth_anything_ros.node": (3, "node"),
    "depth_anything_ros.synthetic_camera": (3, "node"),
    "depth_anything_ros.cli": (3, "cli"),
    "bridge": (3, "bridge"),
}
# The only packages whose name stands for all the modules in them.
WHOLE_PACKAGES = (
    "depth_anything_ros.scale",
    "depth_anything_ros.model",
    "depth_anything_ros.backends",
    "depth_anything_ros.bag",
    "depth_anything_ros.cli",
    "bridge",
)
# The client installs without torch, ROS or a web server. Each of these may import the ground floor and
# those before it here.
CLIENT = (
    "bridge",
    "bridge.image_header",
    "bridge.codec",
    "bridge.servers",
    "bridge.client_calls",
    "bridge.client",
    "bridge.client_cli",
)
MAY_IMPORT_RCLPY = tuple(
    f"depth_anything_ros.{name}"
    for name in (
        "node",
        "node_main",
        "calibrator",
        "camera_stream",
        "outputs",
        "parameters",
        "qos_watch",
        "range_input",
        "snapshot_writer",
        "synthetic_camera",
    )
)


def source_files() -> dict[str, Path]:
    """Module name -> file, for everything in the two packages."""
    found = {}
    for package in ("depth_anything_ros", "bridge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


FILES = source_files()


def group_of(module: str) -> tuple[int, str] | None:
    if module in GROUPS:
        return GROUPS[module]
    whole = next((package for package in WHOLE_PACKAGES if module.startswith(package + ".")), None)
    return GROUPS[whole] if whole else None


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
    return {name for name in imports(module) if name.partition(".")[0] in ("depth_anything_ros", "bridge")}


def packages_imported(module: str, *, only_when_imported: bool = False) -> set[str]:
    return {name.partition(".")[0] for name in imports(module, only_when_imported=only_when_imported)}


@pytest.mark.parametrize("module", FILES)
def test_every_module_has_a_place(module: str) -> None:
    assert group_of(module) is not None, f"{module} is on no floor: give it a place in GROUPS"


@pytest.mark.parametrize("module", FILES)
def test_imports_point_down_or_stay_in_the_group(module: str) -> None:
    here = group_of(module)
    assert here is not None
    for name in own_imports(module):
        there = group_of(name)
        assert there is not None, f"{module} imports {name}, which is on no floor"
        assert there == here or there[0] < here[0], f"{module} (floor {here}) imports {name} (floor {there})"


@pytest.mark.parametrize("module", [module for module in CLIENT if module in FILES])
def test_the_client_needs_the_ground_floor_and_the_codec_only(module: str) -> None:
    allowed = CLIENT[: CLIENT.index(module)]
    assert not {name for name in own_imports(module) if name not in allowed and group_of(name) != (0, "core")}
    assert not packages_imported(module) & {"torch", "rclpy", "sensor_msgs", "fastapi", "pydantic"}


@pytest.mark.parametrize("module", [module for module in FILES if group_of(module) == (0, "core")])
def test_the_ground_floor_imports_no_torch(module: str) -> None:
    assert "torch" not in packages_imported(module, only_when_imported=True)


@pytest.mark.parametrize("module", [module for module in FILES if module not in MAY_IMPORT_RCLPY])
def test_rclpy_is_for_the_node_alone(module: str) -> None:
    assert "rclpy" not in packages_imported(module)


@pytest.mark.parametrize("module", [m for m in FILES if group_of(m) in ((0, "core"), (1, "core"), (2, "core"))])
def test_the_core_knows_no_ros_and_no_web(module: str) -> None:
    heavens = {"rclpy", "sensor_msgs", "std_msgs", "cv_bridge", "fastapi", "uvicorn", "httpx", "pydantic"}
    assert not packages_imported(module) & heavens


def modules_after(statement: str) -> set[str]:
    """Import something in a fresh interpreter; return the names of all modules that are loaded then."""
    program = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_rclpy() -> None:
    assert not {"torch", "rclpy", "numpy", "cv2"} & modules_after("import depth_anything_ros, bridge")


def test_importing_the_ground_floor_and_the_tables_loads_neither_torch_nor_rclpy() -> None:
    ground = [module for module in FILES if group_of(module) == (0, "core")]
    names = [*ground, "depth_anything_ros.model.registry", "depth_anything_ros.backends"]
    assert not {"torch", "rclpy"} & modules_after(f"import {', '.join(names)}")


def test_one_version_in_three_places() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").findtext("version")
    setup = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    package = re.search(r'__version__ = "([^"]+)"', (ROOT / "depth_anything_ros/__init__.py").read_text())
    assert setup is not None
    assert package is not None
    assert manifest == setup[1] == package[1]
