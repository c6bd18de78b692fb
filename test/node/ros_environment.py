"""What has to be set before rclpy is imported. Imported first by the conftest of every folder that tests on ROS."""

from __future__ import annotations

import importlib
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

# For child processes too: talk to nobody but this test run.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["RCUTILS_COLORIZED_OUTPUT"] = "0"
# As the launch file does: with the default profile large messages go over UDP, and some of them nowhere.
PROFILE = Path(__file__).parents[2] / "config" / "fastdds.xml"

HAS_ROS = find_spec("rclpy") is not None  # else without the extra [ros], and without a ROS installation
if HAS_ROS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its parser library, about a module of Python's
        importlib.import_module("rosidl_generator_py")

    from depth_anything_ros.node.distributions import fast_dds_variable

    os.environ[fast_dds_variable(os.environ)] = str(PROFILE)
