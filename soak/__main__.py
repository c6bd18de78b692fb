"""The node and the bridge, disturbed all the time, side by side: `python -m soak --minutes 60`.

Each prints a line of JSON. The exit status is 0 if both stayed as they were; docs/reliability.md says what that means.
"""

from __future__ import annotations

import subprocess
import sys

from soak.command import parser

SOAKS = ("node", "bridge")


def main() -> int:
    """Run both and return the exit status."""
    arguments = parser("soak", __doc__).parse_args()
    options = [f"--minutes={arguments.minutes}", f"--seed={arguments.seed}"]
    running = [subprocess.Popen([sys.executable, "-m", f"soak.{name}", *options]) for name in SOAKS]
    return max(process.wait() for process in running)


sys.exit(main())
