"""Does the node stay as it is? `python -m soak --minutes 60`, or `make soak`: hours of frames and disturbances."""
