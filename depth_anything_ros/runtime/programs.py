"""Where programs begin: the five of setup.py, whose console scripts point here, as `python -m` does, and the demo.

A program's own module is imported last: after what has to be set before torch is imported, and where a module that
is missing can be named in one line. What a program does is not here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

INTERRUPTED = 130  # the shell's status for a program that Ctrl-C ended


class Program(NamedTuple):
    """A program's name, the module whose `main` it runs, and the extra of setup.py that it needs."""

    name: str
    module: str
    extra: str


def depth_anything() -> int | None:
    """`depth_anything`: the command line without ROS."""
    return start(Program("depth_anything", "depth_anything_ros.cli", "core"))


def depth_anything_node() -> int | None:
    """`depth_anything_node`: the ROS 2 node."""
    return start(Program("depth_anything_node", "depth_anything_ros.node.lifecycle", "core,ros"))


def synthetic_camera() -> int | None:
    """`synthetic_camera`: the ROS 2 node that renders what it publishes."""
    return start(Program("synthetic_camera", "depth_anything_ros.node.synthetic_camera", "core,ros"))


def depth_anything_bridge() -> int | None:
    """`depth_anything_bridge`: the REST server."""
    return start(Program("depth_anything_bridge", "bridge.server.command", "bridge"))


def depth_anything_client() -> int | None:
    """`depth_anything_client`: the REST server's client."""
    return start(Program("depth_anything_client", "bridge.client.cli", "client"))


def start(program: Program) -> int | None:
    """Run a program; return its exit status: 1 where its modules cannot be imported, 130 after Ctrl-C."""
    let_waiting_threads_sleep()
    try:
        module = import_of(program.module)
    except ImportError as error:
        print(f"{program.name}: {explain(error, program)}", file=sys.stderr)
        return 1
    try:
        status: int | None = module.main()
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def import_of(name: str) -> Any:
    """Import a module, which takes seconds where torch is in it. Ctrl-C meanwhile ends the process with status 130.

    It raises no KeyboardInterrupt: libraries catch that one while they are imported, and fail in other ways then.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a shell's `&` makes programs ignore it
        return importlib.import_module(name)
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        return importlib.import_module(name)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def explain(error: ImportError, program: Program) -> str:
    """Say why a program's modules cannot be imported, and what to do."""
    if program.module.startswith("bridge") and (other := other_bridge()):
        return f"{other} hides this project's package `bridge`: rename it, or take its folder out of PYTHONPATH"
    if isinstance(error, ModuleNotFoundError):
        ros = "source the setup.bash of a ROS 2; without one, " if "ros" in program.extra else ""
        return (
            f"{error.name} is missing: {ros}pip install '.[{program.extra}]'; `depth_anything doctor` says what else is"
        )
    return f"{error}; `depth_anything doctor` says what is missing"


def other_bridge() -> str | None:
    """Return the path of a module `bridge` that is not ours: an own bridge.py beside the program, or on PYTHONPATH."""
    spec = importlib.util.find_spec("bridge")
    if spec is None or spec.origin is None:
        return None
    ours = Path(__file__).resolve().parents[2] / "bridge" / "__init__.py"  # beside depth_anything_ros
    return None if Path(spec.origin).resolve() == ours else spec.origin
