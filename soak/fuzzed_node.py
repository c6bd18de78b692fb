"""A depth node in a process of its own, one camera for every way in, and what can be done to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from depth_anything_ros.estimator import DepthEstimator
from depth_anything_ros.node.parameters import MODEL_PARAMETERS, PARAMETERS
from soak.good_messages import PICTURE, camera_info, inputs_of, picture
from soak.peer import Peer, Silence, eventually
from soak.walks import Step

# Name of a camera -> its own parameters: one for every type of image and of range sensor.
CAMERAS: dict[str, dict[str, str]] = {
    "raw": {},
    "compressed": {"image_transport": "compressed"},
    "scan": {"range_type": "LaserScan", "alignment": "range"},
    "cloud": {"range_type": "PointCloud2", "alignment": "range"},
    "beam": {"range_type": "Range", "alignment": "range"},
    "registered": {"range_type": "Image", "alignment": "range"},
}
SETTINGS: dict[str, Any] = {
    "encoder": "toy",
    "checkpoint": "untrained",
    "input_size": 56,
    "backend": "torch",
    "process_every_frame": True,
    "queue_size": 1000,
    "range_extrinsics": [0.0] * 6,
    "alignment_time_constant_s": 0.0,
    "alignment_hold_s": 0.2,
}
IMAGES = {name: inputs_of(name, own)[0][0] for name, own in CAMERAS.items()}
TOLERANCE_M = 1e-3
LOAD_HZ = 5.0  # of each camera
RIGHT_AGAIN_S = 30.0
END_S = 20.0


class Wrong(Exception):
    """The node did what it must not do."""


class FuzzedNode:
    """The node, and the peer that talks to it. Both end with `close`.

    Every method raises Wrong or `peer.Silence` where the node does not do what it has to.
    """

    def __init__(self, log: Path) -> None:
        namespace = f"/fuzz_{os.getpid()}"
        self._name = f"{namespace}/depth_anything"
        self._topics = namespace
        self._peer = Peer(namespace)
        self._depths: dict[str, deque[Image]] = {name: deque(maxlen=50) for name in CAMERAS}
        with log.open("wb") as file:
            self._process = subprocess.Popen(self._command(namespace), stdout=file, stderr=subprocess.STDOUT)
        for name in CAMERAS:
            self._peer.listen(Image, f"{self._name}/{name}/depth/image", partial(self._keep, name))
            self._peer.listen(PointCloud2, f"{self._name}/{name}/points", lambda _: None)
        self._known = DepthEstimator.load("toy", "hypersim", "untrained", 56, "cpu", backend="torch").estimate(PICTURE)
        self._parameters: dict[str, Any] = {}
        self._stamps_s = int(time.time())

    def _command(self, namespace: str) -> list[str]:
        given = dict(SETTINGS, cameras=list(CAMERAS))
        for name, own in CAMERAS.items():
            given |= {f"{name}.{key}": value for key, value in own.items()}
            for topic in {topic for topic, _ in inputs_of(name, own)}:
                given[f"qos_overrides.{namespace}/{topic}.subscription.reliability"] = "reliable"
                given[f"qos_overrides.{namespace}/{topic}.subscription.depth"] = 1000
        words = [word for key, value in given.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
        return [sys.executable, "-m", "depth_anything_ros.node", "--ros-args", "-r", f"__ns:={namespace}", *words]

    def stop(self) -> None:
        """End the node as a user does."""
        self._process.terminate()
        eventually(lambda: self._process.poll() is not None, "end of the node", END_S)
        if self._process.returncode != 0:
            raise Wrong(f"after SIGTERM the node ended with status {self._process.returncode}")

    def close(self) -> None:
        """End everything that still runs."""
        self._process.kill()
        self._process.wait()
        self._peer.stop()

    def memory_mib(self) -> float:
        """Resident memory of the node."""
        return float(psutil.Process(self._process.pid).memory_info().rss / 2**20)

    def check_alive(self) -> None:
        """Raise Wrong if the process has ended."""
        if (status := self._process.poll()) is not None:
            raise Wrong(f"the node ended with status {status}")

    # Messages

    def inputs(self) -> list[tuple[str, Any]]:
        """Return every topic that it listens to, with a good message for it."""
        return [topic for name, own in CAMERAS.items() for topic in inputs_of(name, own)]

    def send(self, topic: str, message: Any, kind: type) -> None:
        """Publish a message, or the bytes of one of a type."""
        self.check_alive()
        self._peer.publish(f"{self._topics}/{topic}", message, kind)

    def _keep(self, name: str, depth: Image) -> None:
        self._depths[name].append(depth)

    def check_depth(self) -> None:
        """Show every camera a good picture until the depth that comes is the right one.

        A camera works its frames off in their order, so everything that was sent before is done then.
        """
        for name in CAMERAS:
            eventually(partial(self._is_right, name), f"right depth of camera {name}", RIGHT_AGAIN_S)

    def _is_right(self, name: str) -> bool:
        """Send one picture; return whether the answer is right."""
        self._stamps_s += 1
        header = Header(frame_id="optical", stamp=Time(sec=self._stamps_s))
        self.send(f"{name}/camera_info", camera_info(header), type(camera_info(header)))
        image = picture(header, CAMERAS[name].get("image_transport") == "compressed")
        self.send(IMAGES[name], image, type(image))

        def answer() -> Any:
            self.check_alive()
            return next((depth for depth in list(self._depths[name]) if depth.header.stamp == header.stamp), None)

        try:
            depth = eventually(answer, "answer", 5.0)
        except Silence:
            return False
        if depth.encoding != "32FC1" or (depth.height, depth.width) != self._known.values.shape:
            return False
        found = np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width)
        return np.allclose(found, self._known.values, atol=TOLERANCE_M, rtol=0)

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """Send every camera good pictures all the time."""
        ending = threading.Event()

        def run() -> None:
            while not ending.wait(1 / LOAD_HZ):
                for topic, message in self.inputs():
                    self._peer.publish(f"{self._topics}/{topic}", message)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    # Services

    def parameters(self) -> dict[str, Any]:
        """Return the values of all parameters."""
        self._parameters = dict(zip(PARAMETERS, self._get(*PARAMETERS), strict=True))
        return dict(self._parameters)

    def _get(self, *names: str) -> list[Any]:
        values = self._peer.call(
            GetParameters, f"{self._name}/get_parameters", GetParameters.Request(names=list(names))
        ).values
        return [parameter_value_to_python(value) for value in values]

    def set(self, values: Mapping[str, Any], together: bool) -> list[bool]:
        """Set parameters, all or none if together. Returns which were taken; checks that they are as they say."""
        self.check_alive()
        messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        if together:
            request = SetParametersAtomically.Request(parameters=messages)
            result = self._peer.call(SetParametersAtomically, f"{self._name}/set_parameters_atomically", request).result
            results = [result] * len(messages)
        else:
            request = SetParameters.Request(parameters=messages)
            results = self._peer.call(SetParameters, f"{self._name}/set_parameters", request).results
        for (name, value), result in zip(values.items(), results, strict=True):
            if result.successful:
                self._parameters[name] = value
            elif not result.reason:
                raise Wrong(f"parameter {name} = {value!r} was refused without a reason")
        self._check_parameters(list(values))
        return [result.successful for result in results]

    def _check_parameters(self, names: list[str]) -> None:
        """Those of the model may go back by themselves, where it cannot be loaded."""
        own = [name for name in names if name not in MODEL_PARAMETERS]
        for name, found in zip(own, self._get(*own), strict=True):
            if _plain(found) != _plain(self._parameters[name]):
                raise Wrong(f"parameter {name} is {found!r}; it was set to {self._parameters[name]!r}")

    def restore(self, values: Mapping[str, Any]) -> None:
        """Set all parameters as they were, together; those that are fixed have never changed."""
        changeable = {name: value for name, value in values.items() if not PARAMETERS[name].fixed and value is not None}
        if not all(self.set(changeable, together=True)):
            raise Wrong("the parameters could not be set to what they were at the start")

    def step(self, step: Step) -> None:
        """Ask for a transition; check what comes of it."""
        self.check_alive()
        request = ChangeState.Request(transition=Transition(id=step.transition))
        succeeded = self._peer.call(ChangeState, f"{self._name}/change_state", request).success
        state = self._peer.call(GetState, f"{self._name}/get_state", GetState.Request()).current_state.label
        if (succeeded, state) != (step.succeeds, step.state):
            raise Wrong(f"transition {step.transition}: success {succeeded}, state {state}; expected: {step}")


def _plain(value: Any) -> Any:
    """Return a value as it is compared: numbers as floats, arrays as lists."""
    if isinstance(value, (bool, str)) or value is None:
        return value
    return float(value) if isinstance(value, (int, float)) else list(value)
