"""`python -m demo`: a camera in, depth and point clouds out, through the real node, real ROS 2 and the real bridge.

A camera process publishes rendered rooms (`depth_anything_ros.node.synthetic_camera`) or photographs
(`demo.camera`), `depth_anything_ros.node` works on them, and `__main__` starts both, records what comes
out, asks a bridge for one of the same pictures, and writes everything down.
"""

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch

NAMESPACE = "/demo"
