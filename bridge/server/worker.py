"""One server process: a model cache, the application, and uvicorn around them."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from bridge.server.app import Robot, create_app
from bridge.server.auth import KeyRing
from bridge.server.exit_status import WORKER_FAILED, WORKER_UNABLE
from bridge.server.image_url import ImageFetcher
from bridge.server.logs import configure_logging
from bridge.server.protocol import protocol_with_deadlines
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState
from depth_anything_ros.errors import DepthAnythingError
from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.runtime.allocator import keep_freed_memory
from depth_anything_ros.runtime.device import available_devices, select_device
from depth_anything_ros.runtime.threads import share_cores
from depth_anything_ros.serving.model_cache import ModelCache
from depth_anything_ros.settings import CacheSettings, ModelSettings

logger = logging.getLogger(__name__)

CLOSE_S = 1  # of the time to drain, for connections to close
END_S = 1.5  # and for the process to end
MAX_MESSAGE_BYTES = 4096  # from clients of streams, who have nothing to say


class WorkerServer(uvicorn.Server):
    """uvicorn that ends in two steps: it finishes the accepted work, then closes the sockets.

    New work gets 503 in between, so a client gets an answer instead of a closed connection.

    Args:
        work_s: seconds after which accepted work is given up.
    """

    def __init__(self, config: uvicorn.Config, state: WorkerState, work_s: float) -> None:
        super().__init__(config)
        self._state = state
        self._work_s = work_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._state.drain()

    async def on_tick(self, counter: int) -> bool:
        state = self._state
        if state.draining_s > self._work_s:
            state.is_over = True
        if state.preload_failed or state.is_over or (state.is_draining and not state.in_work):
            self.should_exit = True
        return await super().on_tick(counter)


def run_worker(settings: BridgeSettings, listener: socket, worker_id: int) -> None:
    """Serve until told to end; entry point of a worker process. Exits with the status the supervisor reads."""
    keep_freed_memory()
    share_cores(settings.workers)
    configure_logging(settings.log_level)
    try:
        app = build_app(settings, worker_id)
    except DepthAnythingError as error:
        logger.error("cannot start: %s", error)
        sys.exit(WORKER_UNABLE)
    state: WorkerState = app.state.worker
    threading.Thread(target=_end_with_parent, args=(state,), daemon=True).start()
    create_server(app, settings).run([listener])
    status = WORKER_UNABLE if state.preload_failed else WORKER_FAILED if state.has_failed else 0
    if settings.ros:  # all is closed; taking interpreter, torch and DDS down takes longer than the time to end
        logging.shutdown()
        os._exit(status)
    sys.exit(status)


def build_app(settings: BridgeSettings, worker_id: int) -> FastAPI:
    """Build a worker's application and all it needs; SIGHUP makes it read its keys again.

    Raises:
        SettingsError, DeviceError: the settings ask for something that this machine does not have.
    """
    devices = devices_of(settings, worker_id)
    keys = KeyRing(settings)
    signal.signal(signal.SIGHUP, lambda *_: keys.reload())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor held it back
    fetcher = ImageFetcher(settings.image_url_settings)
    robot = create_robot(settings) if settings.ros else None
    return create_app(create_cache(settings, devices), settings, fetcher, keys, worker_id, robot)


def create_robot(settings: BridgeSettings) -> Robot:
    """What shows the robot's cameras; imports rclpy. Raises SettingsError: ROS takes no such arguments."""
    from bridge.server.robot.robot import RobotCameras

    return RobotCameras(settings)


def websocket_protocol(settings: BridgeSettings) -> Any:
    """What serves WebSockets, which only the robot's cameras have."""
    if not settings.ros:
        return "none"
    from bridge.server.robot.quiet_websocket import QuietWebSocket

    return QuietWebSocket


def create_server(app: FastAPI, settings: BridgeSettings) -> WorkerServer:
    """Put uvicorn around an application."""
    config = uvicorn.Config(
        app,
        http=protocol_with_deadlines(settings.header_timeout_s, settings.body_timeout_s),
        ws=websocket_protocol(settings),
        ws_per_message_deflate=False,  # numbers hardly shrink, and each client would cost its own compression
        ws_max_size=MAX_MESSAGE_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=math.ceil(settings.keep_alive_s),
        timeout_graceful_shutdown=CLOSE_S,
    )
    work_s = max(settings.drain_timeout_s / 2, settings.drain_timeout_s - CLOSE_S - END_S)
    return WorkerServer(config, app.state.worker, work_s)


def create_cache(settings: BridgeSettings, devices: list[str]) -> ModelCache:
    """A model cache whose estimators hold to this server's limits."""

    def load(model: ModelSettings) -> DepthEstimator:
        estimator = DepthEstimator.from_settings(model, background=True)
        estimator.limits = settings.input_limits
        return estimator

    limits = CacheSettings(settings.max_models * len(devices), settings.max_model_bytes)
    return ModelCache(limits, devices, load)


def devices_of(settings: BridgeSettings, worker_id: int) -> list[str]:
    """Devices of one worker: its share of the GPUs, at least one."""
    if settings.device != "auto":
        return [str(select_device(settings.device))]
    devices = available_devices()
    return devices[worker_id :: settings.workers] or [devices[worker_id % len(devices)]]


def _end_with_parent(state: WorkerState) -> None:
    """Drain when the supervisor has ended, for whatever reason: nobody else would stop this process."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        state.drain()
