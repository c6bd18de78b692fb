"""The robot's cameras as a part of the application: what it is made of, its start and its end."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import FastAPI

from bridge.server.metrics import Metrics
from bridge.server.robot.camera_status import read_status
from bridge.server.robot.ros_side import RosSide
from bridge.server.robot.roster import Roster
from bridge.server.robot.routes import CameraRoutes
from bridge.server.settings import BridgeSettings
from bridge.server.state import WorkerState


class RobotCameras:
    """Shows the cameras of the depth nodes that are heard.

    Raises:
        SettingsError: ROS takes no such arguments.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        self._ros = RosSide(settings.ros_args, self._hear)
        self._roster = Roster(self._ros, settings.ros_node)
        self._routes = CameraRoutes(self._roster, settings, self._ros.now_ns)
        self._loop: asyncio.AbstractEventLoop | None = None

    def add_routes(self, app: FastAPI) -> None:
        """Add the paths of the cameras."""
        self._routes.add_to(app)

    def start(self, state: WorkerState, metrics: Metrics) -> None:
        """Join the ROS graph; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._routes.open(state, metrics)
        self._ros.start()

    def stop(self) -> None:
        """Leave the graph."""
        self._ros.stop()
        self._routes.close()

    def _hear(self, name: str, level: int, message: str, values: dict[str, str]) -> None:
        """Called in the thread of ROS."""
        status = read_status(name, level, message, values)
        if status is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(partial(self._roster.hear, status))
