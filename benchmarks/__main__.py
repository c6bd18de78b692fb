"""`python -m benchmarks [NAME ...] [OPTIONS]`: run the named benchmarks, or all, each with the options."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sys

import benchmarks
from depth_anything_ros.runtime.allocator import keep_freed_memory

KNOWN = sorted(info.name for info in pkgutil.iter_modules(benchmarks.__path__) if not info.name.startswith("_"))


def main(argv: list[str]) -> int:
    """Names come first, everything from the first option on goes to the benchmarks."""
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), argv))
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; known: {', '.join(KNOWN)}", file=sys.stderr)
        return 2
    keep_freed_memory()  # as the node and the bridge do
    for name in names or KNOWN:
        importlib.import_module(f"benchmarks.{name}").main(argv[len(names) :])
    return 0


sys.exit(main(sys.argv[1:]))
