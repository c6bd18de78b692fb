"""A Ray cluster of its own with the bridge on it: what tests start, `RayCluster`, and the program that it runs.

The program takes a port and a folder. Each line of its standard input is the JSON of what `bridge.server.ray.build`
takes; it is deployed, and answered with a line `deployed`. The cluster ends with the program.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

CPUS = 8  # that Ray believes in: what replicas take is for its books alone
TOY: dict[str, Any] = {
    "default_encoder": "toy",
    "default_input_size": 56,
    "backend": "torch",
    "checkpoint": "untrained",
    "preload": "toy:hypersim:56",
    "cpus": 0.5,
}


class RayCluster:
    """A cluster on loopback, in processes of its own."""

    def __init__(self, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._folder = tempfile.mkdtemp(prefix="ray_")  # a short path: it holds UNIX sockets
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_AUTH_TOKEN": "of-this-test-and-32-letters-long"}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(self.port), self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                text=True,
            )

    def deploy(self, **arguments: Any) -> None:
        """Deploy the toy network with these settings, and wait until the replicas are there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(TOY | arguments) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line == "deployed\n":
                return
        raise AssertionError(self._log.read_text()[-5000:])

    def replicas(self) -> set[int]:
        """Process ids of the replicas that live."""
        return {process.pid for process in self._children() if "Replica:" in name_of(process)}

    def listening(self) -> set[str]:
        """Addresses that the cluster's processes listen on."""
        connections = [found for process in self._children() for found in process.net_connections("inet")]
        return {found.laddr.ip for found in connections if found.status == psutil.CONN_LISTEN}

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        """End all of it."""
        children = self._children()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        for process in psutil.wait_procs(children, timeout=10)[1]:
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def name_of(process: psutil.Process) -> str:
    """What a process calls itself; nothing once it is gone."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def main(port: int, folder: str) -> None:
    """Deploy what comes, until standard input ends."""
    import ray
    from ray import serve

    from bridge.server.ray import build

    for line in sys.stdin:
        application = build(json.loads(line))
        if not ray.is_initialized():
            ray.init(num_cpus=CPUS, include_dashboard=False, namespace="serve", log_to_driver=False, _temp_dir=folder)
            serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(application, blocking=False)
        print("deployed", flush=True)
    ray.shutdown()  # at once: what was to be drained has been


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
