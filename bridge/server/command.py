"""`depth_anything_bridge`: start the server, make a key for it, or write a config file for Ray Serve."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from secrets import token_urlsafe

from pydantic import SecretStr

from bridge.server.auth import KeyRing, make_key
from bridge.server.logs import configure_logging
from bridge.server.named_models import models_to_preload
from bridge.server.ray_settings import config_file
from bridge.server.settings import BridgeSettings
from bridge.server.settings_sources import load_settings
from bridge.server.supervisor import Supervisor, open_listener
from depth_anything_ros.errors import DepthAnythingError, os_reason
from depth_anything_ros.model.checkpoint_search import UNTRAINED, given_checkpoint

logger = logging.getLogger("bridge")

USAGE = "usage: depth_anything_bridge make-key NAME"
RAY_USAGE = "usage: depth_anything_bridge ray-config [NAME=VALUE ...] > serve.yaml"
CANNOT_USE_ROS = 2  # exit status
HINTS = {
    errno.EADDRINUSE: "another program has this port: end it, or take another one with --port (0: any that is free)",
    errno.EACCES: "ports below 1024 are for root alone: take another one with --port",
}
ROS_PACKAGES = ("rclpy", "sensor_msgs", "diagnostic_msgs")
GET_ROS = "source the setup.bash of a ROS 2, or pip install '.[bridge,ros]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["make-key"]:
            return print_key(arguments[1:])
        if arguments[:1] == ["ray-config"]:
            return print_ray_config(arguments[1:])
        return serve(load_settings(arguments))
    except DepthAnythingError as error:
        raise SystemExit(f"depth_anything_bridge: {error}") from None


def print_key(arguments: Sequence[str]) -> int:
    """Make a key. Its line goes to standard output, so `>> FILE` adds it; the key itself is shown on standard error."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(USAGE)
    key, line = make_key(arguments[0])
    print(f"The key, shown only now:\n\n{key}\n\nThe line for the key file:\n", file=sys.stderr, flush=True)
    print(line)
    return 0


def print_ray_config(arguments: Sequence[str]) -> int:
    """Write a config file for Ray Serve to standard output. The arguments are those of `serve run`: NAME=VALUE."""
    if any("=" not in argument or argument.startswith("-") for argument in arguments):
        raise SystemExit(RAY_USAGE)
    print(config_file(dict(argument.split("=", 1) for argument in arguments)), end="")
    return 0


def missing_for_ros() -> str:
    """Return the first package that `--ros` needs and this Python does not find; empty where all are there."""
    return next((name for name in ROS_PACKAGES if find_spec(name) is None), "")


def why_not_listening(error: OSError, host: str, port: int) -> str:
    """Say why an address cannot be listened on, and what to do."""
    reason = os_reason(error).partition(" (while")[0]  # Python adds the address
    hint = HINTS.get(error.errno or 0, "--host takes an address of this machine")
    return f"cannot listen on {host} port {port}: {reason}; {hint}"


def serve(settings: BridgeSettings) -> int:
    """Listen, and keep the workers running until a signal comes."""
    configure_logging(settings.log_level)
    KeyRing(settings)  # refuses a bad key file before anything is started,
    models_to_preload(settings)  # and models that do not exist,
    if settings.checkpoint is not None and settings.checkpoint != UNTRAINED:
        given_checkpoint(settings.checkpoint)  # or a file that does not
    host = settings.listen_host
    if settings.ros and (missing := missing_for_ros()):
        print(f"depth_anything_bridge: --ros needs {missing}: {GET_ROS}", file=sys.stderr)
        return CANNOT_USE_ROS
    settings = settings.model_copy(update={"session_secret": settings.session_secret or SecretStr(token_urlsafe(32))})
    try:
        listener = open_listener(host, settings.port)
    except OSError as error:
        raise SystemExit(f"depth_anything_bridge: {why_not_listening(error, host, settings.port)}") from None
    logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, listener.getsockname()[1])
    for warning in settings.warnings:
        logger.warning(warning)
    if settings.host is None and not settings.has_keys:
        logger.info("this machine alone can connect; set a key (make-key, --api-keys-file) or --host to open it")
    return Supervisor(settings, listener).run()
