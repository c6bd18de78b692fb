"""The demo's child processes: started apart from the terminal, watched, and always ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_TIMEOUT_S = 10.0
TAIL_LINES = 15
FASTDDS_PROFILE = Path(__file__).parent.parent / "config" / "fastdds.xml"
PROFILE_VARIABLE, OLD_PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


class ChildFailed(Exception):
    """A child process ended by itself, or cannot do its work."""


class Child:
    """A process whose output goes to a log file."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            # A session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops its children.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def check(self) -> None:
        """Raise ChildFailed if the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise ChildFailed(f"the {self.name} process ended with status {status}:\n{tail(self.log)}")

    def said(self) -> str:
        """Return what is in the log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End the process: SIGINT, then SIGKILL if it goes on."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def tail(log: Path) -> str:
    """Return the end of a log file."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])


@contextmanager
def child(name: str, command: Sequence[str], log: Path) -> Iterator[Child]:
    """Start a process and end it when the block is left, however that happens."""
    started: Child | None = None
    try:
        with interrupts_held():
            started = Child(name, command, log)
        yield started
    finally:
        if started is not None:
            started.stop()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block is left: inside Popen it would lose a process that has just started."""
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def isolate_ros() -> None:
    """Keep the demo's topics on this machine and to itself, unless the user has chosen otherwise."""
    distribution = os.environ.get("ROS_DISTRO")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    if distribution == "humble":  # the older variable; newer distributions complain about it
        os.environ.setdefault("ROS_LOCALHOST_ONLY", "1")
    else:
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if FASTDDS_PROFILE.is_file() and not {PROFILE_VARIABLE, OLD_PROFILE_VARIABLE} & os.environ.keys():
        old = distribution in ("humble", "jazzy")
        os.environ[OLD_PROFILE_VARIABLE if old else PROFILE_VARIABLE] = str(FASTDDS_PROFILE)
