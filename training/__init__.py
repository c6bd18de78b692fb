"""How the demonstration model was made: `python -m training --out FOLDER` repeats it."""

from depth_anything_ros.runtime.threads import let_waiting_threads_sleep

let_waiting_threads_sleep()  # before a module of this program imports torch
