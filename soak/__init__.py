"""A long run of the node under disturbance: `python -m soak --minutes 60`, or `make soak`."""

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch
