"""Keeps the worker processes alive: one listening socket, N processes that accept from it.

A worker that dies is replaced; a first one that can never work ends the start. SIGTERM and SIGINT drain: workers finish
what they accepted within `drain_timeout_s`, and the exit status is 0. SIGHUP is passed on: the workers read the key
file again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from tempfile import TemporaryDirectory
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from bridge.server.exit_status import WORKER_UNABLE
from bridge.server.metrics import SHARED_FOLDER_VARIABLE
from bridge.server.settings import BridgeSettings

logger = logging.getLogger(__name__)

MIN_LIFE_S = 1.0  # a worker is replaced no sooner than this after its start
POLL_S = 0.2
BACKLOG = 2048
HELD_BACK = {signal.SIGHUP, signal.SIGINT}  # while a worker starts
ANY_IPV6 = "::"  # IPv4 clients may come there too


@dataclass
class Worker:
    """One process, when it was started, and whether it is the first in its place."""

    process: SpawnProcess
    started_s: float
    is_first: bool


class Supervisor:
    """Runs `settings.workers` processes that serve what comes to `listener`."""

    def __init__(self, settings: BridgeSettings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: dict[int, Worker] = {}
        self._is_ending = False
        self._exit_status = 0

    def run(self) -> int:
        """Serve until a signal comes; return the exit status."""
        signal.signal(signal.SIGTERM, self._on_end)
        signal.signal(signal.SIGINT, self._on_end)
        signal.signal(signal.SIGHUP, self._on_hangup)
        with TemporaryDirectory(prefix="depth_bridge_") as folder:
            if self._settings.workers > 1:
                os.environ[SHARED_FOLDER_VARIABLE] = folder
            for worker_id in range(self._settings.workers):
                self._start(worker_id)
            while not self._is_ending:
                self._watch()
            self._drain()
        return self._exit_status

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._is_ending = True

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        self._signal_all(signal.SIGHUP)

    def _start(self, worker_id: int) -> None:
        arguments = (self._settings, self._listener, worker_id)
        process = get_context("spawn").Process(target=work, args=arguments, name=f"worker-{worker_id}")
        ensure_running()  # of multiprocessing: its start would let go of what is held back
        # Held back until the worker can take them: before, SIGHUP would end it, and Ctrl-C with a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        self._workers[worker_id] = Worker(process, time.monotonic(), is_first=worker_id not in self._workers)

    def _watch(self) -> None:
        wait([worker.process.sentinel for worker in self._workers.values()], POLL_S)
        for worker_id, worker in self._workers.items():
            if worker.process.exitcode is not None and not self._is_ending:
                self._replace(worker_id, worker)

    def _replace(self, worker_id: int, worker: Worker) -> None:
        status = worker.process.exitcode
        # A later one meets what may pass, such as a key file that is being written.
        if status == WORKER_UNABLE and worker.is_first:
            self._exit_status, self._is_ending = WORKER_UNABLE, True
            return
        logger.error("worker %d ended with status %s and is replaced", worker_id, status)
        if SHARED_FOLDER_VARIABLE in os.environ:
            mark_process_dead(worker.process.pid)  # type: ignore[no-untyped-call]
        time.sleep(max(0.0, worker.started_s + MIN_LIFE_S - time.monotonic()))
        self._start(worker_id)

    def _signal_all(self, number: int) -> None:
        for worker in self._workers.values():
            if worker.process.exitcode is None and worker.process.pid is not None:
                os.kill(worker.process.pid, number)

    def _drain(self) -> None:
        """Let the workers finish, and end those that do not."""
        self._listener.close()
        self._signal_all(signal.SIGTERM)
        deadline_s = time.monotonic() + self._settings.drain_timeout_s
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline_s - time.monotonic()))
            if worker.process.exitcode is None:
                logger.error("%s did not end in time", worker.process.name)
                worker.process.kill()
                worker.process.join()


def work(settings: BridgeSettings, listener: socket.socket, worker_id: int) -> None:
    """Entry point of a worker process. Only there is torch imported: the supervisor stays small."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the supervisor passes it on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from bridge.server.worker import run_worker

    run_worker(settings, listener, worker_id)


def open_listener(host: str, port: int) -> socket.socket:
    """Bind a socket. Raises OSError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    serves_both = host == ANY_IPV6 and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=serves_both)
    # Connections inherit it. Without it the end of a short answer waits 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
