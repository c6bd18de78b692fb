"""`python -m demo` runs `demo.command`."""

from __future__ import annotations

import sys

from depth_anything_ros.runtime.programs import Program, start

if __name__ == "__main__":
    sys.exit(start(Program("demo", "demo.command", "core,ros,bridge")))
