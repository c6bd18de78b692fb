"""A node as a process: signals, the executor's thread, the log, the exit status.

The main thread only waits for a signal, so that one is heard at once, whatever loads or runs. The command line is read
in `command_line`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import rclpy
import rclpy.logging
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.logging_severity import LoggingSeverity
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from depth_anything_ros.errors import DepthAnythingError, describe
from depth_anything_ros.node.command_line import Program, check_arguments, explain_start_error
from depth_anything_ros.runtime.allocator import keep_freed_memory
from depth_anything_ros.runtime.threads import share_cores

# How long the end of the process waits for each: a picture, an inference, a load, a callback under way.
SHUTDOWN_GRACE_S = 0.5
# How often the threads of the process look whether it is to end.
END_CHECK_S = 0.1
# Between two log lines about callbacks that fail.
REPEAT_S = 1.0
# After each such callback, so that one that fails at once does not take a whole core.
ERROR_PAUSE_S = 0.01

AnyNode = TypeVar("AnyNode", bound=Node)


def run_node(
    program: Program,
    make: Callable[[], AnyNode],
    start: Callable[[AnyNode], None],
    stop: Callable[[AnyNode, float], bool],
    args: list[str] | None = None,
    torch_threads: int | None = None,
) -> None:
    """Run a node until SIGINT or SIGTERM. Exit status 2 for arguments or parameters that are not allowed.

    Args:
        program: whose command line it is.
        make: makes the node.
        start: sets it to work, in the executor's thread.
        stop: stops its work for good; returns False if some is still under way after so many seconds.
        args: command line, for rclpy.
        torch_threads: how many threads torch computes with; None takes every core.
    """
    check_arguments(program, args)
    keep_freed_memory()
    share_cores(torch_threads=torch_threads)
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.append(received))
    _init(program, args)
    try:
        node = make()
    except (ParameterException, DepthAnythingError) as error:
        program.exit_with(str(error))
    core_log = logging.getLogger("depth_anything_ros")
    core_log.addHandler(RosLogHandler(node))
    core_log.setLevel(logging.INFO)
    ending = threading.Event()
    spinning = ThreadPoolExecutor(1, "executor").submit(_spin, node, start, ending)
    # Looking is safe where waiting is not: a handler that takes a lock can meet its own thread holding
    # it, and a thread that waits for one sleeps on if the signal was delivered to another thread.
    while not signals and not spinning.done():
        time.sleep(END_CHECK_S)
    ending.set()
    _end(node, stop(node, SHUTDOWN_GRACE_S), spinning)


def _init(program: Program, args: list[str] | None) -> None:
    rcl = rclpy.logging.get_logger("rcl")
    rcl.set_level(LoggingSeverity.FATAL)  # rcl logs half a line about arguments that it cannot parse
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        program.exit_with(explain_start_error(error))
    rcl.set_level(LoggingSeverity.UNSET)


def _spin(node: AnyNode, start: Callable[[AnyNode], None], ending: threading.Event) -> None:
    start(node)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not ending.is_set():
        try:
            executor.spin_once(timeout_sec=END_CHECK_S)
        # rclpy's own callbacks raise, too: for a parameter of a type that does not exist, a negative /clock, an
        # impossible transition. One message must not end the node.
        except Exception as error:
            node.get_logger().error(f"a callback failed: {describe(error)}", throttle_duration_sec=REPEAT_S)
            ending.wait(ERROR_PAUSE_S)


def _end(node: Node, has_stopped: bool, spinning: Future[None]) -> None:
    if wait([spinning], SHUTDOWN_GRACE_S).done:
        leaving = threading.Thread(target=_leave, args=(node,), daemon=True)
        leaving.start()
        leaving.join(None if has_stopped else SHUTDOWN_GRACE_S)
    if not (has_stopped and spinning.done()):
        error = spinning.exception() if spinning.done() else None
        if error is not None:
            traceback.print_exception(error)
        # What torch computes cannot be interrupted, and taking the interpreter down around it crashes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if error is None else 1)
    spinning.result()  # raises what ended the callbacks, if it was no signal


def _leave(node: Node) -> None:
    """Tell other nodes, so that none takes this node's topics for alive."""
    node.destroy_node()
    rclpy.try_shutdown()


class RosLogHandler(logging.Handler):
    """Passes what the core logs on to the node's logger, and so to /rosout."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record. rclpy ties a severity to the line that logs, hence a line for each."""
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())
