"""`python -m bridge` starts what `depth_anything_bridge` starts: `bridge.server.command`."""

from __future__ import annotations

import sys

from depth_anything_ros.runtime.programs import depth_anything_bridge

if __name__ == "__main__":
    sys.exit(depth_anything_bridge())
