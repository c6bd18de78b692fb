"""Check what each use needs, what is installed, and how to get the rest.

Uses: predict (the command line), node, bridge, client, export. Libraries that may be broken are imported in
processes of their own, because a broken installation may crash on import. This file needs nothing but Python itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

HELP = "say what is here, what is missing, and what to do about it"

ESTIMATING = ("predict", "node", "bridge", "export")
USES = (*ESTIMATING, "client")
# Libraries that one use needs, by their distributions, and the extra of setup.py that holds them.
EXTRAS = {
    "bridge": (
        "fastapi", "uvicorn", "python-multipart", "orjson", "prometheus_client", "pydantic", "pydantic-settings",
        "httpx", "httpcore", "anyio", "PyYAML",
    ),
    "client": ("httpx", "httpcore", "anyio", "PyYAML"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
}  # fmt: skip
EXTRA_NAMES = {"bridge": "bridge", "client": "client", "export": "onnx"}

MIN_PYTHON = (3, 10)
IMPORT_TIMEOUT_S = 120
ROS_ROOT = Path("/opt/ros")
MADE_FOR_NUMPY_1 = ("humble", "jazzy", "kilted")
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_BYTES = 2 * 64 * 2**20  # config/fastdds.xml: 64 MiB for the publisher, as much for a subscriber

# Code that imports a library and describes it in `facts`.
VERSION_OF = "import {0}; facts = [{0}.__version__]"
TORCH = """
import torch
gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
facts = [torch.__version__, *gpus]
"""
RCLPY = """
from importlib.metadata import version
import rclpy, diagnostic_msgs.msg, lifecycle_msgs.msg, sensor_msgs.msg, std_msgs.msg, std_srvs.srv
from rclpy.type_support import check_for_type_support
check_for_type_support(sensor_msgs.msg.Image)  # messages compiled for another NumPy fail only here
facts = [version("rclpy"), rclpy.get_rmw_implementation_identifier()]
"""
CV_BRIDGE = "import cv_bridge; cv_bridge.CvBridge(); facts = ['works']"


@dataclass(frozen=True)
class Finding:
    """One row. What is `missing` keeps the `uses` from running, what is `optional` does not; advice says what to do."""

    name: str
    state: Literal["ok", "missing", "optional"]
    detail: str
    advice: str = ""
    uses: tuple[str, ...] = USES


@dataclass(frozen=True)
class Probe:
    """What a library reports when it is imported, or why the import failed."""

    facts: tuple[str, ...] = ()
    error: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `[USE] [--tune]`."""
    parser.add_argument(
        "use", metavar="USE", nargs="?", choices=USES, help=f"look at one use alone: {', '.join(USES)}; default: all"
    )
    parser.add_argument("--tune", action="store_true", help="measure what runs the models here fastest, and keep it")


def run(args: argparse.Namespace) -> int:
    """Print one row a finding, then one a use. Returns 0 when the use, or without one any use, can run; else 1."""
    uses = (args.use,) if args.use else USES
    missing: dict[str, list[str]] = {use: [] for use in uses}
    for finding in examine(uses):
        print(f"{finding.state:9} {finding.name:16} {finding.detail}", flush=True)
        if finding.advice:
            print(f"{'':26} -> {finding.advice}", flush=True)
        for use in missing:
            if finding.state == "missing" and use in finding.uses:
                missing[use].append(finding.name)
    print()
    for use, names in missing.items():
        print(f"{use:9} {'cannot run: ' + ', '.join(names) if names else 'can run'}")
    if args.tune and any(use in ESTIMATING and not names for use, names in missing.items()):
        tune_models()
    return 0 if any(not names for names in missing.values()) else 1


def examine(uses: Sequence[str] = USES) -> Iterator[Finding]:
    """Look at everything that one of the uses needs, the most basic first."""
    yield check_python()
    yield required("NumPy", probe(VERSION_OF.format("numpy")), pip("numpy"))
    yield required("OpenCV", probe(VERSION_OF.format("cv2")), pip("opencv-python-headless"))
    if set(uses) & set(ESTIMATING):
        core = list(check_core())
        yield from core
        yield check_library("OpenVINO", "openvino", "on a CPU networks run on torch, which is slower")
        yield check_library("ONNX Runtime", "onnxruntime", "only backend onnxruntime and .onnx files need it")
        yield check_library("rosbags", "rosbags", "only `depth_anything bag` needs it")
        if all(finding.state != "missing" for finding in core):
            yield from check_checkpoints()
    if "node" in uses:
        yield check_rclpy()
        yield check_cv_bridge()
        yield check_shared_memory()
    for use in EXTRAS:
        if use in uses:
            yield check_extra(use)


def tune_models() -> None:
    """Tune every model whose official file is here, or the demonstration model if there is none."""
    from depth_anything_ros.cli.tune import tuned
    from depth_anything_ros.model.checkpoint_search import find_checkpoint
    from depth_anything_ros.model.registry import DATASETS, encoders_of
    from depth_anything_ros.model.weights import DEMONSTRATION
    from depth_anything_ros.runtime.threads import share_cores
    from depth_anything_ros.settings import ModelSettings

    share_cores()
    models = [(encoder, dataset) for dataset in DATASETS for encoder in encoders_of(dataset)]
    for encoder, dataset in [model for model in models if find_checkpoint(*model)] or [DEMONSTRATION]:
        print(f"\n{encoder} {dataset}")
        for line in tuned(ModelSettings(encoder, dataset, download=False)):
            print(line)


def check_python() -> Finding:
    """Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return Finding("Python", "missing", version, "use Python 3.10 or newer")
    return Finding("Python", "ok", f"{version}, {sys.executable}")


def check_core() -> Iterator[Finding]:
    """Everything `DepthEstimator` imports beside NumPy and OpenCV, and the GPUs torch sees."""
    for name in ("safetensors", "huggingface_hub"):
        yield required(name, probe(VERSION_OF.format(name)), pip(name), ESTIMATING)
    torch = probe(TORCH)
    yield required("torch", Probe(torch.facts[:1], torch.error), pip("torch"), ESTIMATING)
    if len(torch.facts) > 1:
        yield Finding("CUDA", "ok", ", ".join(torch.facts[1:]))
    else:
        advice = "nvidia-smi is here: install a torch made for its driver" if shutil.which("nvidia-smi") else ""
        yield Finding("CUDA", "optional", "no device; the network runs on the CPU", advice)


def check_library(name: str, distribution: str, without: str) -> Finding:
    """Version of a library that one thing needs; importing it may be heavy."""
    version = installed_version(distribution)
    if version is None:
        return Finding(name, "optional", f"not installed; {without}", pip(distribution))
    return Finding(name, "ok", version)


def check_extra(use: str) -> Finding:
    """Versions of the libraries that one use needs beside the core's."""
    versions = {name: installed_version(name) for name in EXTRAS[use]}
    lacking = [name for name, version in versions.items() if version is None]
    title = f"for {use}"
    if lacking:
        advice = pip(f"depth_anything_ros[{EXTRA_NAMES[use]}]")
        return Finding(title, "missing", f"not installed: {', '.join(lacking)}", advice, (use,))
    return Finding(title, "ok", ", ".join(f"{name} {version}" for name, version in versions.items()), "", (use,))


def check_rclpy() -> Finding:
    """One ROS, not two, with the messages the node uses and a middleware that loads."""
    sourced, from_pip = sourced_ros(os.environ), installed_version("ros-rclpy")
    if sourced is not None and from_pip is not None:
        return Finding(
            "rclpy",
            "missing",
            f"two ROS are mixed: {sourced} is sourced, ros-rclpy {from_pip} is installed by pip in {sys.prefix}",
            "use one: a shell without setup.bash, or a virtual environment without the [ros] extra",
            ("node",),
        )
    return required("rclpy", probe(RCLPY), rclpy_advice(sourced, ROS_ROOT), ("node",))


def sourced_ros(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of the ROS whose setup.bash was sourced; a workspace without rclpy is none."""
    prefixes = environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return next((Path(prefix) for prefix in prefixes if prefix and (Path(prefix) / "share/rclpy").is_dir()), None)


def rclpy_advice(sourced: Path | None, ros_root: Path) -> str:
    """Say how to get a working rclpy, by what this machine has of ROS."""
    if sourced is not None:
        pythons = ", ".join(path.name for path in sorted(sourced.glob("lib/python3*"))) or "another Python"
        return (
            f"{sourced} is made for {pythons}: use that, in a virtual environment with --system-site-packages, "
            "and with the NumPy its messages are compiled for (if that is NumPy 1: pip install 'numpy<2')"
        )
    installed = sorted(ros_root.glob("*/setup.bash"))
    if installed:
        return f"source {installed[-1]}"
    return f"install ROS 2 (https://docs.ros.org) and source its setup.bash; or, never beside one, {pip('.[ros]')}"


def check_cv_bridge() -> Finding:
    """cv_bridge imports, or breaks as its compiled part does under another NumPy."""
    found = probe(CV_BRIDGE)
    if found.error:
        advice = numpy_advice(installed_version("numpy"), sourced_ros(os.environ))
        return Finding("cv_bridge", "optional", f"{found.error}; the usual image encodings do without it", advice)
    return Finding("cv_bridge", "ok", "imports")


def numpy_advice(numpy: str | None, sourced: Path | None) -> str:
    """Say how to get NumPy 1 back where the sourced ROS is compiled for it; empty elsewhere."""
    if numpy is None or numpy.startswith("1.") or sourced is None or sourced.name not in MADE_FOR_NUMPY_1:
        return ""
    return (
        f"{sourced.name} is made for NumPy 1, and this is NumPy {numpy}: "
        "pip install -c constraints-numpy1.txt numpy opencv-python-headless"
    )


def check_checkpoints() -> Iterator[Finding]:
    """Official files in the search folders, each read as a model reads it."""
    from depth_anything_ros.errors import CheckpointError
    from depth_anything_ros.model.checkpoint_search import find_checkpoint, search_folders
    from depth_anything_ros.model.registry import DATASETS, encoders_of
    from depth_anything_ros.model.weights import read_checkpoint
    from depth_anything_ros.settings import ModelSettings

    models = [(encoder, dataset) for dataset in DATASETS for encoder in encoders_of(dataset)]
    found = [(*model, path) for model in models if (path := find_checkpoint(*model)) is not None]
    for encoder, dataset, path in found:
        try:
            read_checkpoint(path, encoder, dataset)
        except CheckpointError as error:
            advice = f"delete it, then: depth_anything download {encoder} {dataset}"
            yield Finding("checkpoint", "missing", str(error), advice, ESTIMATING)
        else:
            yield Finding("checkpoint", "ok", f"{encoder} {dataset}: {path}", "", ESTIMATING)
    if not found:
        default = ModelSettings()
        folders = ", ".join(map(str, search_folders()))
        advice = f"depth_anything download {default.encoder} {default.dataset}; or the first start downloads it"
        yield Finding("checkpoint", "optional", f"none in {folders}", advice, ESTIMATING)


def check_shared_memory() -> Finding:
    """Room for large messages, which otherwise travel over UDP."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError as error:
        return Finding("shared memory", "optional", f"{error}; large messages travel over UDP, slower")
    detail = f"{free // 2**20} MiB free in {SHARED_MEMORY}"
    if free >= SHARED_MEMORY_BYTES:
        return Finding("shared memory", "ok", detail)
    advice = f"give it {SHARED_MEMORY_BYTES // 2**20} MiB or more (docker run --shm-size=512m); clouds travel slower"
    return Finding("shared memory", "optional", detail, advice)


def required(name: str, found: Probe, advice: str, uses: tuple[str, ...] = USES) -> Finding:
    """Row of a library that these uses cannot do without."""
    if found.error:
        return Finding(name, "missing", found.error, advice, uses)
    return Finding(name, "ok", ", ".join(found.facts), "", uses)


def pip(requirement: str) -> str:
    """Say how to install something here. Outside a virtual environment, pip is often not allowed to."""
    if sys.prefix != sys.base_prefix:
        return f"pip install '{requirement}'"
    return f"python3 -m venv --system-site-packages .venv && .venv/bin/pip install '{requirement}'"


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def probe(code: str) -> Probe:
    """Run code that sets `facts`, a list of strings, in a Python of its own."""
    program = f"{code}\nimport json; print(); print(json.dumps(facts))"
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Probe(error=f"importing it takes longer than {IMPORT_TIMEOUT_S} s")
    if done.returncode == 0:
        return Probe(facts=tuple(json.loads(done.stdout.splitlines()[-1])))
    if done.returncode < 0:
        return Probe(error=f"importing it ends in {signal.Signals(-done.returncode).name}")
    lines = done.stderr.split("\n")
    return Probe(error=next((line.strip() for line in reversed(lines) if line.strip()), "importing it fails"))
