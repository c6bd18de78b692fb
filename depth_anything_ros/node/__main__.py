"""`python -m depth_anything_ros.node`: the program `depth_anything_node`."""

import sys

from depth_anything_ros.runtime.programs import depth_anything_node

if __name__ == "__main__":
    sys.exit(depth_anything_node())
