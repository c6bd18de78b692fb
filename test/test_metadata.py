"""What the package says of itself agrees with what is in it: versions, packages, dependencies, pins."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import Package, parse_package
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
# Modules whose package in package.xml has another name.
PACKAGE_OF = {
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "tf2_ros": "tf2_ros_py",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
# Modules that come with pip alone on most distributions. setup.py has their requirements.
WITH_PIP = {"torch", "safetensors", "huggingface_hub", "openvino", "onnx", "onnxruntime", "rosbags"}
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if re.match(r"\w", line)]
PYTHONS = re.findall(r"^PYTHONS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()

# catkin_pkg uses old names of docutils and pyparsing.
OF_CATKIN = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def manifest() -> Package:
    """package.xml, read as ROS's tools read it."""
    warnings: list[str] = []
    package = parse_package(str(ROOT), warnings=warnings)
    assert warnings == []
    return package


def setup_arguments() -> dict[str, object]:
    """The literals in setup.py, by name."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    return {
        target.id: _literal(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:  # made of other names
        return None


def imported_modules(*folders: str) -> set[str]:
    """Top-level names of everything that the sources in these folders import and that is not Python's own."""

    def names() -> Iterator[str]:
        for folder in folders:
            for path in (ROOT / folder).rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.Import):
                        yield from (alias.name for alias in node.names)
                    elif isinstance(node, ast.ImportFrom):
                        yield str(node.module)

    own = {"depth_anything_ros", "bridge", "_typeshed"}  # the last is for type checkers alone
    return {name.partition(".")[0] for name in names()} - sys.stdlib_module_names - own


def test_one_version_in_three_places(manifest: Package) -> None:
    setup = re.search(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    package = re.search(r'__version__ = "([^"]+)"', (ROOT / "depth_anything_ros/version.py").read_text())
    assert setup is not None
    assert package is not None
    assert manifest.version == setup[1] == package[1]


def test_setup_names_every_package_and_no_other() -> None:
    found = {
        ".".join(path.relative_to(ROOT).parts[:-1])
        for top in ("depth_anything_ros", "bridge")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(setup_arguments()["PACKAGES"]) == found  # type: ignore[call-overload]


def test_the_manifest_says_who_and_under_which_licence(manifest: Package) -> None:
    assert manifest.authors
    assert manifest.maintainers
    assert manifest.licenses == ["Apache-2.0"]


def test_the_manifest_declares_every_module_that_the_node_and_the_launch_files_import(manifest: Package) -> None:
    declared = {dependency.name for dependency in manifest.exec_depends}
    imported = imported_modules("depth_anything_ros", "launch") - WITH_PIP
    assert {PACKAGE_OF.get(name, name) for name in imported} <= declared


def test_the_manifest_declares_every_ros_package_that_the_tests_import(manifest: Package) -> None:
    declared = {dependency.name for dependency in (*manifest.exec_depends, *manifest.test_depends)}
    imported = {name for name in imported_modules("test") if re.search(r"_(msgs|srvs|interfaces|py)$|^tf2", name)}
    assert {PACKAGE_OF.get(name, name) for name in imported} - {"rosidl_generator_py", "sensor_msgs_py"} <= declared
    assert "sensor_msgs_py" in declared  # imported where it is there


@OF_CATKIN
@pytest.mark.parametrize("distribution", ["humble", "jazzy", "kilted"])
def test_the_bridge_comes_with_pip_where_the_distribution_is_too_old_for_it(
    distribution: str, manifest: Package
) -> None:
    manifest.evaluate_conditions({"ROS_DISTRO": distribution})
    assert not {depend.name for depend in manifest.exec_depends if depend.evaluated_condition} & {"python3-fastapi"}
    manifest.evaluate_conditions({"ROS_DISTRO": "lyrical"})
    assert {depend.name for depend in manifest.exec_depends if depend.evaluated_condition} >= {"python3-fastapi"}


@OF_CATKIN
def test_catkin_reads_the_changelog(manifest: Package) -> None:
    changelog = get_changelog_from_path(str(ROOT), manifest.name)
    assert changelog is not None
    versions = [version for version, _, _ in changelog.foreach_version()]
    assert versions[0] in ("Forthcoming", manifest.version)
    assert manifest.version in versions


def test_the_files_that_the_pages_name_exist() -> None:
    """Paths are from the top, or from one of the two packages."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {path for page in pages for path in re.findall(r"`(\w+/[\w/]+\.(?:py|yaml|txt|md))`", page.read_text())}
    tops = [ROOT, ROOT / "depth_anything_ros", ROOT / "bridge" / "server"]
    assert len(named) > 10
    assert [path for path in sorted(named) if not any((top / path).exists() for top in tops)] == []


# ---- pins


def applies(pin: Requirement, python: str) -> bool:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    return pin.marker is None or pin.marker.evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_has_two_pins_or_none_for_a_python(python: str) -> None:
    names = [pin.name for pin in PINS if applies(pin, python)]
    assert sorted(names) == sorted({pin.name for pin in PINS})


def test_a_pin_is_for_pythons_that_its_release_supports() -> None:
    """Asks the installed releases, so it needs no registry; `make pins` resolves every Python's."""
    checked, wrong = 0, []
    for pin in PINS:
        try:
            installed = metadata.distribution(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(installed.version):
            continue  # another Python's pin
        supported = SpecifierSet(installed.metadata["Requires-Python"] or "")
        wrong += [
            f"{pin} on {python}" for python in PYTHONS if applies(pin, python) and f"{python}.99" not in supported
        ]
        checked += 1
    assert wrong == []
    assert checked > 30


def test_the_pinned_versions_are_what_setup_allows() -> None:
    required = [
        Requirement(text) for text in re.findall(r'"([A-Za-z][\w.\[\]-]*>=[^"]+)"', (ROOT / "setup.py").read_text())
    ]
    pinned = {name(pin): pin for pin in PINS}
    assert len(required) > 30
    for requirement in required:
        pin = pinned[name(requirement)]
        version = str(pin.specifier).removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement} does not allow {pin}"


def name(requirement: Requirement) -> str:
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


# ---- what ROS's linters ask beyond ruff


@pytest.mark.parametrize(
    "file", [ROOT / "package.xml", *sorted((ROOT / "config").glob("*.xml"))], ids=lambda path: path.name
)
def test_xml_files_parse(file: Path) -> None:
    root = ElementTree.parse(file).getroot()
    text = file.read_text()
    if file.name == "package.xml":  # xmllint checks it against the schema that it names
        assert 'href="http://download.ros.org/schema/package_format3.xsd"' in text
        assert root.attrib == {"format": "3"}
    else:
        assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')


def test_the_manifest_keeps_the_order_and_the_types_of_the_schema(manifest: Package) -> None:
    tags = [element.tag for element in ElementTree.parse(ROOT / "package.xml").getroot()]
    head = ["name", "version", "description", "maintainer", "license", "url", "url", "author"]
    assert tags[: len(head)] == head
    assert set(tags[len(head) :]) == {"exec_depend", "test_depend", "export"}
    assert {url.type for url in manifest.urls} == {"repository", "bugtracker"}


def test_all_sources_are_under_the_one_licence_that_the_manifest_names(manifest: Package) -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert manifest.licenses[0].file == "LICENSE"
    folders = ("depth_anything_ros", "bridge", "launch", "test", "benchmarks", "demo", "soak", "training", "examples")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    claimed = re.compile(r"^# .*(Copyright|All rights reserved|SPDX)", re.MULTILINE)
    assert [path for path in sources if claimed.search(path.read_text())] == []
