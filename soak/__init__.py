"""Does the node stay as it is? `python -m soak --minutes 60`, or `make soak`: hours of frames and disturbances."""

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch
