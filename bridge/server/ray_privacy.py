"""Keeps a Ray that the bridge starts to itself: it listens on loopback alone, and reports nothing to its makers.

Ray has no option for the former, so two of its internals are changed here. `test_ray` looks at the ports.
"""

from __future__ import annotations

import os
from typing import Any, cast

import ray
from ray._private import ray_constants
from ray.serve._private import replica

USAGE_VARIABLE = "RAY_USAGE_STATS_ENABLED"
# Whether other machines may join. Ray documents it for two other systems; on Linux its value 0 does the same.
CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def keep_private() -> None:
    """Let a Ray that this process starts after this be private.

    What the environment says stays, and a Ray that runs already is as it was started.
    """
    os.environ.setdefault(USAGE_VARIABLE, "0")
    if os.environ.setdefault(CLUSTER_VARIABLE, "0") == "0":
        ray_constants.ENABLE_RAY_CLUSTER = False  # Ray has read the variable already


def listen_on_own_address() -> None:
    """Let the port by which replicas talk to Ray's proxies listen on the node's address, not on all."""
    internals = cast(Any, replica)
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    host, add_port = f"[{address}]" if ":" in address else address, internals.add_port_to_grpc_server
    internals.add_port_to_grpc_server = lambda server, every: add_port(server, f"{host}:{every.rpartition(':')[2]}")
