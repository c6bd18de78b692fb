"""Soak test: does the node stay fast and small over hours of frames and disturbances? `python -m soak --minutes 60`."""

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch
